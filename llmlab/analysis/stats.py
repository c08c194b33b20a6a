"""Intervals: how far a rate or a percentile that was measured may be from the true one.

The arithmetic is scipy's; here stand the vectorised forms that tables and charts need, and the refusals where a sample
is too small to say anything. All intervals take the values as independent. Calls of one run are not quite (an outage
hits its neighbours too), so under bursts of failures the true uncertainty is larger than these intervals say; look
next at `estimates.py`, whose intervals allow for that.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from llmlab.analysis import quantiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray


class Interval(NamedTuple):
    """The lower and upper ends of intervals, as arrays of one shape; NaN where there is no interval."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]


class PercentileInterval(NamedTuple):
    """A percentile with its interval, all in the unit of the values.

    An end is NaN where the sample is too small to bound the percentile on that side; `note` then says how many values
    it takes, and is empty otherwise.
    """

    estimate: float
    low: float
    high: float
    note: str


def wilson(successes: ArrayLike, n: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return Wilson's score interval for rates: `successes` out of `n`, each a number or an array (they broadcast).

    It stays within 0 to 1 and is honest at 0 of n, where the textbook interval has no width. NaN where n is 0.
    The same as `scipy.stats.binomtest(...).proportion_ci(method="wilson")`, for many at once. Source: E. B. Wilson,
    "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).

    Raises:
        ValueError: a count is negative or not whole, there are more successes than trials, or the confidence is not
            between 0 and 1.
    """
    check_confidence(confidence)
    counts = np.broadcast_arrays(np.asarray(successes), np.asarray(n))
    k, total = (one.astype(np.int64) for one in counts)
    if (k != counts[0]).any() or (total != counts[1]).any() or (k < 0).any() or (k > total).any():
        raise ValueError(f"successes and n must be counts with 0 <= successes <= n, got {successes!r} of {n!r}")
    z = quantiles.normal((1 - confidence) / 2)
    with np.errstate(invalid="ignore", divide="ignore"):  # no calls have no rate
        rate = k / total
        center = (k + z**2 / 2) / (total + z**2)
        half = z / (total + z**2) * np.sqrt(total * rate * (1 - rate) + z**2 / 4)
    # The ends are exact there, and the formula's own are off by rounding.
    low, high = np.where(k == 0, 0.0, center - half), np.where(k == total, 1.0, center + half)
    return Interval(np.where(total > 0, low, np.nan), np.where(total > 0, high, np.nan))


def clopper_pearson(successes: ArrayLike, n: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the exact interval for rates: it holds the true rate at the given confidence or more, whatever that is.

    That makes it wider than Wilson's, and right for a promise ("at least 99%"). Counts need not be whole: an effective
    sample size is not. NaN where n is 0. Sources: C. J. Clopper and E. S. Pearson, Biometrika 26 (1934); as quantiles
    of the beta distribution: Brown, Cai and DasGupta, "Interval estimation for a binomial proportion", Statistical
    Science 16 (2001), section 4.2.1; the same ends as `scipy.stats.binomtest(...).proportion_ci(method="exact")`.

    Raises:
        ValueError: there are more successes than trials or fewer than none, or the confidence is not between 0 and 1.
    """
    check_confidence(confidence)
    k, total = np.broadcast_arrays(np.asarray(successes, dtype=np.float64), np.asarray(n, dtype=np.float64))
    if not ((k >= 0) & (k <= total)).all():
        raise ValueError(f"successes and n must be counts with 0 <= successes <= n, got {successes!r} of {n!r}")
    tail = (1 - confidence) / 2
    low = np.where(k > 0, quantiles.beta(tail, k, total - k + 1)[0], 0.0)
    high = np.where(k < total, quantiles.beta(tail, k + 1, total - k)[1], 1.0)
    return Interval(np.where(total > 0, low, np.nan), np.where(total > 0, high, np.nan))


def percentile_interval(values: ArrayLike, q: float, confidence: float = 0.95) -> PercentileInterval:
    """Return the `q`-th quantile of the values (0.95 for p95) between the two order statistics that enclose it.

    The interval assumes nothing about the distribution and holds the true percentile at the given confidence or more.
    The estimate interpolates linearly, as `numpy.quantile` does. Source: W. J. Conover, "Practical Nonparametric
    Statistics" (3rd ed., 1999), section 3.2; the same ends as `scipy.stats.quantile_test(...).confidence_interval()`.

    Raises:
        ValueError: a value is NaN, `q` is not strictly between 0 and 1, or the confidence is not.
    """
    return percentile_intervals(values, [q], confidence)[0]


def percentile_intervals(values: ArrayLike, qs: Sequence[float], confidence: float = 0.95) -> list[PercentileInterval]:
    """Return `percentile_interval` for several quantiles of the same values, which are sorted once."""
    check_confidence(confidence)
    _check_quantiles(qs)
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    if ordered.size == 0:
        return [PercentileInterval(math.nan, math.nan, math.nan, "no values") for _ in qs]
    if math.isnan(ordered[-1]):  # NaN sorts last
        raise ValueError("the values hold NaN; leave out the rows that have no value, and say so")
    estimates = np.quantile(ordered, qs)
    lows, highs = percentile_ranks(ordered.size, qs, confidence)
    low_ends = np.where(lows >= 0, ordered[np.maximum(lows, 0)], np.nan)
    high_ends = np.where(highs < ordered.size, ordered[np.minimum(highs, ordered.size - 1)], np.nan)
    return [
        PercentileInterval(float(estimate), float(low), float(high), _note(q, confidence, ordered.size, low + high))
        for q, estimate, low, high in zip(qs, estimates, low_ends, high_ends, strict=True)
    ]


def percentile_ranks(size: int, q: ArrayLike, confidence: float = 0.95) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the ranks, from 0, of the two order statistics that enclose each percentile of a sample of this size.

    -1 and the size are no ranks: the sample is then too small to bound the percentile on that side.
    """
    tail, wanted = (1 - confidence) / 2, np.asarray(q, dtype=np.float64)
    below, above = quantiles.binomial(tail, size, wanted)
    return below - 1, above


def values_needed(q: float, confidence: float = 0.95) -> int:
    """Return the smallest sample that bounds the `q`-th quantile on both sides (368 for p99 at 95%).

    Raises:
        ValueError: the quantile or the confidence is not strictly between 0 and 1.
    """
    check_confidence(confidence)
    _check_quantiles([q])
    return math.ceil(math.log((1 - confidence) / 2) / math.log(max(q, 1 - q)))


def _note(q: float, confidence: float, size: int, ends: float) -> str:
    if not math.isnan(ends):
        return ""
    needed = values_needed(q, confidence)
    return f"too few values: p{100 * q:g} at {confidence:.0%} confidence needs {needed}, there are {size}"


def check_confidence(confidence: float) -> None:
    """Refuse what is no confidence.

    Raises:
        ValueError: it is not strictly between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie strictly between 0 and 1 (0.95 is usual), got {confidence}")


def _check_quantiles(qs: Sequence[float]) -> None:
    refused = [q for q in qs if not 0 < q < 1]
    if refused:
        raise ValueError(f"a quantile must lie strictly between 0 and 1 (0.95 for p95), got {refused}")
