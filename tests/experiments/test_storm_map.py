"""Whether a system recovers, over load and retries. Theory says where: below lambda (1 + r) = mu."""

import math
import os

import pandas as pd
import pytest

from llmlab import (
    Backoff,
    ClientPolicy,
    ClosedLoop,
    Constant,
    Experiment,
    Exponential,
    Layer,
    Lognormal,
    MockBackend,
    OpenLoop,
    Outage,
    RetryBudget,
    RetryPolicy,
    ServerModel,
    SettingsError,
    Sweep,
    Uniform,
    storm_map,
)
from llmlab.experiments.storm_map import RATE, RETRIES, STORM_COLUMNS, capacity

STORM = Experiment(
    backend=MockBackend(
        server=ServerModel(service_time=Constant(value=0.01), outages=Outage(start=1, end=2.5), on_disconnect="work_on")
    ),
    policy=ClientPolicy(retry=RetryPolicy(backoff=Backoff(base=0)), attempt_timeout=0.25, total_timeout=None),
    workload=OpenLoop(rate=50, duration=11),
)
"""100 requests per second, an outage of six timeouts, and eight seconds to be well again."""


def mapped(base=STORM, **arguments):
    settings = {"rates": [20, 60], "retries": [0, 1], "window": 3, "progress": False} | arguments
    return storm_map(base, **settings)


class Simulated:
    """A backend of one's own; what it does when it is first used in a run is given."""

    simulated = True

    def __init__(self, begin):
        self.begin = begin

    def session(self):
        self.begin()
        return MockBackend(latency=0.1).session()

    async def attempt(self, request, *, timeouts, key):
        raise NotImplementedError


def leave():
    os._exit(3)


def test_it_recovers_where_load_times_attempts_is_below_the_capacity():
    points = mapped(rates=[20, 60, 70], retries=[0, 1, 2])
    below = points[RATE] * (1 + points[RETRIES]) < points["capacity_per_s"]
    assert points["recovered"].tolist() == below.tolist()
    assert set(points["recovered"]) == {True, False}
    ill = points[~points["recovered"]]
    assert (ill["answered_share"] == 0).all()
    assert (ill["attempts_per_call"] == 1 + ill[RETRIES]).all()
    well = points[points["recovered"]]
    assert (well["answered_share"] == 1).all()
    assert (well["attempts_per_call"] == 1).all()


def test_the_rows_have_the_columns_and_the_order_that_they_are_said_to_have():
    points = mapped(defences={"b": {}, "a": {}}, retries=[1, 0])
    assert points.columns.tolist() == [column.name for column in STORM_COLUMNS]
    assert points["defence"].tolist() == ["b"] * 4 + ["a"] * 4
    assert points[RETRIES].tolist() == [1, 1, 0, 0] * 2
    assert points[RATE].tolist() == [20, 60] * 4


def test_the_numbers_are_those_of_the_experiments_own_frames():
    [point] = mapped(rates=[60], retries=[1]).to_dict("records")
    retry = STORM.policy.retry.replace(max_retries=1)
    same = STORM.replace(policy=STORM.policy.replace(retry=retry), workload=STORM.workload.replace(rate=60.0))
    calls = same.run().calls
    last = calls[calls["arrived_at_s"] >= 8]
    assert point["calls"] == len(last)
    assert point["answered_share"] == last["answered"].mean()
    assert point["attempts_per_call"] == last["attempts"].mean()
    assert point["attempts"] == calls["attempts"].sum()


def test_of_stacked_clients_the_outermost_ones_calls_are_counted():
    stacked = STORM.replace(backend=Layer(STORM.backend, ClientPolicy(retry=RetryPolicy(max_retries=1))))
    point = mapped(stacked, rates=[60], retries=[1]).iloc[0]
    calls = stacked.replace(workload=OpenLoop(rate=60, duration=11)).run().calls
    assert point["calls"] == (calls["arrived_at_s"] >= 8).sum()


def test_points_of_one_load_meet_the_same_arrivals():
    points = mapped()
    assert (points.groupby(RATE)["calls"].nunique() == 1).all()


def test_several_processes_give_the_same_map():
    alone, shared = mapped(), mapped(processes=2)
    pd.testing.assert_frame_equal(alone.drop(columns="cpu_s"), shared.drop(columns="cpu_s"))


def test_a_defence_is_a_change_of_settings_by_their_paths():
    defences = {
        "none": {},
        "budget": {"policy.budget": RetryBudget(per_success=0.1)},
        "dropped": {"backend.server.on_disconnect": "stop"},
    }
    points = mapped(rates=[60], retries=[1], defences=defences)
    assert points.set_index("defence")["recovered"].to_dict() == {"none": False, "budget": True, "dropped": True}


def test_a_wrong_setting_is_found_before_anything_runs():
    never = Experiment(backend=Simulated(leave), workload=STORM.workload)
    with pytest.raises(SettingsError, match="has no setting 'budgets'; did you mean 'budget'"):
        mapped(never, defences={"none": {}, "budget": {"policy.budgets": None}})
    with pytest.raises(SettingsError, match="max_retries"):
        mapped(never, retries=[0, -1])
    with pytest.raises(SettingsError, match="rate"):
        mapped(never, rates=[20, 0])


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (STORM.replace(workload=ClosedLoop()), "the workload must be an OpenLoop with a duration"),
        (STORM.replace(workload=OpenLoop(rate=5)), "the workload must be an OpenLoop with a duration"),
        (STORM.replace(workload=OpenLoop(rate=5, duration=5)), "begins at 2 s, before the server's outage ends at 2.5"),
        (STORM.replace(workload=OpenLoop(rate=5, duration=2)), "at most duration=2, got 3"),
    ],
)
def test_an_experiment_that_no_map_can_be_made_of_is_refused(base, message):
    with pytest.raises(ValueError, match=message):
        mapped(base)


def test_a_real_server_is_refused():
    real = Simulated(leave)
    real.simulated = False
    with pytest.raises(ValueError, match="a storm map needs a simulated backend; Simulated would run in real time"):
        mapped(Experiment(backend=real, workload=STORM.workload))


@pytest.mark.parametrize("empty", [{"rates": []}, {"retries": []}, {"defences": {}}])
def test_a_map_without_points_is_refused(empty):
    with pytest.raises(ValueError, match="at least one rate, one number of retries and one defence"):
        mapped(**empty)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"window": 0}, "window must be a number of seconds, more than 0 and at most duration=11, got 0"),
        ({"window": "3"}, "window must be a number of seconds, .* got '3'"),
        ({"processes": 0}, "processes must be 1 or more, got 0"),
        ({"processes": 1.5}, r"processes must be 1 or more, got 1\.5"),
        ({"rates": 20}, "rates must be a list of numbers, got 20"),
        ({"rates": [20, "60"]}, "rates must be a list of numbers, got '60' in it"),
        ({"rates": [20, 20.0]}, r"rates must differ, got 20\.0 twice"),
        ({"retries": 2}, "retries must be a list of numbers, got 2"),
        ({"defences": ["budget"]}, "defences must be settings by path for each name"),
        ({"defences": {"budget": "policy.budget"}}, "defences must be settings by path for each name"),
    ],
)
def test_wrong_arguments_are_refused_with_the_value_that_is_wrong(wrong, message):
    with pytest.raises(SettingsError, match=message):
        mapped(**wrong)


def test_only_an_experiment_can_be_mapped():
    with pytest.raises(SettingsError, match="base must be an Experiment, got a Sweep"):
        mapped(Sweep(STORM, {RETRIES: [0, 1]}))


def test_an_interrupt_keeps_the_finished_points():
    runs = []

    def interrupted_in_the_third():
        runs.append(None)
        if len(runs) == 3:
            raise KeyboardInterrupt

    points = mapped(Experiment(backend=Simulated(interrupted_in_the_third), workload=STORM.workload))
    assert points[[RATE, RETRIES]].to_numpy().tolist() == [[20, 0], [60, 0]]


def test_an_interrupt_before_the_first_is_finished_is_passed_on():
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mapped(Experiment(backend=Simulated(interrupted), workload=STORM.workload))


def test_a_process_that_ends_too_early_is_an_error_that_says_how_it_ended():
    with pytest.raises(RuntimeError, match="the worker process ended with exit code 3"):
        mapped(Experiment(backend=Simulated(leave), workload=STORM.workload), rates=[20], retries=[0], processes=2)


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (ServerModel(service_time=Constant(value=0.01)), 100),
        (ServerModel(service_time=Exponential(mean=0.5), slots=4), 8),
        (ServerModel(service_time=Uniform(low=0.1, high=0.3), slots=2), 10),
        (ServerModel(service_time=Constant(value=0.5), slots=5, batch_slowdown=0.25), 5),
        (ServerModel(), 4),
    ],
)
def test_the_capacity_is_that_of_all_slots_busy(server, expected):
    assert capacity(MockBackend(server=server, latency=0.25)) == pytest.approx(expected, rel=1e-6)


def test_the_capacity_of_a_skewed_law_is_that_of_its_mean():
    law = Lognormal(median=0.5, sigma=0.5)
    expected = 1 / (0.5 * math.exp(0.5**2 / 2))
    assert capacity(MockBackend(server=ServerModel(service_time=law))) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    "backend",
    [
        MockBackend(),
        MockBackend(server=ServerModel(decode_rate=50)),
        Simulated(leave),
        MockBackend(latency=0, server=ServerModel()),
    ],
)
def test_the_capacity_is_unknown_where_the_model_does_not_say(backend):
    assert math.isnan(capacity(backend))
