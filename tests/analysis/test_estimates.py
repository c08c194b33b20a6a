import math

import numpy as np
import pytest

from llmlab.analysis import clopper_pearson, percentile_interval
from llmlab.analysis.estimates import (
    calls_needed_for_mean,
    calls_needed_for_rate,
    mean_estimate,
    percentile_estimate,
    rate_estimate,
)

EVERY_CALL = np.arange(400)  # a cluster of its own for each: independent


def storms(random, n=3000, pieces=30, storm=0.3):
    """Return clusters of calls, and whether each call failed: one cluster in ten is a storm in which most fail."""
    labels = np.repeat(np.arange(pieces), n // pieces)
    risk = np.where(random.random(pieces) < 0.1, storm, 0.01)
    return random.random(n) < risk[labels], labels


def test_a_rate_is_the_exact_interval_where_nothing_is_known_of_dependence():
    hits = np.ones(400, dtype=bool)
    estimate = rate_estimate(hits, np.zeros(400, dtype=int), 0.95)
    assert (estimate.value, estimate.calls, estimate.worth) == (1.0, 400, 400.0)
    assert (estimate.low, estimate.high) == (pytest.approx(clopper_pearson(400, 400).low), 1.0)


def test_a_percentile_is_the_order_statistic_interval_where_the_calls_count_in_full():
    values = np.random.default_rng(0).permutation(400.0 + EVERY_CALL)
    estimate = percentile_estimate(values, 0.9, np.zeros(400, dtype=int), 0.95)
    expected = percentile_interval(values, 0.9)
    assert estimate[:3] == (expected.estimate, expected.low, expected.high)


def test_a_percentile_has_no_upper_end_where_the_calls_are_worth_too_little():
    labels = np.repeat(np.arange(4), 100)
    estimate = percentile_estimate(np.repeat(np.arange(4.0), 100), 0.95, labels, 0.95)
    assert estimate.worth < 10
    assert math.isnan(estimate.high)


def test_failures_that_come_together_widen_the_interval():
    random = np.random.default_rng(0)
    hits, labels = storms(random)
    together, apart = rate_estimate(hits, labels, 0.95), rate_estimate(random.permutation(hits), labels, 0.95)
    assert together.worth < 0.3 * apart.worth
    assert together.high - together.low > 1.5 * (apart.high - apart.low)


def test_nothing_makes_no_estimate():
    nothing = np.empty(0)
    labels = np.empty(0, dtype=int)
    for estimate in (
        rate_estimate(nothing, labels, 0.95),
        percentile_estimate(nothing, 0.5, labels, 0.95),
        mean_estimate(nothing, labels, 0.95),
    ):
        assert np.isnan(estimate[:3]).all()
        assert estimate.calls == 0
    assert math.isnan(mean_estimate(np.ones(5), np.zeros(5, dtype=int), 0.95).low)


def coverage(estimate_of, truth, repetitions=400):
    estimates = [estimate_of(np.random.default_rng(seed)) for seed in range(repetitions)]
    return np.mean([estimate.low <= truth <= estimate.high for estimate in estimates])


def test_a_rate_of_storms_is_held_as_often_as_it_says():
    assert coverage(lambda random: rate_estimate(*storms(random), 0.95), 0.9 * 0.01 + 0.1 * 0.3) >= 0.93
    # Taking the calls as independent, it is not.
    naive = coverage(lambda random: rate_estimate(storms(random)[0], np.zeros(3000, dtype=int), 0.95), 0.039)
    assert naive < 0.8


def test_a_percentile_and_a_mean_of_clustered_values_are_held_as_often_as_they_say():
    def values(random):
        labels = np.repeat(np.arange(30), 50)
        return random.normal(size=1500) + 0.5 * random.normal(size=30)[labels], labels

    def percentile_of(sample, labels):
        return percentile_estimate(sample, 0.9, labels, 0.95)

    truth = math.sqrt(1.25) * 1.2815515655446004  # the 0.9 quantile of a normal distribution of variance 1.25
    assert coverage(lambda random: percentile_of(*values(random)), truth) >= 0.93
    assert coverage(lambda random: mean_estimate(*values(random), 0.95), 0.0) >= 0.93


def test_as_many_calls_as_it_says_would_tell_and_one_fewer_would_not():
    hits = np.arange(200) > 0  # 199 of 200
    estimate = rate_estimate(hits, np.zeros(200, dtype=int), 0.95)
    more = int(calls_needed_for_rate(0.995, 0.98, estimate, 0.95))
    total = 200 + more
    assert clopper_pearson(math.floor(0.995 * total), total).low >= 0.98
    assert clopper_pearson(math.floor(0.995 * (total - 1)), total - 1).low < 0.98


def test_without_a_failure_the_calls_needed_are_those_of_the_textbook():
    estimate = rate_estimate(np.ones(10, dtype=bool), np.zeros(10, dtype=int), 0.95)
    assert calls_needed_for_rate(1.0, 0.99, estimate, 0.95) == math.ceil(math.log(0.025) / math.log(0.99)) - 10


def test_clustered_calls_have_to_be_more():
    random = np.random.default_rng(3)
    hits, labels = storms(random)
    together, apart = rate_estimate(~hits, labels, 0.95), rate_estimate(~random.permutation(hits), labels, 0.95)
    needed = [calls_needed_for_rate(each.value, 0.965, each, 0.95) + each.calls for each in (together, apart)]
    assert needed[0] > 2 * needed[1]


def test_what_lies_on_the_limit_is_never_told():
    estimate = rate_estimate(np.arange(100) > 0, np.zeros(100, dtype=int), 0.95)
    assert math.isinf(calls_needed_for_rate(0.99, 0.99, estimate, 0.95))
    assert math.isinf(calls_needed_for_rate(0.99, 0.99 - 1e-9, estimate, 0.95))
    assert math.isinf(calls_needed_for_mean(1.0, mean_estimate(np.ones(10), np.arange(10), 0.95)))


def test_a_mean_needs_four_times_the_calls_for_half_the_gap():
    estimate = mean_estimate(np.random.default_rng(0).poisson(1.0, 400).astype(float), EVERY_CALL, 0.95)
    half = estimate.high - estimate.value
    near = calls_needed_for_mean(estimate.value + half / 2, estimate)
    assert near == pytest.approx(3 * 400, abs=2)
