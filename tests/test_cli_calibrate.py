"""`llmlab calibrate` as a user meets it."""

import json

import pytest
from typer.testing import CliRunner

from llmlab import ClosedLoop, Experiment, JsonLinesObserver, Sweep
from llmlab.cli import app
from tests.calibration.servers import PATIENT, PROMPTS, SERVERS


def invoke(*arguments):
    """Run the command in this process."""
    return CliRunner().invoke(app, ["calibrate", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    for name, loads in (("fitted", (1, 6)), ("other", (3,))):
        for users in loads:
            with JsonLinesObserver(folder / f"{name}.jsonl") as observer:
                load = ClosedLoop(calls=200, users=users, requests=PROMPTS)
                experiment = Experiment(backend=SERVERS["ollama"].backend, policy=PATIENT, workload=load, seed=users)
                experiment.record(observers=[observer])
    return folder


def test_it_says_what_it_found_what_it_did_not_and_how_well_that_predicts(recordings, tmp_path):
    server = tmp_path / "server.toml"
    result = invoke(recordings / "fitted.jsonl", "--held-out", recordings / "other.jsonl", "--out", server)
    assert result.exit_code == 0
    assert "fitted to 400 attempts" in result.stdout
    assert "server.slots" in result.stdout
    assert "Could not be told from these events:" in result.stdout
    assert "latency_p95_s" in result.stdout
    assert max(map(len, result.stdout.replace(str(recordings), "").splitlines())) <= 100
    assert Sweep.load(server).base.backend.server.slots == 2


def test_json_has_the_same(recordings):
    data = json.loads(invoke(recordings / "fitted.jsonl", "--held-out", recordings / "other.jsonl", "--json").stdout)
    assert data["backend"]["server"]["slots"] == 2
    assert {row["metric"] for row in data["held_out"]} == set(data["metrics"])
    assert data["unknown"]


def test_the_folder_of_a_sweep_is_a_recording(tmp_path):
    base = Experiment(backend=SERVERS["time"].backend, workload=ClosedLoop(calls=150))
    Sweep(base, {"workload.users": [1, 10]}).run(store=tmp_path / "out" / "runs", progress=False)
    for folder in (tmp_path / "out", tmp_path / "out" / "runs"):
        result = invoke(folder)
        assert result.exit_code == 0
        assert "server.slots" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nosuch.jsonl"], "there is no 'nosuch.jsonl'"),
        (["fitted.jsonl", "--held-out", "nosuch"], "there is no 'nosuch'"),
        (["fitted.jsonl", "--out", "server.yaml"], "must end in .json or .toml"),
        (["nosuch.jsonl", "--out", "none/server.toml"], "--out: there is no folder 'none'"),
        (["wrong.jsonl"], "line 1"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(recordings, monkeypatch, arguments, complaint):
    monkeypatch.chdir(recordings)
    (recordings / "wrong.jsonl").write_text('{"event": "attempt"}\n', encoding="utf-8")
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert complaint in result.stderr
