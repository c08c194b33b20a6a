import asyncio
import dataclasses
import os
import signal
import threading

import numpy as np
import pandas as pd
import pytest

from llmlab import (
    Answer,
    ClosedLoop,
    Constant,
    Experiment,
    MockBackend,
    OpenLoop,
    Procedure,
    RateLimit,
    RateSteps,
    SettingsError,
    Sweep,
    WithFaults,
)
from llmlab.backends.setting_paths import with_setting
from llmlab.core.chance import derived

BASE = Experiment(workload=ClosedLoop(calls=10, users=2))


@pytest.mark.parametrize(
    ("path", "value", "read"),
    [
        ("backend.timeout_probability", 0.2, lambda e: e.backend.faults.timeout),
        ("backend.faults.timeout", 0.2, lambda e: e.backend.faults.timeout),
        ("backend.latency", 2.0, lambda e: e.backend.latency.value),
        ("backend.latency", Constant(value=2.0), lambda e: e.backend.latency),
        ("backend.latency.median", 2.0, lambda e: e.backend.latency.median),
        ("policy.retry.max_retries", 7, lambda e: e.policy.retry.max_retries),
        ("policy.retry.backoff.jitter", "none", lambda e: e.policy.retry.backoff.jitter),
        ("policy.max_concurrency", 3, lambda e: e.policy.max_concurrency),
        ("policy.attempt_timeout", None, lambda e: e.policy.attempt_timeout),
        ("policy.rate_limit", RateLimit(requests=1), lambda e: e.policy.rate_limit),
        ("workload.users", 4, lambda e: e.workload.users),
        ("workload", OpenLoop(), lambda e: e.workload),
        ("seed", 9, lambda e: e.seed),
    ],
)
def test_any_setting_is_reached_by_its_path_and_nothing_else_changes(path, value, read):
    changed = with_setting(BASE, path, value)
    assert read(changed) == value
    assert changed != BASE
    rest = {"backend", "policy", "workload", "seed"} - {path.partition(".")[0]}
    assert all(getattr(changed, name) == getattr(BASE, name) for name in rest)
    assert Experiment(workload=ClosedLoop(calls=10, users=2)) == BASE


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"backend.timeout_probabilty": [0.1]}, "did you mean 'timeout_probability'?"),
        ({"policy.retries.max_retries": [1]}, "there is no setting 'policy.retries.max_retries': ClientPolicy has no"),
        ({"policy.max_retries": [1]}, "ClientPolicy has no setting 'max_retries'"),
        ({"polcy.max_concurrency": [1]}, "Experiment has no 'polcy'; did you mean 'policy'?"),
        ({"policy.rate_limit.requests": [1]}, "what it is part of is None; sweep that as a whole"),
        ({"backend.timeout_probability": [0.1, 2]}, "'backend.timeout_probability' cannot be 2: timeout_probability"),
        ({"policy.retry.max_retries": []}, "grid.policy.retry.max_retries: has no values; give at least one"),
        ({"workload.rate": [1]}, "ClosedLoop has no setting 'rate'"),
        ({"backend.latency.median.x": [1]}, "a float has no attribute 'x'"),
        ({"": [1]}, "''"),
        (
            {"backend.model": "abc"},
            "grid.backend.model must be a list of values, or one of LinearRange, LogRange and Values, got 'abc'",
        ),
        ({"backend.seed": 5}, "LogRange and Values, got 5"),
        ({}, "grid is empty; name a setting with its values, or leave it out"),
    ],
)
def test_wrong_paths_and_values_are_refused_before_anything_runs(grid, message):
    with pytest.raises(SettingsError) as caught:
        Sweep(BASE, grid)
    assert message in str(caught.value)


def test_every_combination_runs_once_for_each_replicate_and_replicates_share_their_seeds():
    sweep = Sweep(BASE, {"backend.timeout_probability": [0, 0.5], "policy.retry.max_retries": [0, 1, 2]}, replicates=2)
    assert len(sweep) == 12
    runs = list(sweep.runs())
    assert len({(*settings.values(), replicate) for settings, replicate, _ in runs}) == 12
    assert {(replicate, experiment.seed) for _, replicate, experiment in runs} == {(0, 0), (1, derived(0, 1))}


def test_the_frames_carry_the_settings_the_replicate_and_the_seed():
    result = Sweep(BASE, {"backend.timeout_probability": [0, 0.5]}, replicates=2).run(progress=False)
    assert len(result.calls) == 40
    assert set(result.calls["backend.timeout_probability"]) == {0, 0.5}
    assert set(result.calls["replicate"]) == {0, 1}
    assert set(result.attempts["seed"]) == {0, derived(0, 1)}
    summary = result.summary()
    assert list(summary["backend.timeout_probability"]) == [0, 0.5]
    assert not result.interrupted
    assert repr(result) == "<SweepResult: 4 runs over backend.timeout_probability>"
    assert "<table" in result._repr_html_()


def test_all_points_meet_the_same_weather():
    """Common random numbers: the retries differ, the first attempts do not."""
    base = Experiment(backend=MockBackend(overload_probability=0.4), workload=ClosedLoop(calls=50))
    attempts = (
        Sweep(base, {"policy.retry.max_retries": [0, 3], "policy.max_concurrency": [1, 5]}).run(progress=False).attempts
    )
    first = attempts[attempts["attempt"] == 1]
    reasons = first.groupby("call")["reason"].agg(lambda words: len(set(words.astype(object).fillna("none"))))
    assert (reasons == 1).all()


def test_arrays_ranges_and_generators_are_lists_of_values_too():
    grid = {
        "backend.timeout_probability": np.linspace(0, 1, 3),
        "policy.retry.max_retries": range(2),
        "workload.users": np.arange(1, 3),
        "policy.attempt_timeout": pd.Series([1.0, 2.0]),
        "backend.latency": (one for one in (0.5, 1.5)),
    }
    sweep = Sweep(BASE, grid)
    assert len(sweep) == 3 * 2 * 2 * 2 * 2
    assert [type(value) for value in sweep.grid["workload.users"]] == [int, int]
    assert len(Sweep(BASE, {"workload.users": np.arange(1, 3)}).run(progress=False).calls) == 20


def test_an_empty_grid_is_one_point():
    result = Sweep(BASE).run(progress=False)
    assert len(result.calls) == 10
    assert len(result.summary()) == 1


def test_faults_in_front_of_a_backend_are_swept_too():
    base = Experiment(backend=WithFaults(MockBackend()), workload=ClosedLoop(calls=20))
    result = Sweep(base, {"backend.overload_probability": [0.0, 1.0], "backend.backend.latency": [1.0, 2.0]}).run(
        progress=False
    )
    failed = result.calls.groupby("backend.overload_probability")["reason"].count()
    assert list(failed) == [0, 40]


class Own:
    simulated = True

    def __init__(self, delay=1.0):
        self.delay = delay

    async def attempt(self, request, *, timeouts, key):
        await asyncio.sleep(self.delay)
        return Answer("ok")


@dataclasses.dataclass(frozen=True)
class Frozen:
    delay: float = 1.0
    simulated = True

    async def attempt(self, request, *, timeouts, key):
        await asyncio.sleep(self.delay)
        return Answer("ok")


@pytest.mark.parametrize("backend", [Own(), Frozen()])
def test_the_attributes_of_a_users_own_backend_are_swept_without_changing_it(backend):
    base = Experiment(backend=backend, workload=ClosedLoop(calls=4, users=1))
    calls = Sweep(base, {"backend.delay": [1.0, 3.0]}).run(progress=False).calls
    assert list((calls["ended_at_s"] - calls["started_at_s"]).round(9)) == [1.0] * 4 + [3.0] * 4
    assert backend.delay == 1.0
    with pytest.raises(SettingsError, match="has no attribute 'latency'"):
        Sweep(base, {"backend.latency": [1]})


def test_it_runs_in_a_running_loop_and_beside_one():
    async def cell():
        plain = Sweep(BASE, {"seed": [1, 2]}).run(progress=False)
        awaited = await Sweep(BASE, {"seed": [1, 2]}).run_async(progress=False)
        assert plain.calls.to_csv() == awaited.calls.to_csv()

    asyncio.run(cell())


@pytest.mark.parametrize("progress", [True, False])
def test_progress_never_stops_half_way_in_what_it_shows(capsys, progress):
    Sweep(BASE, {"seed": [1, 2]}).run(progress=progress)
    shown = capsys.readouterr().err
    assert shown == "" or (progress and "20/20" in shown)


@pytest.mark.parametrize("simulated", [True, False])
def test_progress_counts_runs_where_a_workload_does_not_know_its_number_of_calls(capsys, simulated):
    backend = Own(0.0)
    backend.simulated = simulated
    base = Experiment(backend=backend, workload=OpenLoop(rate=1000.0, duration=0.02))
    Sweep(base, {"seed": [1, 2, 3]}).run()
    shown = capsys.readouterr().err
    assert shown == "" or "3/3" in shown


def test_the_course_of_a_rate_and_the_spread_of_arrivals_can_be_swept():
    base = Experiment(workload=OpenLoop(rate=RateSteps(points=[(0, 1), (5, 20)]), arrivals="bursty", duration=10))
    grid = {"workload.rate.scale": [1, 2], "workload.arrivals.cv": [0.1, 0.2], "workload.duration": [5, 10]}
    counts = Sweep(base, grid).run(progress=False).calls.groupby(list(grid)).size()
    assert len(counts) == 8
    assert counts.loc[1, :, 5].to_list() == pytest.approx([5, 5], abs=1)
    assert counts.loc[2, :, 10].to_list() == pytest.approx([210, 210], rel=0.05)


class Interrupts:
    """Presses Ctrl-C in the second run."""

    def __init__(self, simulated, number=0):
        self.simulated, self.number = simulated, number

    async def attempt(self, request, *, timeouts, key):
        if self.number == 1:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            for _ in range(10**6):  # keeps a virtual loop busy until the signal arrives
                await asyncio.sleep(0.001)
        return Answer("ok")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="signals to a thread are a POSIX thing")
@pytest.mark.parametrize("simulated", [True, False])
def test_ctrl_c_keeps_the_finished_runs(simulated):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        base = Experiment(backend=Interrupts(simulated), workload=ClosedLoop(calls=2, users=1))
        result = Sweep(base, {"backend.number": [0, 1, 2]}, procedure=Procedure(order="grid")).run(progress=False)
        assert result.interrupted
        assert len(result.runs) == 1
        assert len(result.calls) == 2
        assert repr(result) == "<SweepResult: interrupted after 1 of 3 runs over backend.number>"
        with pytest.raises(KeyboardInterrupt):
            Sweep(base, {"backend.number": [1, 2]}, procedure=Procedure(order="grid")).run(progress=False)
    finally:
        signal.signal(signal.SIGINT, before)
