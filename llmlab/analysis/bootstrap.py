"""The bootstrap for whatever has no interval of its own, resampling whole clusters of calls.

Calls of one run depend on each other, so runs (or long pieces of them, `clusters.py`) are drawn, not calls. It is an
approximation that needs enough clusters. From 50 on (for a p95: with 20 calls or more in each) a 95% interval holds the
truth within two points of as often as it says, as tests/analysis/test_coverage.py shows; with fewer it is too narrow,
and below 10 it is refused.
Sources: B. Efron and R. Tibshirani, "An Introduction to the Bootstrap" (1993); clusters: A. C. Davison and D. V.
Hinkley, "Bootstrap Methods and their Application" (1997), section 3.8. The resampling and the intervals are scipy's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from llmlab.analysis import quantiles
from llmlab.analysis.clusters import cluster_sums
from llmlab.analysis.stats import check_confidence

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Statistic = Callable[[Any], float] | float | str
"""What is computed of values: `"mean"`, a quantile (0.95 for p95), or a function of an array that returns a number."""

OfClusters = Callable[[Any], Any]
"""Computes a statistic of many resamples: from how often each cluster was drawn, a row each, to a value each."""

FEWEST_CLUSTERS = 10
"""With fewer clusters than that a bootstrap says nothing."""

ENOUGH_CLUSTERS = 50
"""From that many clusters on an interval holds what it promises."""

MOST_CLUSTERS = 200
"""More are merged, neighbours with each other: they make an interval no better, and take time and memory."""


class BootstrapInterval(NamedTuple):
    """A number with the ends of its interval; NaN and a note where there are too few clusters for one."""

    estimate: float
    low: float
    high: float
    note: str


def bootstrap_interval(
    values: ArrayLike,
    statistic: Statistic = "mean",
    *,
    labels: ArrayLike | None = None,
    confidence: float = 0.95,
    resamples: int = 999,
    seed: int = 0,
) -> BootstrapInterval:
    """Return a statistic of the values with its bootstrap interval; the same seed gives the same interval.

        bootstrap_interval(calls["latency_s"], 0.95, labels=calls["replicate"])

    Args:
        values: numbers, one a call.
        statistic: `"mean"`, a quantile, or a function of an array.
        labels: the cluster of each value; `None` takes values as independent.
        confidence: of the interval.
        resamples: how often to resample.
        seed: of the resampling.

    Raises:
        ValueError: the statistic is none of these, a value is NaN, labels and values differ in length, the confidence
            is not strictly between 0 and 1, or there are no resamples.
    """
    check_confidence(confidence)
    if resamples < 1:
        raise ValueError(f"resamples must be 1 or more, got {resamples}; 999 serve well")
    sample = np.asarray(values, dtype=np.float64)
    if np.isnan(sample).any():
        raise ValueError("the values hold NaN; leave out the rows that have no value, and say so")
    clusters = np.arange(len(sample)) if labels is None else np.unique(np.asarray(labels), return_inverse=True)[1]
    if len(clusters) != len(sample):
        raise ValueError(f"there must be a label for each value; got {len(clusters)} for {len(sample)} values")
    count = int(clusters.max(initial=-1)) + 1
    if count > MOST_CLUSTERS:
        clusters, count = clusters * MOST_CLUSTERS // count, MOST_CLUSTERS
    return of_clusters(
        evaluator(sample, clusters, statistic),
        count,
        confidence=confidence,
        resamples=resamples,
        seed=seed,
        smooth=not isinstance(statistic, float),
    )


def of_clusters(
    evaluate: OfClusters, count: int, *, confidence: float, resamples: int, seed: int, smooth: bool
) -> BootstrapInterval:
    """Return the bootstrap interval of what `evaluate` computes from how often each of `count` clusters was drawn.

    A smooth statistic (a mean) gets the bias-corrected and accelerated interval. A quantile gets the percentile
    interval: the jackknife, which the other needs, fails for it.
    """
    from scipy import stats  # noqa: PLC0415 - late, as `quantiles.py` says

    if count == 0:
        return BootstrapInterval(math.nan, math.nan, math.nan, "no values")
    value = float(evaluate(np.ones((1, count)))[0])
    if count < FEWEST_CLUSTERS:
        note = f"too few clusters: a bootstrap needs {FEWEST_CLUSTERS}, better {ENOUGH_CLUSTERS}, there are {count}"
        return BootstrapInterval(value, math.nan, math.nan, note)

    def statistic(drawn: NDArray[Any], axis: int) -> Any:
        del axis  # always the last
        rows = drawn.reshape(-1, drawn.shape[-1]).astype(np.int64)
        cells = rows + count * np.arange(len(rows))[:, None]
        counts = np.bincount(cells.reshape(-1), minlength=count * len(rows)).reshape(len(rows), count)
        return evaluate(counts.astype(np.float64)).reshape(drawn.shape[:-1])

    without_one = evaluate(1.0 - np.eye(count)) if smooth else np.zeros(1)
    found: Any = stats.bootstrap(
        (np.arange(count),),
        statistic,
        n_resamples=resamples,
        vectorized=True,
        confidence_level=_expanded(confidence, count),
        method="BCa" if np.ptp(without_one) > 0 else "percentile",
        rng=np.random.default_rng(seed),
    )
    interval = found.confidence_interval
    return BootstrapInterval(value, float(interval.low), float(interval.high), "")


def _expanded(confidence: float, count: int) -> float:
    """Return the nominal confidence that makes up for a bootstrap of few clusters being too narrow.

    Source: T. Hesterberg, "What teachers should know about the bootstrap", The American Statistician 69 (2015), the
    expanded percentile interval.
    """
    reach = math.sqrt(count / (count - 1)) * float(quantiles.students_t((1 - confidence) / 2, count - 1))
    return 1 - 2 * quantiles.normal_tail(reach)


def evaluator(values: NDArray[np.float64], clusters: NDArray[np.int64], statistic: Statistic) -> OfClusters:
    """Return what computes the statistic of clustered values (clusters numbered from 0) for many resamples at once.

    Raises:
        ValueError: the statistic is none that there is.
    """
    if statistic == "mean":
        sums, sizes = cluster_sums(values, clusters)
        return lambda counts: (counts @ sums) / (counts @ sizes)
    if isinstance(statistic, float) and 0 < statistic < 1:
        return _quantile_evaluator(values, clusters, statistic)
    if callable(statistic):
        computed = statistic
        return lambda counts: np.array([computed(np.repeat(values, row[clusters].astype(int))) for row in counts])
    raise ValueError(
        "statistic must be 'mean', a quantile strictly between 0 and 1 (0.95 for p95), or a function; "
        f"got {statistic!r}"
    )


def _quantile_evaluator(values: NDArray[np.float64], clusters: NDArray[np.int64], q: float) -> OfClusters:
    """Return what finds, by bisection over the ordered values, where each resample has passed its share q.

    How many values of a cluster lie up to a place is found by bisection too, so a million values take little memory.
    """
    order = np.argsort(values, kind="stable")
    ordered, n = values[order], len(values)
    # Cluster after cluster, the places of its values among all: places of cluster c lie between c*n and (c+1)*n.
    places = np.sort(clusters[order] * n + np.arange(n))
    sizes = np.bincount(clusters)
    before, offsets = np.cumsum(sizes) - sizes, n * np.arange(len(sizes))

    def of_resamples(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        wanted = q * (counts @ sizes)
        low, high = np.zeros(len(counts), dtype=np.int64), np.full(len(counts), n - 1)
        while (low < high).any():
            middle = (low + high) // 2
            passed = np.searchsorted(places, offsets + middle[:, None], side="right") - before
            enough = (counts * passed).sum(axis=1) >= wanted
            low, high = np.where(enough, low, middle + 1), np.where(enough, middle, high)
        return np.asarray(ordered[low], dtype=np.float64)

    return of_resamples
