import sys

import optuna
import pytest

from llmlab import (
    SLO,
    ClientPolicy,
    ClosedLoop,
    Experiment,
    LinearRange,
    LogRange,
    MockBackend,
    SettingsError,
    tune,
)
from llmlab.experiments.running.sweep_run import SweepError

RETRIES, TIMEOUT, JITTER = "policy.retry.max_retries", "policy.attempt_timeout", "policy.retry.backoff.jitter"
SERVICE = SLO(success_rate=0.9, p95_latency_s=8, max_amplification=1.5)
SPACE = {RETRIES: [0, 1, 2, 3], TIMEOUT: LogRange(0.5, 60)}


def base(calls=200, backend=None):
    server = MockBackend(timeout_probability=0.15) if backend is None else backend
    return Experiment(backend=server, policy=ClientPolicy(total_timeout=None), workload=ClosedLoop(calls=calls))


@pytest.fixture(scope="module")
def tuned():
    return tune(base(), SPACE, slo=SERVICE, runs=24, progress=False)


def test_it_finds_settings_that_keep_the_slo_and_measures_them_again(tuned):
    found = tuned.recommendation
    assert found.status == "kept"
    assert found.settings[RETRIES] >= 1
    assert 1 < found.settings[TIMEOUT] < 8
    assert found.points["calls"].iloc[found.place] > 200
    assert str(tuned) == str(found)


def test_its_runs_are_a_result_like_any_other(tuned):
    result = tuned.result
    assert len(result.runs) == 24
    assert result.parameters == [RETRIES, TIMEOUT]
    assert not result.interrupted
    assert len(result.calls) == 24 * 200
    assert not result.calls.duplicated([RETRIES, TIMEOUT, "replicate", "call"]).any()


def test_a_further_replicate_meets_chance_of_its_own_and_points_share_theirs(tuned):
    seeds = {(run.replicate, run.seed) for run in tuned.result.runs}
    assert len({replicate for replicate, _ in seeds}) == len(seeds) > 1


def test_the_same_seed_gives_the_same_search(tuned):
    def measured(result):
        return [(run.settings, run.replicate) for run in result.runs]

    again = tune(base(), SPACE, slo=SERVICE, runs=24, progress=False)
    other = tune(base(), SPACE, slo=SERVICE, runs=24, seed=1, progress=False)
    assert measured(again.result) == measured(tuned.result)
    assert again.recommendation.points.equals(tuned.recommendation.points)
    assert measured(other.result) != measured(tuned.result)


def test_it_looks_where_it_is_good(tuned):
    explored = [run.settings[TIMEOUT] for run in tuned.result.runs if run.replicate == 0]
    early, late = explored[:9], explored[9:]
    good = [1.2 < timeout < 8 for timeout in early], [1.2 < timeout < 8 for timeout in late]
    assert sum(good[1]) / len(good[1]) > sum(good[0]) / len(good[0])


def test_words_and_whole_numbers_and_parameters_of_the_server_can_be_chosen():
    space = {JITTER: ["full", "none"], RETRIES: LinearRange(0, 4, whole=True), "workload.users": [2, 20]}
    found = tune(base(calls=50), space, slo=SLO(success_rate=0.5), runs=6, progress=False)
    assert {type(run.settings[RETRIES]) for run in found.result.runs} == {int}
    assert set(found.recommendation.settings) == set(space)


def test_lists_and_values_that_are_there_twice_can_be_chosen():
    space = {"policy.retry.retry_on": [["overloaded"], ["attempt_timeout"], ["overloaded"]]}
    found = tune(base(calls=50), space, slo=SLO(success_rate=0.5), runs=8, progress=False)
    assert len(found.recommendation.points) == 2
    assert not found.result.calls.duplicated([*space, "replicate", "call"]).any()


def test_numbers_are_such_as_one_would_set(tuned):
    timeouts = [run.settings[TIMEOUT] for run in tuned.result.runs]
    assert all(float(f"{timeout:.3g}") == timeout and 0.5 <= timeout <= 60 for timeout in timeouts)


def test_a_budget_of_calls_ends_it():
    found = tune(base(calls=100), SPACE, slo=SERVICE, runs=100, calls=350, progress=False)
    assert len(found.result.calls) == 400


def test_without_a_setting_that_keeps_it_the_nearest_is_named():
    broken = MockBackend(overload_probability=0.9)
    found = tune(base(calls=100, backend=broken), {RETRIES: [0, 5]}, slo=SERVICE, runs=6, progress=False)
    assert found.recommendation.status == "not_kept"
    assert found.recommendation.settings == {RETRIES: 5}


class FailsWith:
    """A backend of one's own with a bug at some settings."""

    simulated = True

    def __init__(self, error, limit=0):
        self.error, self.limit = error, limit

    async def attempt(self, request, *, timeouts, key):
        if self.limit > 3:
            raise self.error
        return await MockBackend(timeout_probability=0.0).attempt(request, timeouts=timeouts, key=key)


def test_points_without_a_call_to_judge_by_are_the_last_choice():
    silent = base(calls=20, backend=MockBackend(timeout_probability=1.0))
    slo = SLO(max_amplification=9, latency_over="answered")
    found = tune(silent, {"policy.retry.max_retries": [0, 1, 2]}, slo=slo, runs=6, progress=False)
    assert len(found.result.runs) == 6


def test_runs_that_fail_are_listed_and_cost_no_others():
    space = {"backend.limit": [0, 1, 2, 3, 4, 5]}
    experiment = base(calls=20, backend=FailsWith(RuntimeError("a bug")))
    found = tune(experiment, space, slo=SLO(success_rate=0.1), runs=16, progress=False)
    assert {run.settings["backend.limit"] for run in found.result.failures} <= {4, 5}
    assert len(found.result.runs) + len(found.result.failures) == 16
    assert "a bug" in found.result.failures[0].reason
    with pytest.raises(SweepError, match=r"none of 3 runs could be finished.*a bug"):
        tune(experiment, {"backend.limit": [4, 5]}, slo=SLO(success_rate=0.1), runs=3, progress=False)


def test_ctrl_c_keeps_what_is_finished(monkeypatch):
    finished = []
    record = Experiment.record

    def interrupted(self, **arguments):
        if len(finished) == 3:
            raise KeyboardInterrupt
        finished.append(record(self, **arguments))
        return finished[-1]

    monkeypatch.setattr(Experiment, "record", interrupted)
    found = tune(base(calls=50), SPACE, slo=SERVICE, runs=50, progress=False)
    assert len(found.result.runs) == 3
    assert found.result.interrupted
    with pytest.raises(KeyboardInterrupt):
        tune(base(calls=50), SPACE, slo=SERVICE, runs=50, progress=False)


@pytest.mark.parametrize(
    ("space", "budget", "message"),
    [
        ({}, {}, "needs settings to choose"),
        ({"policy.retries": [0, 1]}, {}, "has no setting 'retries'"),
        ({RETRIES: [0, -1]}, {}, "cannot be -1"),
        ({RETRIES: LinearRange(0, 4)}, {}, "cannot be 1.6"),
        ({TIMEOUT: LogRange(1, 60, num=5)}, {}, "takes no num"),
        (SPACE, {"runs": 0}, "runs must be a whole number, 1 or more, got 0"),
        (SPACE, {"runs": 2.5}, r"runs must be a whole number, 1 or more, got 2\.5"),
        (SPACE, {"calls": 0}, "calls must be a whole number, 1 or more, got 0"),
        (SPACE, {"slo": 0.99}, "slo must be an SLO, such as .*, got a float"),
        (SPACE, {"minimise": "latency"}, "minimise cannot be 'latency'"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(space, budget, message, monkeypatch):
    monkeypatch.setattr(Experiment, "record", lambda *_, **__: pytest.fail("something ran"))
    with pytest.raises(SettingsError, match=message):
        tune(base(), space, progress=False, **({"slo": SERVICE} | budget))


def test_without_optuna_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SettingsError, match=r"pip install 'llmlab\[tune\]'"):
        tune(base(), SPACE, slo=SERVICE, progress=False)


def test_optunas_own_reporting_is_left_as_it_was(capfd):
    before = optuna.logging.get_verbosity()
    tune(base(calls=20), {RETRIES: [0, 1]}, slo=SLO(success_rate=0.1), runs=2, progress=False)
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr() == ("", "")
