"""Servers whose truth is known are recovered from what clients recorded of them, and what is not told is said so.

`python -m tests.benchmarks.calibration` has the wide check, with several seeds and predictions at five loads.
"""

import numpy as np
import pandas as pd
import pytest

from llmlab import (
    Burst,
    ClientPolicy,
    ClosedLoop,
    Constant,
    EventLog,
    Experiment,
    Faults,
    Lognormal,
    MockBackend,
    OpenLoop,
    ServerModel,
    SettingsError,
    calibrate,
)
from llmlab.backends.setting_paths import setting_at
from tests.calibration.servers import PATIENT, PROMPTS, SERVERS, measured

LOADS = (1, 4, 16)
# The standard error of a share p of n attempts is sqrt((1 - p) / (p n)) of it: of 5% of 2,000 attempts a tenth.
RARE = {"faults.timeout": 0.45, "faults.overload": 0.25, "faults.server_error": 0.25, "faults.empty": 0.35}


@pytest.fixture(scope="module")
def fitted():
    """Return what each server's 2,000 calls tell, made once."""
    made = {}

    def of(name):
        if name not in made:
            made[name] = calibrate(measured(SERVERS[name].backend, LOADS, 667, seed=1))
        return made[name]

    return of


@pytest.mark.parametrize("name", SERVERS)
def test_the_parameters_of_a_known_server_are_recovered(name, fitted):
    known = SERVERS[name]
    for path in known.told:
        found, true = setting_at(fitted(name).backend, path), known.truth(path)
        assert found == pytest.approx(true, rel=RARE.get(path, 0.05)), path


@pytest.mark.parametrize("name", ["tokens", "ollama", "time"])
def test_loads_that_were_not_fitted_are_predicted(name, fitted):
    again = measured(SERVERS[name].backend, (2, 8), 2000, seed=2)
    table = fitted(name).validate(again).set_index(["workload.users", "metric"])
    latency = table.loc[(slice(None), ["latency_p50_s", "latency_p95_s"]), :]
    assert (latency["error"].abs() <= 0.1).all()
    assert (table.loc[(slice(None), "failure_rate"), "error"].abs() <= 0.02).all()
    assert set(table["predicted"].notna()) == {True}


def test_the_interval_of_a_probability_holds_it(fitted):
    report = fitted("tokens").report.set_index("parameter")
    row = report.loc["faults.overload"]
    assert row["low"] < 0.1 < row["high"]
    assert row["how"].endswith("attempts")


def test_one_user_tells_no_slots_and_no_slowdown():
    found = calibrate(measured(SERVERS["time"].backend, (1,), 300))
    assert found.backend.server is None
    assert {"server.slots", "server.batch_slowdown"} <= set(found.unknown["parameter"])
    assert "2 users or more" in found.advised


def test_a_single_full_load_tells_slots_and_no_slowdown():
    found = calibrate(measured(SERVERS["tokens"].backend, (12,), 400))
    assert found.backend.server.slots == 4
    assert "1 user as well" in found.advised
    assert "server.batch_slowdown" in set(found.unknown["parameter"])


def test_prompts_of_one_length_tell_no_prefill_rate():
    backend = SERVERS["tokens"].backend
    result = Experiment(backend=backend, policy=PATIENT, workload=ClosedLoop(calls=400, users=6)).run()
    unknown = calibrate(result).unknown.set_index("parameter")
    assert unknown.loc["server.prefill_rate", "why"] == "all prompts are about as long"


def test_faults_that_look_alike_are_named():
    unknown = calibrate(measured(SERVERS["tokens"].backend, (2,), 400)).unknown.set_index("parameter")
    assert unknown.loc["faults.timeout", "why"] == "stall, slow_drip, connect_stall would look the same"


def test_answers_that_came_too_late_are_no_faults():
    backend = MockBackend(server=ServerModel(slots=2, service_time=Lognormal(median=1.0, sigma=0.4)))
    hasty = ClientPolicy(attempt_timeout=4.0, total_timeout=None)
    found = calibrate(measured(backend, (1, 2, 4, 7), 300, policy=hasty))
    assert found.backend.faults.timeout == 0
    assert found.backend.server.slots == 2
    assert found.backend.server.service_time.median == pytest.approx(1.0, rel=0.06)


def test_answers_that_never_came_are_faults_although_a_queue_makes_others_late():
    backend = MockBackend(server=ServerModel(slots=2, service_time=Constant(value=1.0)), timeout_probability=0.2)
    found = calibrate(measured(backend, (1, 6), 300, policy=ClientPolicy(attempt_timeout=20)))
    assert found.backend.faults.timeout == pytest.approx(0.2, abs=0.04)
    assert found.backend.server.slots == 2


def test_without_times_to_the_first_token_slots_and_service_are_told_all_the_same():
    attempts, calls = measured(SERVERS["memoryless, in a batch"].backend, (1, 3, 12), 667)
    found = calibrate((attempts.assign(time_to_first_token_s=np.nan), calls))
    assert found.backend.server.slots == 6
    assert found.backend.server.batch_slowdown == pytest.approx(0.4, rel=0.15)
    assert found.backend.server.service_time.mean == pytest.approx(1.0, rel=0.06)
    assert "first_token_share" in set(found.unknown["parameter"])


def test_a_client_that_sees_the_ends_of_answers_late_finds_the_slots_all_the_same():
    pace = {"prefill_rate": 20_000, "decode_rate": 500, "batch_slowdown": 0.4}
    server = ServerModel(slots=2, output_tokens=Lognormal(median=15, sigma=0.5), **pace)
    attempts, _ = measured(MockBackend(server=server), (1, 8), 90, seed=1)
    late = np.random.default_rng(1).uniform(0.0, 0.01, len(attempts))  # the next answer's first token may take 2 ms
    seen = attempts.assign(ended_at_s=attempts["ended_at_s"] + late, latency_s=attempts["latency_s"] + late)
    found = calibrate(seen).backend.server
    assert found.slots == 2
    assert found.batch_slowdown == pytest.approx(0.4, abs=0.1)


def test_a_model_that_is_unloaded_when_idle_is_found_out():
    server = ServerModel(slots=2, decode_rate=40, load_time=2.0, keep_alive=5.0)
    frames = []
    for number, pause in enumerate((1.0, 4.5, 5.5, 9.0)):
        load = ClosedLoop(calls=60, users=1, think_time=pause, requests=PROMPTS)
        frames.append(Experiment(backend=MockBackend(server=server), workload=load, seed=number).run().attempts)
    found = calibrate(pd.concat([frame.assign(pause=n) for n, frame in enumerate(frames)], ignore_index=True))
    assert found.backend.server.load_time == Constant(value=2.0)
    assert found.backend.server.keep_alive == pytest.approx(5.0, abs=0.6)


def test_where_nothing_was_answered_it_says_so():
    log = EventLog()
    Experiment(backend=MockBackend(overload_probability=1.0), workload=ClosedLoop(calls=5)).record(observers=[log])
    with pytest.raises(SettingsError, match="no attempt was answered"):
        calibrate(log)


def test_refusals_of_a_server_that_takes_no_time_are_faults():
    faults = Faults(schedule=Burst(kind="overload", mean_good=20, mean_bad=5, probability=0.9))
    backend = MockBackend(latency=0.0, faults=faults, server=ServerModel(slots=5))
    found = calibrate(Experiment(backend=backend, workload=OpenLoop(rate=0.5, calls=60)).run())
    assert "server.queue" not in set(found.report["parameter"])
    assert found.backend.faults != Faults()


def test_three_answers_give_a_server_and_a_warning():
    found = calibrate(Experiment(workload=ClosedLoop(calls=3, users=1)).run())
    assert found.backend.latency.kind == "constant"
    assert "record 100 answered calls or more" in found.advised
