"""When enough is enough: how many replicates a point gets, decided by how well its metric is known.

Replicates are added in rounds. Whether there is another one depends on the point's own runs of the rounds before, and
on nothing else: not on the executor, not on the other points, not on time. So the same sweep makes the same runs.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, NamedTuple

import numpy as np
from pydantic import AfterValidator, Field

from llmlab.analysis.quantiles import students_t
from llmlab.analysis.stats import wilson
from llmlab.analysis.summaries import SUMMARY_COLUMNS
from llmlab.core.settings import Settings, nearest
from llmlab.experiments.sweep_result import SweepResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmlab.experiments.runs import Run
    from llmlab.experiments.store.store import Store

METRICS = tuple(column.name for column in SUMMARY_COLUMNS if column.kind == "float")
"""What precision can be asked of: the columns of a result's `summary()` that calls alone can tell."""


def _known(metric: str) -> str:
    if metric not in METRICS:
        raise ValueError(f"'{metric}' is no metric; {nearest(metric, METRICS)}")
    return metric


class Precision(Settings):
    """Add replicates to a point until a metric's confidence interval reaches no further than this to either side.

        Sweep(base, grid, until=Precision(metric="failure_rate", half_width=0.01))

    The interval is Student's t over the replicates' values, since calls of one run are not independent; for a rate it
    is not taken as narrower than Wilson's over all calls, which is honest where every run had the same rate. Intervals
    that decide when to stop are a little too narrow when they rest on few replicates (Y. S. Chow and H. Robbins, "On
    the asymptotic theory of fixed-width sequential confidence intervals", 1965): hence `min_replicates`. What is
    the very same in all of them (a p95 that is the deadline) has an interval without a width, and gets no more, unless
    it is a rate.
    """

    metric: Annotated[str, AfterValidator(_known)] = "failure_rate"
    """A column of `summary()`, taken of each run."""
    half_width: float = Field(gt=0)
    """Half the interval's width, in the metric's unit: 0.01 of a rate is one percentage point."""
    min_replicates: int = Field(default=5, ge=2)
    """Replicates of every point, before anything is decided."""
    max_replicates: int = Field(default=50, ge=2)
    """The most replicates of a point, whatever is known by then."""
    confidence: float = Field(default=0.95, gt=0, lt=1)

    def model_post_init(self, _context: object) -> None:
        """Refuse a most that is less than the least."""
        if self.max_replicates < self.min_replicates:
            raise ValueError(
                f"max_replicates must be min_replicates ({self.min_replicates}) or more, got {self.max_replicates}"
            )


class Measured(NamedTuple):
    """A run's value of the metric, and over how many calls it was taken."""

    value: float
    calls: int


def measured(run: Run, metric: str, store: Store | None = None) -> Measured:
    """Return a run's value of a metric, from its record or from the store that has it."""
    row = SweepResult([], [run], planned=1, store=store).summary().iloc[0]
    return Measured(float(row[metric]), int(row["calls"]))


def half_width(values: Sequence[Measured], precision: Precision) -> float:
    """Return half the width of the metric's confidence interval; NaN where a run has no value."""
    sample = np.array([one.value for one in values])
    count = len(sample)
    quantile = float(students_t((1 - precision.confidence) / 2, count - 1))
    half = quantile * float(sample.std(ddof=1)) / math.sqrt(count)
    if not precision.metric.endswith("_rate") or math.isnan(half):
        return half
    calls = sum(one.calls for one in values)
    low, high = wilson(round(sum(one.value * one.calls for one in values)), calls, precision.confidence)
    return max(half, float(high - low) / 2)


def replicates_wanted(values: Sequence[Measured], precision: Precision) -> int:
    """Return how many replicates a point is to have in all, given those of the rounds so far; as many, if enough.

    The width falls with the square root of their number, which says how many it may take; a round at most doubles
    them, since a width from a few replicates says little.
    """
    count = len(values)
    half = half_width(values, precision)
    if half <= precision.half_width:
        return count
    needed = 2 * count if math.isnan(half) else math.ceil(count * (half / precision.half_width) ** 2)
    return min(max(needed, count + 1), 2 * count, precision.max_replicates)
