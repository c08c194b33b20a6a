from typing import Any

import numpy as np
import pytest
from scipy import stats

from llmlab.analysis.stats import clopper_pearson, percentile_interval, percentile_intervals, values_needed, wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"), [(0, 100, 0.0, 0.0370), (5, 100, 0.0215, 0.1118), (5, 1000, 0.0021, 0.0117)]
)
def test_wilson_gives_the_published_values(successes, n, low, high):
    interval = wilson(successes, n)
    assert interval.low == pytest.approx(low, abs=5e-5)
    assert interval.high == pytest.approx(high, abs=5e-5)


def test_wilson_broadcasts_and_keeps_the_shape():
    interval = wilson([[0, 5], [5, 100]], 100)
    assert interval.low.shape == interval.high.shape == (2, 2)
    assert interval.low[0, 1] == interval.low[1, 0] == wilson(5, 100).low
    assert wilson([], []).low.shape == (0,)


def test_wilson_has_no_interval_for_no_trials():
    interval = wilson([0, 1], [0, 2])
    assert np.isnan([interval.low[0], interval.high[0]]).all()
    assert np.isfinite([interval.low[1], interval.high[1]]).all()


def test_more_confidence_makes_a_wider_interval():
    assert wilson(5, 100, 0.99).high > wilson(5, 100, 0.95).high


@pytest.mark.parametrize(("successes", "n"), [(-1, 5), (6, 5), (1.5, 5)])
def test_wilson_refuses_what_is_no_count(successes, n):
    with pytest.raises(ValueError, match="0 <= successes <= n"):
        wilson(successes, n)


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_confidence_is_a_share(confidence):
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        wilson(1, 2, confidence)
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        values_needed(0.99, confidence)


@pytest.mark.parametrize("q", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("n", [3, 80, 1000])
def test_percentile_intervals_are_those_of_scipy(n, q):
    values = np.random.default_rng(n).exponential(size=n)
    interval = percentile_interval(values, q)
    expected: Any = stats.quantile_test(values, p=q).confidence_interval(0.95)
    assert interval.estimate == np.quantile(values, q)
    assert [interval.low, interval.high] == pytest.approx([expected.low, expected.high], nan_ok=True)


def test_a_percentile_interval_holds_the_truth_at_least_as_often_as_it_says():
    random = np.random.default_rng(1)
    truth = stats.expon.ppf(0.95)
    intervals = [percentile_interval(random.exponential(size=200), 0.95) for _ in range(1000)]
    assert sum(interval.low <= truth <= interval.high for interval in intervals) / 1000 >= 0.94


def test_a_sample_too_small_gets_no_end_and_a_note_that_says_how_many_it_takes():
    interval = percentile_interval(range(100), 0.99)
    assert np.isfinite(interval.low)
    assert np.isnan(interval.high)
    assert interval.note == "too few values: p99 at 95% confidence needs 368, there are 100"
    assert percentile_interval([], 0.5).note == "no values"


@pytest.mark.parametrize("q", [0.01, 0.5, 0.95, 0.99])
def test_the_values_needed_are_just_enough(q):
    needed = values_needed(q)
    assert percentile_interval(range(needed), q).note == ""
    assert percentile_interval(range(needed - 1), q).note != ""


def test_values_that_are_missing_are_refused_and_not_dropped():
    with pytest.raises(ValueError, match="hold NaN"):
        percentile_interval([1.0, np.nan], 0.5)


def test_several_percentiles_of_one_sample_equal_one_at_a_time():
    values = np.arange(500.0)
    assert percentile_intervals(values, [0.5, 0.9]) == [percentile_interval(values, q) for q in (0.5, 0.9)]


def test_a_percentage_is_not_a_quantile():
    with pytest.raises(ValueError, match=r"0.95 for p95.*got \[95\]"):
        percentile_intervals([1.0], [0.5, 95])


@pytest.mark.parametrize(("successes", "n"), [(0, 30), (30, 30), (7, 30), (199, 200)])
def test_clopper_pearson_is_scipys_exact_interval(successes, n):
    expected: Any = stats.binomtest(successes, n).proportion_ci(0.95, method="exact")
    interval = clopper_pearson(successes, n)
    assert [float(interval.low), float(interval.high)] == pytest.approx([expected.low, expected.high])


def test_clopper_pearson_broadcasts_takes_part_counts_and_has_nothing_for_no_trials():
    interval = clopper_pearson([[0, 2.5], [5, 5]], [10, 5])
    assert interval.low.shape == (2, 2)
    between = clopper_pearson([2, 2.5, 3], 5)
    assert (np.diff(between.low) > 0).all()
    assert np.isnan(clopper_pearson(0, 0).low)
    with pytest.raises(ValueError, match="0 <= successes <= n"):
        clopper_pearson(6, 5)
