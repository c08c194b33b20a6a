"""A known answer, and how it is checked: expected against measured, within the sampling error.

A case runs the real client in simulation, in several independent replicates, and gives for each of its quantities the
value that theory, published work or a real client's source says, computed and never copied. What is drawn by chance is
compared by the mean over replicates; its tolerance is the half-width of Student's t interval at `CONFIDENCE`, so it
comes from the replicates and not from a hand. What is not drawn by chance must be exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Sequence

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


class Checks:
    """The checks of one case, as they are made.

    Args:
        case: the case's name.
        source: where its expected values come from.
    """

    def __init__(self, case: str, source: str) -> None:
        self.case = case
        self.source = source
        self.made: list[Check] = []

    def within(self, quantity: str, expected: float, measured: float, tolerance: float) -> None:
        """Check a quantity whose tolerance is known."""
        self.made.append(Check(self.case, quantity, expected, float(measured), tolerance, self.source))

    def exactly(self, quantity: str, expected: float, measured: float) -> None:
        """Check a quantity that chance has no part in."""
        self.within(quantity, expected, measured, EXACT * max(1.0, abs(expected)))

    def between(self, quantity: str, low: float, high: float, measured: float) -> None:
        """Check a quantity that theory bounds from both sides."""
        self.within(quantity, (low + high) / 2, measured, (high - low) / 2)

    def on_average(
        self, quantity: str, expected: float, replicates: Sequence[float], published_error: float = 0.0
    ) -> None:
        """Check the mean of independent replicates against its expectation.

        Args:
            quantity: what is compared.
            expected: what theory says; or what somebody measured, with `published_error` as its 95% half-width.
            replicates: one measured value for each replicate.
            published_error: 0 for theory.

        Raises:
            ValueError: there are fewer than three replicates, from which no error can be told.
        """
        if len(replicates) < 3:
            raise ValueError(f"{self.case}, {quantity}: wants 3 replicates or more, got {len(replicates)}")
        values = np.asarray(replicates, dtype=float)
        theirs = published_error / float(stats.norm.ppf(0.975))
        error = math.hypot(float(stats.sem(values)), theirs)
        spread = float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1)) * error
        self.within(quantity, expected, float(values.mean()), max(spread, EXACT * max(1.0, abs(expected))))


Case = Callable[[float], list[Check]]
"""A known answer: called with a size, 1.0 for the full proof and less for quick tests, it makes its checks."""
