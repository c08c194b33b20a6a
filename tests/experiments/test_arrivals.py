import json
import math
from itertools import islice, pairwise, takewhile

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from scipy import stats

from llmlab import SettingsError
from llmlab.experiments.arrivals import Arrivals, BurstyArrivals, ConstantArrivals, PoissonArrivals, TraceArrivals
from llmlab.experiments.rates import RateRamp, RateSteps

ENDLESS = [PoissonArrivals(), ConstantArrivals(), BurstyArrivals(), BurstyArrivals(cv=0.3)]
TRACE = TraceArrivals(recorded=[0, 0.5, 0.5, 3])


def first(arrivals, count, seed=0, rate=1.0):
    return list(islice(arrivals.times(seed, rate), count))


def gaps(arrivals, count, **how):
    return np.diff([0.0, *first(arrivals, count, **how)])


def until(arrivals, end, seed, rate):
    return np.array(list(takewhile(lambda time: time < end, arrivals.times(seed, rate))))


def gamma(cv, rate=5.0):
    return stats.gamma(cv**-2, scale=cv**2 / rate)


@pytest.mark.parametrize(
    ("arrivals", "cv"),
    [(PoissonArrivals(), 1), (BurstyArrivals(cv=1), 1), (BurstyArrivals(cv=3), 3), (BurstyArrivals(cv=0.3), 0.3)],
)
def test_gaps_have_the_distribution_of_theory(arrivals, cv):
    """A Kolmogorov-Smirnov test with a fixed seed, and its power: a coefficient of variation off by 20% is found."""
    least = 1e-9  # the sum of all gaps, some 1000 s, cannot hold smaller ones
    measured = gaps(arrivals, 5000, seed=3, rate=5.0)
    measured = measured[measured > least]

    def p_value(theory):
        return stats.kstest(measured, lambda gap: (theory.cdf(gap) - theory.cdf(least)) / theory.sf(least)).pvalue

    assert p_value(gamma(cv)) > 0.01
    assert p_value(gamma(cv * 1.2)) < 1e-6


@pytest.mark.parametrize("cv", [0.3, 1.0, 3.0])
def test_the_mean_rate_and_the_coefficient_of_variation_are_those_asked_for(cv):
    count = 20_000
    measured = gaps(BurstyArrivals(cv=cv), count, seed=1, rate=5.0)
    assert measured.mean() == pytest.approx(1 / 5, rel=4 * cv / math.sqrt(count))
    assert measured.std() / measured.mean() == pytest.approx(cv, rel=0.1)


def test_gaps_do_not_depend_on_each_other():
    measured = gaps(PoissonArrivals(), 20_000, seed=2)
    assert abs(np.corrcoef(measured[:-1], measured[1:])[0, 1]) < 4 / math.sqrt(20_000)


def test_constant_arrivals_are_evenly_spaced():
    assert first(ConstantArrivals(), 3, rate=4.0) == [0.25, 0.5, 0.75]


@pytest.mark.parametrize(
    "rate",
    [
        RateSteps(points=[(0, 5), (20, 50), (30, 5)]),
        RateRamp(points=[(0, 0), (40, 40)]),
        RateRamp(points=[(0, 20), (20, 0), (40, 20)]),
    ],
)
def test_poisson_counts_under_a_changing_rate_are_those_of_theory(rate):
    """Counts in windows are independent and Poisson around the integral of the rate: a chi-squared test over seeds."""
    edges = np.linspace(0, 40, 9)
    expected = np.diff([rate.expected_calls(edge) for edge in edges])
    counts = np.array([np.histogram(until(PoissonArrivals(), 40, seed, rate), edges)[0] for seed in range(50)])
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert stats.chi2(counts.size).cdf(statistic) == pytest.approx(0.5, abs=0.499)
    assert counts.sum() == pytest.approx(50 * expected.sum(), abs=4 * math.sqrt(50 * expected.sum()))


def test_constant_arrivals_under_a_ramp_miss_no_call():
    ramp = RateRamp(points=[(0, 1), (60, 20)])
    times = until(ConstantArrivals(), 60 + 1e-6, 0, ramp)
    assert len(times) == 630
    assert times[-1] == pytest.approx(60)


@pytest.mark.parametrize("arrivals", [*ENDLESS, TRACE])
def test_the_same_seed_gives_the_same_times_and_a_longer_run_begins_with_the_shorter(arrivals):
    assert first(arrivals, 100, seed=4) == first(arrivals, 100, seed=4)
    assert first(arrivals, 100, seed=4)[:3] == first(arrivals, 3, seed=4)
    if arrivals not in (ConstantArrivals(), TRACE):
        assert first(arrivals, 100, seed=4) != first(arrivals, 100, seed=5)


def test_twice_the_rate_is_the_same_course_in_half_the_time():
    """Common random numbers: two rates meet the same bursts."""
    for arrivals in ENDLESS:
        assert first(arrivals, 100, rate=2.0) == pytest.approx([time / 2 for time in first(arrivals, 100)])


@settings(max_examples=50, deadline=None)
@given(cv=st.floats(0.01, 100), seed=st.integers(0, 2**63), rate=st.floats(0.01, 1e4))
def test_times_are_finite_and_in_order(cv, seed, rate):
    times = first(BurstyArrivals(cv=cv), 50, seed, rate)
    assert all(math.isfinite(time) for time in times)
    assert all(earlier <= later for earlier, later in pairwise([0.0, *times]))


# ---- recorded times


def test_a_trace_gives_its_times_and_may_be_replayed_faster():
    assert list(TRACE.times()) == [0, 0.5, 0.5, 3]
    assert list(TRACE.replace(speed=2).times()) == [0, 0.25, 0.25, 1.5]
    assert repr(TRACE) == "TraceArrivals(recorded=<4 times from 0 to 3 s>, speed=1.0)"


def test_arrays_and_series_are_traces_too():
    for values in (np.array([1.0, 2.0]), pd.Series([1, 2]), (1, 2)):
        assert TraceArrivals(recorded=values).recorded == (1, 2)


def test_a_trace_is_read_from_every_source(tmp_path):
    times = [100.5, 101, 103.25]
    frame = pd.DataFrame({"call": [7, 8, 9], "arrived_at_s": times})
    frame.to_csv(tmp_path / "calls.csv", index=False)
    frame.to_json(tmp_path / "calls.jsonl", orient="records", lines=True)
    (tmp_path / "times.ndjson").write_text("\n".join(map(json.dumps, times)))
    sources = [times, iter(times), frame, frame["arrived_at_s"], *sorted(tmp_path.iterdir())]
    assert len(sources) == 7
    for source in sources:
        assert TraceArrivals.read(source) == TraceArrivals(recorded=[0, 0.5, 2.75])
    assert TraceArrivals.read(frame, start=100, speed=2) == TraceArrivals(recorded=[0.5, 1, 3.25], speed=2)
    assert TraceArrivals.read(frame, "call").recorded == (0, 1, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TraceArrivals.read([1, 3, 2]), "item 3: 2.0 s comes after 3.0 s; sort the recording by its times"),
        (lambda: TraceArrivals.read([]), "the source holds no time; give at least one"),
        (lambda: TraceArrivals.read([5], start=6), "the first call, at 5.0 s, comes before start=6"),
        (lambda: TraceArrivals.read([1, "soon"]), "item 2: a time must be a finite number of seconds, got a str"),
        (lambda: TraceArrivals.read([1, None]), "item 2: a time must be a finite number of seconds, got nothing"),
        (lambda: TraceArrivals.read([math.nan]), "item 1: a time must be a finite number of seconds, got nothing"),
        (lambda: TraceArrivals.read([True]), "item 1: a time must be a finite number of seconds, got a bool"),
        (lambda: TraceArrivals.read([10**400]), "item 1: a time must be a finite number of seconds, got a int"),
        (lambda: TraceArrivals.read([{"at": 3}]), "item 1: there is no field 'arrived_at_s'"),
        (
            lambda: TraceArrivals.read(pd.DataFrame({"started_at_s": [1]})),
            "the data frame: none of the 1 columns is called 'arrived_at_s' (did you mean 'started_at_s'?)",
        ),
        (lambda: TraceArrivals(recorded=[]), "recorded must"),
        (lambda: TraceArrivals(recorded=[1, -1]), "recorded.1 must be 0 or more, got -1"),
        (
            lambda: TraceArrivals(recorded=[2, 1]),
            "recorded must not decrease, got 1.0 as number 2 after 2.0; sort them",
        ),
        (lambda: TraceArrivals(recorded=[2], speed=0), "speed must be more than 0, got 0"),
        (lambda: BurstyArrivals(cv=0), "cv must be 0.01 or more, got 0"),
    ],
)
def test_wrong_arrivals_are_refused_in_words(make, message):
    with pytest.raises(SettingsError) as caught:
        make()
    assert message in str(caught.value)


@pytest.mark.parametrize("arrivals", [*ENDLESS, TRACE])
def test_all_arrivals_survive_json(arrivals):
    adapter = TypeAdapter(Arrivals)
    assert adapter.validate_json(adapter.dump_json(arrivals)) == arrivals
    assert adapter.validate_python(arrivals.model_dump()) == arrivals
