"""Sweeps of real servers: their order, what surrounds each run, and what ends them early."""

import asyncio
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from llmlab import (
    Answer,
    AttemptFailure,
    ClosedLoop,
    Experiment,
    FailureReason,
    LLMRequest,
    MockBackend,
    OllamaBackend,
    Procedure,
    SettingsError,
    Sweep,
    SweepResult,
)
from llmlab.experiments.running.real_time import RealTime
from llmlab.experiments.stop_signal import StopSignal
from llmlab.server.replay import ReplayServer

NO_RETRIES = {"policy.retry.max_retries": [0]}


class Real:
    """Answers at once, remembers who asked what, and is gone from its n-th attempt on."""

    fingerprint = "real"

    def __init__(self, name="a", log=None, gone_from=None):
        self.name, self.log, self.gone_from = name, [] if log is None else log, gone_from

    async def attempt(self, request, *, timeouts, key):
        self.log.append(self.name)
        if self.gone_from is not None and len(self.log) > self.gone_from:
            return AttemptFailure(FailureReason.CONNECTION_FAILED, "refused")
        return Answer("ok")


def sweep(backend, names, *, calls=2, replicates=1, **procedure):
    base = Experiment(backend=backend, workload=ClosedLoop(calls=calls, users=1))
    grid = {"backend.name": names, **NO_RETRIES}
    return Sweep(base, grid, replicates=replicates, procedure=Procedure(**procedure))


def test_runs_of_a_real_backend_are_shuffled_in_rounds_by_a_seed_and_stand_in_order_in_the_result():
    orders = set()
    for seed in (0, 0, 1, 2):
        backend = Real()
        result = sweep(backend, list("abcdef"), calls=1, replicates=3, seed=seed).run(progress=False)
        order = "".join(backend.log)
        orders.add(order)
        assert all(sorted(order[start : start + 6]) == list("abcdef") for start in (0, 6, 12))
        assert [run.settings["backend.name"] for run in result.runs] == [name for name in "abcdef" for _ in range(3)]
    assert len(orders) == 3


def test_point_after_point_is_another_order():
    backend = Real()
    sweep(backend, list("cab"), calls=1, replicates=2, order="grid").run(progress=False)
    assert "".join(backend.log) == "ccaabb"


def test_warm_up_calls_come_before_each_run_and_are_not_counted():
    backend = Real()
    result = sweep(backend, ["a", "b"], calls=2, warm_up=3).run(progress=False)
    assert Counter(backend.log) == {"a": 5, "b": 5}
    assert len(result.calls) == 4


def test_a_simulated_backend_is_neither_warmed_up_nor_rested():
    base = Experiment(backend=MockBackend(), workload=ClosedLoop(calls=2))
    result = Sweep(base, {"seed": [1, 2]}, procedure=Procedure(warm_up=5, cool_down=1e6)).run(progress=False)
    assert len(result.calls) == 4


class PatientSignal(StopSignal):
    def __init__(self):
        super().__init__()
        self.waits = []

    def wait(self, seconds):
        self.waits.append(seconds)
        return self.is_set()


def test_there_is_a_rest_between_two_runs_and_none_before_the_first():
    stop = PatientSignal()
    real_time = RealTime(Procedure(cool_down=7.0), stop, lambda: None)
    for number in range(3):
        real_time.perform(number, Experiment(backend=Real(), workload=ClosedLoop(calls=1)))
    assert stop.waits == [7.0, 7.0]


def test_no_run_is_begun_that_would_exceed_the_calls_and_running_it_again_goes_on(tmp_path):
    bounds = {"calls": 4, "warm_up": 1, "max_calls": 10}
    first = sweep(Real(), list("abc"), **bounds).run(store=tmp_path, progress=False)
    assert (len(first.runs), first.interrupted) == (2, True)
    assert first.stopped == "the next run would exceed procedure.max_calls=10"
    second = sweep(Real(), list("abc"), **bounds).run(store=tmp_path, progress=False)
    assert (len(second.runs), second.stopped) == (3, "")


class Hanging(Real):
    async def attempt(self, request, *, timeouts, key):
        if self.name == "b":
            await asyncio.Event().wait()
        return await super().attempt(request, timeouts=timeouts, key=key)


def test_when_the_time_is_over_the_run_that_goes_on_is_ended_and_not_kept():
    result = sweep(Hanging(), ["a", "b", "c"], order="grid", max_seconds=0.3).run(progress=False)
    assert [run.settings["backend.name"] for run in result.runs] == ["a"]
    assert result.stopped == "procedure.max_seconds=0.3 are over"


def test_a_server_that_goes_away_ends_the_sweep_with_what_it_answered_and_resume_goes_on(tmp_path, caplog):
    # Run "b" has its last attempt refused, and "c" all: none of them is kept.
    gone = sweep(Real(gone_from=3), list("abcd"), calls=2, order="grid", max_connection_failures=3)
    result = gone.run(store=tmp_path, progress=False)
    assert [run.settings["backend.name"] for run in result.runs] == ["a"]
    assert "the server is gone: 3 attempts in a row found no connection" in result.stopped
    assert "the sweep ended after" in caplog.text
    assert result.stopped in caplog.text
    back = sweep(Real(), list("abcd"), calls=2, order="grid").run(store=tmp_path, progress=False)
    assert len(back.runs) == 4
    assert back.calls["answered"].all()
    assert len(SweepResult.load(tmp_path).runs) == 4


def test_refused_connections_that_end_are_results_like_others():
    class Hiccup(Real):
        async def attempt(self, request, *, timeouts, key):
            self.log.append(self.name)
            if self.name == "b":
                return AttemptFailure(FailureReason.CONNECTION_FAILED, "refused")
            return Answer("ok")

    result = sweep(Hiccup(), list("abc"), calls=2, order="grid", max_connection_failures=3).run(progress=False)
    assert [run.settings["backend.name"] for run in result.runs] == ["a", "b", "c"]
    last = sweep(Hiccup(), list("ab"), calls=2, order="grid", max_connection_failures=3).run(progress=False)
    assert [run.settings["backend.name"] for run in last.runs] == ["a", "b"]
    never = sweep(Hiccup(), ["b"], calls=30, max_connection_failures=None).run(progress=False)
    assert len(never.runs) == 1


def test_a_real_server_on_loopback_that_is_stopped_ends_the_sweep():
    server = ReplayServer()
    server.start()
    backend = OllamaBackend(base_url=server.url, model="tiny")
    base = Experiment(
        backend=backend, workload=ClosedLoop(calls=3, users=1, requests=LLMRequest(prompt="Why is the sky blue?"))
    )
    stopped = threading.Event()

    def stop_server(run):
        if not stopped.is_set():
            server.stop()
            stopped.set()

    procedure = Procedure(max_connection_failures=2, order="grid")
    grid = {"seed": [1, 2, 3], **NO_RETRIES}
    result = Sweep(base, grid, procedure=procedure).run(progress=False, on_point=stop_server)
    assert [run.settings["seed"] for run in result.runs] == [1]
    assert "the server is gone" in result.stopped


def test_a_wrong_bound_is_refused_and_the_procedure_is_part_of_a_sweeps_file(tmp_path):
    with pytest.raises(SettingsError, match="max_seconds must be more than 0"):
        Procedure(max_seconds=0)
    planned = Sweep(procedure=Procedure(warm_up=2, max_calls=5, order="shuffled"))
    assert Sweep.load(planned.save(tmp_path / "sweep.toml")) == planned


@pytest.mark.parametrize("asked", [{"warm_up": 1}, {"cool_down": 1.0}, {"max_connection_failures": 3}])
@pytest.mark.parametrize("how", [{"workers": 2}, {"executor": ThreadPoolExecutor(1)}])
def test_what_surrounds_real_runs_is_refused_where_workers_would_make_them(asked, how):
    real = Sweep(Experiment(backend=Real()), NO_RETRIES, procedure=Procedure(**asked))
    with pytest.raises(SettingsError, match=f"procedure.{next(iter(asked))} cannot be kept in workers"):
        real.run(progress=False, **how)
