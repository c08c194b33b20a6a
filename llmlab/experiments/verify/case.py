"""A known answer, and how it is checked: expected against measured, within the sampling error.

A case runs the real client in simulation, in several independent replicates, and gives for each of its quantities the
value that theory, published work or a real client's source says, computed and never copied. What is drawn by chance is
compared by the mean over replicates; its tolerance is the half-width of Student's t interval at `CONFIDENCE`, so it
comes from the replicates and not from a hand. What is not drawn by chance must be exact.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CONFIDENCE = 0.9999
"""Each check's confidence: with a hundred checks a sound simulator misses one in a hundred runs of all."""

EXACT = 1e-9
"""The relative tolerance of what must be exact: rounding."""


class Check(NamedTuple):
    """One quantity of a case: what was expected, what was measured, and how far apart they may be."""

    case: str
    quantity: str
    expected: float
    measured: float
    tolerance: float
    source: str

    @property
    def holds(self) -> bool:
        """Whether the measured value lies within the tolerance of the expected one."""
        return math.isfinite(self.measured) and abs(self.measured - self.expected) <= self.tolerance


class Case(NamedTuple):
    """A known answer: its name, where it comes from, and what checks it.

    `run(size)` makes the checks; `size` scales the calls of each run, 1.0 for the full proof and less for quick tests.
    """

    name: str
    source: str
    run: Callable[[float], list[Check]]


def exactly(case: str, quantity: str, expected: float, measured: float, source: str) -> Check:
    """Check a quantity that chance has no part in."""
    return Check(case, quantity, expected, measured, EXACT * max(1.0, abs(expected)), source)


def on_average(
    case: str, quantity: str, expected: float, replicates: Sequence[float], source: str, published_error: float = 0.0
) -> Check:
    """Check the mean of independent replicates against its expectation.

    Args: case: the case's name. quantity: what is compared. expected: what theory says; or what somebody measured,
        with `published_error` as the half-width of its 95% interval. replicates: one measured value for each
        replicate. source: where the expected value comes from. published_error: 0 for theory.

    Raises:
        ValueError: there are fewer than three replicates, from which no error can be told.
    """
    if len(replicates) < 3:
        raise ValueError(f"{case}, {quantity}: the error of a mean wants 3 replicates or more, got {len(replicates)}")
    values = np.asarray(replicates, dtype=float)
    error = float(stats.sem(values))
    theirs = published_error / float(stats.norm.ppf(0.975))
    spread = float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1)) * math.hypot(error, theirs)
    return Check(case, quantity, expected, float(values.mean()), max(spread, EXACT * max(1.0, abs(expected))), source)


def between(case: str, quantity: str, low: float, high: float, measured: float, source: str) -> Check:
    """Check a quantity that theory bounds from both sides."""
    return Check(case, quantity, (low + high) / 2, measured, (high - low) / 2, source)
