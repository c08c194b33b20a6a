"""What a calibration says, predicts and saves."""

import pytest

from llmlab import ClosedLoop, Experiment, JsonLinesObserver, MockBackend, OpenLoop, SettingsError, Sweep, calibrate
from tests.calibration.servers import PATIENT, PROMPTS, SERVERS

BACKEND = SERVERS["tokens"].backend


@pytest.fixture(scope="module")
def sweep():
    base = Experiment(backend=BACKEND, policy=PATIENT, workload=ClosedLoop(calls=300, requests=PROMPTS))
    return Sweep(base, {"workload.users": [1, 8]}).run(progress=False)


@pytest.fixture(scope="module")
def calibration(sweep):
    return calibrate(sweep)


def test_a_sweep_says_itself_what_its_clients_did(calibration):
    assert calibration.policy == PATIENT
    assert [request.characters for request in calibration.requests[:4]] == [request.characters for request in PROMPTS]


def test_it_predicts_loads_by_users_and_by_rate(calibration):
    table = calibration.predict(1, 8, OpenLoop(rate=0.5, calls=2000))
    assert list(table.columns) == ["load", "throughput_per_s", "latency_p50_s", "latency_p95_s", "failure_rate"]
    assert list(table["load"][:2]) == [1, 8]
    assert table["throughput_per_s"][2] == pytest.approx(0.5, rel=0.1)
    assert table["latency_p50_s"][0] < table["latency_p50_s"][1]


def test_a_policy_of_ones_own_can_be_asked_about(calibration):
    one_attempt = PATIENT.replace(retry=PATIENT.retry.replace(max_retries=0))
    table = calibration.predict(4, policy=one_attempt)
    assert table["failure_rate"][0] == pytest.approx(0.12, abs=0.04)


def test_what_was_fitted_is_predicted_setting_by_setting(calibration, sweep):
    table = calibration.validate(sweep)
    assert list(table["workload.users"].unique()) == [1, 8]
    inside = table[table["metric"] == "latency_p50_s"]
    assert (inside["low"] <= inside["measured"]).all()
    assert (inside["error"].abs() < 0.15).all()


def test_it_saves_a_sweep_that_has_this_server(calibration, tmp_path):
    for name in ("server.toml", "server.json"):
        assert Sweep.load(calibration.save(tmp_path / name)).base.backend == calibration.backend
    with pytest.raises(SettingsError, match=r"\.toml"):
        calibration.save(tmp_path / "server.yaml")


def test_it_says_what_it_found_and_what_it_did_not(calibration):
    text = str(calibration)
    assert "server.slots = 4 requests" in text
    assert "Could not be told" in text
    assert "server.keep_alive" in text
    page = calibration._repr_html_()
    assert "<table" in page
    assert "server.decode_rate" in page


def test_files_of_an_observer_tell_load_and_policy_too(tmp_path):
    path = tmp_path / "events.jsonl"
    for users in (1, 6):
        with JsonLinesObserver(path) as observer:
            load = ClosedLoop(calls=200, users=users, requests=PROMPTS)
            Experiment(backend=BACKEND, policy=PATIENT, workload=load, seed=users).record(observers=[observer])
    found = calibrate(path)
    assert found.backend.server.slots == 4
    assert found.policy.retry.max_retries == 2
    assert found.policy.attempt_timeout == pytest.approx(60)
    table = found.validate(str(path))
    assert list(table["metric"]) == ["throughput_per_s", "latency_p50_s", "latency_p95_s", "failure_rate"]


def test_frames_without_calls_can_be_fitted_and_not_compared(sweep):
    found = calibrate(sweep.attempts)
    assert found.backend.server.slots == 4
    with pytest.raises(SettingsError, match="no calls to compare"):
        found.validate(sweep.attempts)


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (3, "events must be a SweepResult"),
        ("nosuch.jsonl", "cannot be read"),
    ],
)
def test_what_is_no_recording_is_refused(events, message):
    with pytest.raises(SettingsError, match=message):
        calibrate(events)


@pytest.mark.parametrize("load", [1.5, [1, 2], "peak"])
def test_what_is_no_load_is_refused(sweep, load):
    with pytest.raises(SettingsError, match="a load is a number of users, a ClosedLoop or an OpenLoop; got"):
        calibrate(sweep).predict(load)


def test_attempts_on_several_backends_are_refused(sweep):
    attempts = sweep.attempts.assign(backend=lambda frame: frame["backend"].astype(object))
    attempts.loc[:9, "backend"] = "other"
    with pytest.raises(SettingsError, match="several backends: "):
        calibrate(attempts)
    with pytest.raises(SettingsError, match="are missing"):
        calibrate(attempts[["call"]])
    with pytest.raises(SettingsError, match="no attempts"):
        calibrate(sweep.attempts[:0])


def test_a_file_of_something_else_is_refused_by_its_line(tmp_path):
    path = tmp_path / "other.jsonl"
    path.write_text('{"a": 1}\n', encoding="utf-8")
    with pytest.raises(SettingsError, match="line 1"):
        calibrate(path)


def test_a_backend_that_was_fitted_is_fitted_again_to_itself():
    first = calibrate(Experiment(backend=MockBackend(seed=1), workload=ClosedLoop(calls=1500), seed=1).run())
    again = calibrate(Experiment(backend=first.backend, workload=ClosedLoop(calls=1500), seed=2).run())
    assert again.backend.latency.median == pytest.approx(first.backend.latency.median, rel=0.06)
