"""Replicates are added to a point until its metric is known well enough, and no more."""

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from llmlab import ClosedLoop, Experiment, MockBackend, Precision, SettingsError, Sweep, SweepResult
from llmlab.experiments.precision import Measured, half_width, replicates_wanted

RATE = Precision(metric="failure_rate", half_width=0.01)
MEAN = Precision(metric="attempts_per_call", half_width=0.1, min_replicates=2, max_replicates=30)
SWEEP = Sweep(
    Experiment(workload=ClosedLoop(calls=40, users=4)),
    {"backend.overload_probability": [0.0, 0.3]},
    until=Precision(metric="attempts_per_call", half_width=0.08, min_replicates=3, max_replicates=40),
)


def of(*values, calls=100):
    return [Measured(value, calls) for value in values]


def test_the_interval_is_students_t_over_replicates():
    low, high = stats.t.interval(0.95, 3, loc=2.5, scale=stats.sem([1, 2, 3, 4]))
    assert half_width(of(1, 2, 3, 4), MEAN) == pytest.approx((high - low) / 2)


def test_equal_rates_are_not_taken_for_certain():
    interval = stats.binomtest(0, 500).proportion_ci(method="wilson")
    assert half_width(of(0.0, 0.0, 0.0, 0.0, 0.0), RATE) == pytest.approx(interval.high / 2)
    assert half_width(of(2.0, 2.0), MEAN) == 0


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (of(1.0, 1.0), 2),
        (of(1.0, 1.001), 2),
        (of(1.0, 3.0), 4),
        (of(*[1.0, 3.0] * 10), 30),
        (of(1.0, math.nan), 4),
    ],
)
def test_a_round_at_most_doubles_the_replicates_and_never_exceeds_the_most(values, wanted):
    assert replicates_wanted(values, MEAN) == wanted


@given(st.lists(st.floats(0, 10), min_size=2, max_size=30))
def test_a_point_that_wants_no_more_is_precise_enough_or_at_its_most(values):
    wanted = replicates_wanted(of(*values), MEAN)
    assert len(values) <= wanted <= 30
    if wanted == len(values) < 30:
        assert half_width(of(*values), MEAN) <= MEAN.half_width


def test_points_get_as_many_replicates_as_they_need_whatever_makes_them():
    here = SWEEP.run(workers=1, progress=False)
    counts = here.calls.groupby("backend.overload_probability")["replicate"].nunique()
    assert counts[0.0] == 3
    assert 3 < counts[0.3] < 40
    assert not here.interrupted
    assert here.planned == len(here.runs) == counts.sum()
    means = here.calls.groupby(["backend.overload_probability", "replicate"])["attempts"].mean()
    for _, values in means.groupby(level=0):
        assert half_width(of(*values), SWEEP.until) <= 0.08
    with ThreadPoolExecutor(3) as threads:
        for elsewhere in (SWEEP.run(workers=2, progress=False), SWEEP.run(executor=threads, progress=False)):
            assert elsewhere.calls.to_csv() == here.calls.to_csv()


@pytest.mark.parametrize("keep", ["events", "calls"])
def test_an_interrupted_one_goes_on_with_the_same_decisions(keep, tmp_path):
    seen = []

    def stop(run):
        seen.append(run)
        if len(seen) == 8:
            raise KeyboardInterrupt

    assert SWEEP.run(store=tmp_path, keep=keep, progress=False, on_point=stop).interrupted
    result = SWEEP.run(store=tmp_path, keep=keep, progress=False, on_point=seen.append)
    whole = SWEEP.run(workers=1, progress=False)
    assert len(seen) == len(whole.runs)
    for one in (result, SweepResult.load(tmp_path)):
        assert not one.interrupted
        assert one.calls.to_csv() == whole.calls.to_csv()


class Moody:
    simulated = True

    def __init__(self):
        self.seed = 0

    def seeded(self, seed):
        changed = Moody()
        changed.seed = seed
        return changed

    async def attempt(self, request, *, timeouts, key):
        if self.seed:
            raise ValueError("only the first replicate goes well")
        return await MockBackend().attempt(request, timeouts=timeouts, key=key)


def test_a_point_with_a_failed_run_gets_no_further_round():
    result = Sweep(Experiment(backend=Moody(), workload=ClosedLoop(calls=2)), until=RATE).run(progress=False)
    assert (len(result.runs), len(result.failures)) == (1, 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metric": "failure_rat", "half_width": 1}, "did you mean 'failure_rate'?"),
        ({"half_width": 0}, "half_width must be more than 0"),
        ({}, "Precision needs 'half_width'"),
        ({"half_width": 1, "min_replicates": 9, "max_replicates": 8}, r"must be min_replicates \(9\) or more, got 8"),
        ({"half_width": 1, "confidence": 1}, "confidence must be less than 1"),
    ],
)
def test_what_makes_no_sense_is_refused(settings, message):
    with pytest.raises(SettingsError, match=message):
        Precision(**settings)


def test_it_excludes_a_fixed_number_of_replicates_and_rough_summaries(tmp_path):
    with pytest.raises(SettingsError, match="replicates and until exclude each other"):
        Sweep(until=RATE, replicates=2)
    with pytest.raises(SettingsError, match='use "events" or "calls"'):
        SWEEP.run(store=tmp_path, keep="summary")


def test_it_is_part_of_a_sweeps_file(tmp_path):
    for name in ("sweep.toml", "sweep.json"):
        assert Sweep.load(SWEEP.save(tmp_path / name)) == SWEEP
