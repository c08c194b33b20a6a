"""Intervals hold the truth as often as they say: by counting every outcome, or by simulation with known truth."""

import math
from functools import cache

import numpy as np
import pytest
from scipy import stats

from llmlab.analysis import bootstrap_interval, clopper_pearson, compare, wilson
from llmlab.analysis.stats import percentile_ranks
from tests.analysis.swept import calls_of

RATES = np.linspace(0.001, 0.999, 200)


@cache
def coverages(interval, n):
    """Return how often the interval of n trials holds the true rate, for each of RATES: exactly, over all outcomes."""
    ends = interval(np.arange(n + 1), n)
    held = (ends.low[:, None] <= RATES) & (ends.high[:, None] >= RATES)
    return (stats.binom.pmf(np.arange(n + 1)[:, None], n, RATES) * held).sum(axis=0)


@pytest.mark.parametrize("n", [5, 30, 200, 1000])
def test_clopper_pearson_holds_every_rate_at_least_as_often_as_it_says(n):
    assert coverages(clopper_pearson, n).min() >= 0.95


@pytest.mark.parametrize("n", [5, 30, 200, 1000])
def test_wilson_does_so_on_average_over_rates(n):
    assert coverages(wilson, n).mean() == pytest.approx(0.95, abs=0.01)
    assert coverages(wilson, n).min() < 0.95  # and not for every rate, which is why there is the other


def test_the_exact_interval_holds_in_a_simulation_too():
    successes = np.random.default_rng(0).binomial(200, 0.97, size=20_000)
    ends = clopper_pearson(successes, 200)
    assert ((ends.low <= 0.97) & (ends.high >= 0.97)).mean() >= 0.95


@pytest.mark.parametrize(("n", "q"), [(20, 0.5), (100, 0.9), (400, 0.95), (400, 0.99)])
def test_order_statistics_hold_the_percentile_at_least_as_often_as_they_say(n, q):
    low, high = (int(rank) for rank in percentile_ranks(n, q))
    # Uniform values: the truth is q itself, and for any other continuous distribution the ranks are the same.
    samples = np.sort(np.random.default_rng(n).random((4000, n)), axis=1)
    held = (samples[:, low] <= q) & (q <= samples[:, high])
    assert held.mean() >= 0.95 - 2 * math.sqrt(0.95 * 0.05 / 4000)
    exactly = stats.binom.cdf(high, n, q) - stats.binom.cdf(low, n, q)
    assert exactly >= 0.95


def exponential(random, labels):
    return random.exponential(size=len(labels))


def dependent(random, labels):
    """A fifth of the variance is common to a cluster."""
    return random.normal(size=len(labels)) + 0.5 * random.normal(size=labels.max() + 1)[labels]


@pytest.mark.parametrize(
    ("values", "statistic", "truth", "size"),
    [
        (exponential, "mean", 1.0, 5),
        (dependent, "mean", 0.0, 10),
        (dependent, 0.5, 0.0, 10),
        (exponential, 0.95, -math.log(0.05), 20),
    ],
)
def test_a_bootstrap_of_fifty_clusters_holds_the_truth_within_two_points(values, statistic, truth, size):
    labels, repetitions = np.repeat(np.arange(50), size), 500
    resamples = 999 if statistic == "mean" else 199  # the accelerated interval needs more of them
    held = 0
    for seed in range(repetitions):
        sample = values(np.random.default_rng(10_000 + seed), labels)
        interval = bootstrap_interval(sample, statistic, labels=labels, resamples=resamples, seed=seed)
        held += interval.low <= truth <= interval.high
    assert held / repetitions == pytest.approx(0.95, abs=0.02)


def test_a_bootstrap_that_takes_dependent_calls_as_independent_does_not():
    labels, held = np.repeat(np.arange(10), 20), 0
    for seed in range(100):
        interval = bootstrap_interval(dependent(np.random.default_rng(seed), labels), resamples=99, seed=seed)
        held += interval.low <= 0.0 <= interval.high
    assert held < 80


def test_paired_differences_hold_the_truth():
    held = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        a = calls_of(600, random=random, replicate=0)
        b = a.assign(latency_s=a["latency_s"] + random.exponential(0.2, 600))
        result = compare(a, b)
        held += result.low <= 0.2 <= result.high
    assert held / 100 >= 0.92
