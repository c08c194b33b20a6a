"""One number of one setting with its interval, allowing for calls that depend on each other: rate, percentile, mean.

`stats.py` takes calls as independent. Here they come with clusters (`clusters.py`), and a sample counts for as many
calls as it is worth. `calls_needed` turns the question round: how many calls would tell?
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from llmlab.analysis.clusters import cluster_sums, effective_size
from llmlab.analysis.quantiles import students_t
from llmlab.analysis.stats import clopper_pearson, percentile_ranks
from llmlab.core.display import grid

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_MOST = 10**9
"""More calls than that are as good as never."""


class Estimate(NamedTuple):
    """A number, the ends of its interval (NaN where the sample is too small for one), and what it stands on.

    `worth` is how many independent calls say as much as the `calls` it was taken over.
    """

    value: float
    low: float
    high: float
    calls: int
    worth: float

    def _repr_html_(self) -> str:
        return grid("Estimate", self._fields, [self])


def rate_estimate(hits: NDArray[Any], labels: NDArray[np.int64], confidence: float) -> Estimate:
    """Return the share of hits with its exact interval, at the sample's effective size (Korn and Graubard, 1998)."""
    n = len(hits)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0, 0.0)
    share, worth = float(np.mean(hits)), effective_size(hits, labels, confidence)
    interval = clopper_pearson(share * worth, worth, confidence)
    return Estimate(share, float(interval.low), float(interval.high), n, worth)


def percentile_estimate(values: NDArray[Any], q: float, labels: NDArray[np.int64], confidence: float) -> Estimate:
    """Return the `q`-th quantile between two order statistics, at the sample's effective size.

    Of independent values they are those of `stats.percentile_interval`. Source: R. S. Woodruff, "Confidence intervals
    for medians and other position measures", JASA 47 (1952).
    """
    n = len(values)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0, 0.0)
    ordered, estimate = np.sort(values), float(np.quantile(values, q))
    # Where many values are equal (a timeout), one of the two indicators may be the same for all, and so say nothing.
    worth = min(effective_size(mask, labels, confidence) for mask in (values <= estimate, values < estimate))
    low_rank, high_rank = (int(rank) for rank in percentile_ranks(int(worth), q, confidence))
    scale = n / int(worth)
    low = float(ordered[math.floor(low_rank * scale)]) if low_rank >= 0 else math.nan
    high = float(ordered[min(n - 1, math.ceil(high_rank * scale))]) if high_rank < int(worth) else math.nan
    return Estimate(estimate, low, high, n, worth)


def mean_estimate(values: NDArray[Any], labels: NDArray[np.int64], confidence: float) -> Estimate:
    """Return the mean with Student's interval over the clusters' means; NaN ends where there are fewer than two."""
    n = len(values)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0, 0.0)
    sums, sizes = cluster_sums(values, labels)
    mean, count = float(np.mean(values)), len(sizes)
    if count < 2:
        return Estimate(mean, math.nan, math.nan, n, 1.0)
    error = math.sqrt(count / (count - 1) * float(np.sum((sums - sizes * mean) ** 2))) / n
    half = float(students_t((1 - confidence) / 2, count - 1)) * error
    return Estimate(mean, mean - half, mean + half, n, effective_size(values, labels, confidence))


def attempts_estimate(attempts: NDArray[Any], labels: NDArray[np.int64], confidence: float) -> Estimate:
    """Return the mean of attempts per call, whose upper end allows for retries that are too rare to have been seen.

    Student's interval has no width where no call was retried, and is too narrow where few were. So it reaches at least
    as far as the exact interval of the share of calls that made more attempts than the least, each with as many more as
    these made on average (one, where none did).
    """
    estimate = mean_estimate(attempts, labels, confidence)
    if not estimate.calls:
        return estimate
    least = float(np.min(attempts))
    more = attempts > least
    further = float(np.mean(attempts[more] - least)) if more.any() else 1.0
    reach = least + further * rate_estimate(more, labels, confidence).high
    return estimate._replace(high=max(estimate.high, reach))  # NaN first: it stays


def calls_needed_for_rate(share: float, target: float, estimate: Estimate, confidence: float) -> float:
    """Return how many more calls would put a rate's interval on one side of the target, if the rate stays the same.

    Args:
        share: the share of hits so far; of a percentile's, the share of values within the target.
        target: the rate to be told apart from; of a percentile's, its quantile.
        estimate: what was measured, for its calls and their worth.
        confidence: of the interval.

    Returns:
        The further calls; infinite where the rate is so near to the target that no number tells.
    """

    def tells(worth: int) -> bool:
        interval = clopper_pearson(math.floor(share * worth) if share > target else share * worth, worth, confidence)
        return bool(interval.low >= target if share > target else interval.high < target)

    if share == target:
        return math.inf
    needed = _smallest(tells, max(1, int(estimate.worth)))
    return math.inf if needed is None else _further(needed * estimate.calls / estimate.worth, estimate)


def calls_needed_for_mean(target: float, estimate: Estimate) -> float:
    """Return how many more calls would put a mean's interval on one side of the target, if the mean stays the same."""
    gap = abs(estimate.value - target)
    half = estimate.high - estimate.value if estimate.value < target else estimate.value - estimate.low
    if gap == 0.0 or math.isnan(half):
        return math.inf
    if estimate.low == estimate.value and max(half, gap) < 1:  # no value differs: the bound is that of a rate of 0
        return _further(estimate.calls * math.log1p(-half) / math.log1p(-gap), estimate)
    return _further(estimate.calls * (half / gap) ** 2, estimate)


def _further(needed: float, estimate: Estimate) -> float:
    return max(1.0, math.ceil(needed) - estimate.calls) if needed < _MOST else math.inf


def _smallest(tells: Callable[[int], bool], start: int) -> int | None:
    """Return the smallest number from `start` on that tells; `None` where none below a thousand million does."""
    low, high = start, start
    while not tells(high):
        low, high = high, 2 * high
        if high > _MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if tells(middle) else (middle, high)
    return high
