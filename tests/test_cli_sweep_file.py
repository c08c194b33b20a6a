"""`llmlab sweep FILE` and `llmlab schema` as a user meets them."""

import csv
import json

import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from llmlab import ClosedLoop, Experiment, MockBackend, OllamaBackend, Sweep
from llmlab.cli import app, exit_code
from llmlab.cli.console import WIDTH

SMALL = Experiment(workload=ClosedLoop(calls=20))
RETRIES = "policy.retry.max_retries"


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    grid = {RETRIES: [0, 2], "backend.timeout_probability": [0.0, 0.5]}
    return Sweep(SMALL, grid, replicates=2).save(tmp_path / "retries.toml")


def test_a_file_is_run_shown_and_its_numbers_saved(file, tmp_path):
    result = invoke("sweep", file)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].endswith("retries.toml: points 4, replicates 2, runs 8")
    assert lines[2].split()[:3] == ["max_retries", "timeout_probability", "calls"]
    assert [line.split()[:3] for line in lines[4:8]] == [
        ["0", "0", "40"],
        ["0", "0.5", "40"],
        ["2", "0", "40"],
        ["2", "0.5", "40"],
    ]
    with (tmp_path / "retries-results" / "summary.csv").open() as numbers:
        rows = list(csv.DictReader(numbers))
    assert float(rows[0]["failure_rate"]) == 0 < float(rows[1]["failure_rate"])


def test_the_numbers_are_those_of_the_same_sweep_in_python(file, tmp_path):
    out = tmp_path / "elsewhere"
    assert invoke("sweep", file, "--out", out).exit_code == 0
    expected = Sweep.load(file).run(progress=False).summary().to_csv(index=False)
    assert (out / "summary.csv").read_text() == expected


def test_json_is_one_document_and_nothing_else(file):
    result = invoke("sweep", file, "--json")
    data = json.loads(result.stdout)
    assert (data["planned"], data["finished"], data["interrupted"]) == (8, 8, False)
    assert data["parameters"] == [RETRIES, "backend.timeout_probability"]
    assert [row[RETRIES] for row in data["summary"]] == [0, 0, 2, 2]
    assert data["summary"][0]["failed_latency_p50_s"] is None  # none failed


def test_a_long_table_is_cut_and_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = Experiment(workload=ClosedLoop(calls=1))
    Sweep(few, {"seed": range(60)}).save("seeds.json")
    output = invoke("sweep", "seeds.json").stdout
    assert "... and 10 points more" in output
    assert max(map(len, output.splitlines())) <= WIDTH


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[gird]", "retries.toml: Sweep has no setting 'gird'; did you mean 'grid'?"),
        ("[grid]\npolicy.retry.max_retrys=[1]", "did you mean 'max_retries'?"),
        ("[base.backend]\nkind='me.Mine'", "one of your own is given in Python"),
        ("= 3", "retries.toml: is no TOML"),
    ],
)
def test_a_users_mistake_in_a_file_is_told_in_a_line_and_ends_with_2(file, text, message):
    file.write_text(text)
    result = invoke("sweep", file)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""
    assert not file.with_name("retries-results").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.toml"], "missing.toml: cannot be read: No such file or directory"),
        (
            ["retries.toml", "--calls", "5"],
            "for the built-in sweep; set base.workload.calls in 'retries.toml'",
        ),
        (["retries.toml", "--seed", "0"], "--seed is for the built-in sweep; set base.seed in 'retries.toml'"),
        (["--json"], "--json needs a FILE"),
        (["--workers", "2"], "--workers needs a FILE"),
        (["--resume"], "--resume needs a FILE"),
        (["retries.toml", "--out", "retries.toml"], "--out: cannot make the folder 'retries.toml'"),
    ],
)
def test_wrong_arguments_end_with_2(file, capsys, arguments, message):
    assert exit_code(["sweep", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_an_interrupted_sweep_of_a_file_keeps_what_is_finished(file, monkeypatch):
    whole = Sweep.run

    def stopped(self, **options):
        result = whole(self, **options)
        del result.runs[3:]
        return result

    monkeypatch.setattr(Sweep, "run", stopped)
    result = invoke("sweep", file)
    monkeypatch.undo()
    assert result.exit_code == 130
    assert "interrupted after 3 of 8 runs; these are shown and saved" in result.stderr
    assert file.with_name("retries-results").joinpath("summary.csv").exists()


def test_resume_computes_only_what_is_missing_and_nothing_is_mixed_without_it(file, tmp_path):
    out = tmp_path / "out"
    assert invoke("sweep", file, "--out", out).exit_code == 0
    refused = invoke("sweep", file, "--out", out)
    assert refused.exit_code == 2
    assert "has results already; --resume computes only what is missing" in refused.stderr
    before = {path.name for path in out.rglob("*.parquet")}
    assert invoke("sweep", file, "--out", out, "--resume").exit_code == 0
    assert {path.name for path in out.rglob("*.parquet")} == before  # nothing was computed again
    Sweep.load(file).replace(replicates=3).save(file)
    resumed = json.loads(invoke("sweep", file, "--out", out, "--resume", "--json").stdout)
    assert (resumed["planned"], resumed["finished"]) == (12, 12)
    assert invoke("show", out / "runs").stdout.splitlines()[0].endswith("runs 12 of 12")
    expected = Sweep.load(file).run(progress=False).summary().to_csv(index=False)
    assert (out / "summary.csv").read_text() == expected


def test_workers_change_nothing_but_the_time(file, tmp_path):
    assert invoke("sweep", file, "--out", tmp_path / "one", "--workers", 1).exit_code == 0
    assert invoke("sweep", file, "--out", tmp_path / "two", "--workers", 2).exit_code == 0
    assert (tmp_path / "one" / "summary.csv").read_text() == (tmp_path / "two" / "summary.csv").read_text()


def test_runs_that_fail_cost_themselves_and_end_with_1(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OLLAMA_HOST", "ftp://nowhere")  # found out when the run begins
    backends = [MockBackend(), OllamaBackend(model="x")]
    Sweep(Experiment(workload=ClosedLoop(calls=2)), {"backend": backends}).save("both.toml")
    result = invoke("sweep", "both.toml")
    assert result.exit_code == 1
    assert "MockBackend()" in result.stdout
    assert "failed: experiment.backend=OllamaBackend(" in result.stderr
    assert "OLLAMA_HOST must be an address" in result.stderr
    assert "1 of 2 runs failed; the others are shown and saved" in result.stderr
    assert "Traceback" not in result.stderr
    data = json.loads(invoke("sweep", "both.toml", "--json", "--resume").stdout)
    assert (data["finished"], data["failures"][0]["settings"]["experiment.backend"]["kind"]) == (1, "ollama")

    Sweep(Experiment(backend=OllamaBackend(model="x"))).save("none.toml")
    result = invoke("sweep", "none.toml")
    assert result.exit_code == 1
    assert result.stderr.startswith("llmlab: none of 1 runs could be finished. The first to fail: the only point")
    assert "Traceback" not in result.stderr


def test_the_schema_is_written_as_json():
    result = invoke("schema")
    assert result.exit_code == 0
    schema = json.loads(result.stdout)
    Draft202012Validator.check_schema(schema)
    assert schema == Sweep.json_schema()
