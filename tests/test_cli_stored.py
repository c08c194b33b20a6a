"""`llmlab show` and `llmlab plot` as a user meets them."""

import json

import pytest
from typer.testing import CliRunner

from llmlab import plots
from llmlab.cli import app
from llmlab.cli.plot import KINDS
from tests.test_cli_report import RETRIES, begin

PNG = b"\x89PNG\r\n\x1a\n"


def invoke(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return begin(tmp_path_factory.mktemp("cli") / "results", 2)


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def test_what_is_stored_is_shown(results):
    result = invoke("show", results)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].endswith("results: runs 2 of 2")
    assert [line.split()[:2] for line in lines[4:]] == [["0", "50"], ["2", "50"]]


def test_an_unfinished_sweep_is_shown_as_far_as_it_is(tmp_path):
    begin(tmp_path / "part", 1)
    assert "runs 1 of 2" in invoke("show", "part").stdout
    data = json.loads(invoke("show", "part", "--json").stdout)
    assert (data["planned"], data["finished"], data["interrupted"]) == (2, 1, True)
    assert [row[RETRIES] for row in data["summary"]] == [0]


def test_a_chart_is_drawn_by_the_short_names_of_settings(results, tmp_path):
    result = invoke("plot", results, "--x", "max_retries")
    assert (result.exit_code, result.stdout) == (0, "chart    failure-rate.png\n")
    assert (tmp_path / "failure-rate.png").read_bytes().startswith(PNG)
    whole = invoke("plot", results, "--kind", "latency-histogram")
    assert whole.stdout == f"chart    latency-histogram.png\n         all values of {RETRIES} together\n"
    assert invoke("plot", results, "--kind", "latency-ecdf", "--hue", RETRIES, "--out", "e.svg").exit_code == 0
    assert (tmp_path / "e.svg").read_text().startswith("<?xml")


def test_the_help_lists_every_chart():
    output = " ".join(invoke("plot", "--help").stdout.split())
    assert all(kind in output for kind in KINDS)
    assert all(getattr(plots, kind.replace("-", "_")) is chart for kind, chart in KINDS.items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--kind", "failurerate"], "--kind: there is no chart 'failurerate'; did you mean 'failure-rate'?"),
        (["--x", "max_retrys"], "--x: no setting 'max_retrys' was swept; valid: policy.retry.max_retries"),
        ([], "--x: the chart 'failure-rate' needs a swept setting there; valid: policy.retry.max_retries"),
        (["--x", RETRIES, "--y", RETRIES], "--y: the chart 'failure-rate' has none; leave it out"),
        (["--x", RETRIES, "--out", "chart.gif"], "--out: the name must end in .pdf, .png or .svg; got 'chart.gif'"),
        (["--x", RETRIES, "--out", "none/chart.png"], "--out: there is no folder 'none'; name a file in a folder"),
    ],
)
def test_wrong_options_are_told_in_a_line_and_end_with_2(results, options, message):
    result = invoke("plot", results, *options)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize("command", [["show"], ["plot", "--kind", "latency-ecdf"]])
def test_a_folder_without_results_ends_with_2(tmp_path, command):
    name, *options = command
    assert "there is no store" in (found := invoke(name, "missing", *options)).stderr
    assert found.exit_code == 2
    begin(tmp_path / "empty", 0)
    assert "no run is finished in 'empty'" in invoke(name, "empty", *options).stderr
