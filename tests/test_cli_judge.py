"""`llmlab judge`: what it prints, and how it ends."""

import json

import pytest
from typer.testing import CliRunner

from llmlab.cli import app, exit_code
from llmlab.conduct.recording import Header
from llmlab.conduct.recording_file import RecordingWriter
from tests.conduct.scenes import asked, cut, keyed, recorded

STARTED = 1.7e9


def invoke(*arguments):
    return CliRunner().invoke(app, ["judge", *map(str, arguments)])


@pytest.fixture
def record(tmp_path):
    """Write requests as a recording; return its file."""

    def write(requests):
        scene = recorded(requests)
        with RecordingWriter(tmp_path / "conduct.jsonl", Header(started_at=STARTED)) as writer:
            for one in (*scene.requests, *scene.closed.values()):
                writer(one)
        return writer.path

    return write


@pytest.fixture
def outcomes(tmp_path):
    """Write what a client reports of one call."""

    def write(line):
        path = tmp_path / "outcomes.jsonl"
        path.write_text(line if isinstance(line, str) else json.dumps(line))
        return path

    return write


def test_a_client_without_offence_ends_with_0(record):
    result = invoke(record([asked(1.0)]))
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "acme/1.0: 1 call, 1 request, 0 connections"
    assert lines[-1] == "No rule was seen broken; 10 of 10 could not be told."
    assert max(map(len, lines)) <= 80


def test_a_guilty_client_ends_with_1_and_its_offence_comes_first(record):
    result = invoke(record([keyed(0, 1, asked(1.0, status=404)), keyed(0, 2, asked(2.0, status=404))]))
    assert result.exit_code == 1
    assert result.stdout.splitlines()[2] == "GUILTY    retried_final_answer"
    assert result.stdout.splitlines()[-1] == "Guilty: retried_final_answer."


def test_a_deadline_and_the_other_bounds_are_options(record):
    file = record([asked(1.0, lasts=9.0), asked(2.0, lasts=9.0, body="b")])
    assert "guilty" not in invoke(file).stdout.lower()
    assert "GUILTY    hung" in invoke(file, "--deadline", "5").stdout
    assert "GUILTY    too_many_in_flight" in invoke(file, "--max-in-flight", "1").stdout


def test_what_the_client_reports_is_on_the_clock_of_the_world(record, outcomes):
    file = record([cut(10.0)])
    reported = outcomes({"outcome": "answered", "started_at": STARTED + 9.5, "ended_at": STARTED + 10.5})
    assert "GUILTY    accepted_truncated" in invoke(file, "--outcomes", reported).stdout
    another_time = outcomes({"outcome": "answered", "started_at": STARTED - 9.5, "ended_at": STARTED - 8.5})
    assert "unknown   accepted_truncated" in invoke(file, "--outcomes", another_time).stdout


def test_json_has_the_findings_and_the_same_exit_code(record):
    result = invoke(record([asked(1.0, lasts=9.0)]), "--deadline", "5", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["findings"][0]["rule"] == "hung"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{}", "line 1: is no outcome (Input should be a valid number)"),
        ('\n{"outcome": "maybe", "started_at": 1, "ended_at": 2}', "line 2: is no outcome (outcome must be one of"),
        ('{"outcome": "failed", "started_at": 1, "ended_at": 2, "x": 1}', "is no outcome (Outcome has no setting 'x'"),
        ("answered", "line 1: is no outcome (Invalid JSON"),
        ('{"outcome": "failed", "started_at": NaN, "ended_at": 2}', "line 1: is no outcome ("),
    ],
)
def test_a_wrong_outcome_is_named_with_its_line(record, outcomes, line, complaint):
    result = invoke(record([asked(1.0)]), "--outcomes", outcomes(line))
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert 'a line is {"outcome": "answered" or "failed"' in result.stderr


def test_a_file_that_is_no_recording_ends_with_2(tmp_path):
    (tmp_path / "events.jsonl").write_text('{"event":"call"}\n')
    result = invoke(tmp_path / "events.jsonl")
    assert result.exit_code == 2
    assert "holds events, not a recording; make one with `llmlab serve --record FILE`" in result.stderr
    assert invoke(tmp_path / "nothing.jsonl").exit_code == 2
    assert invoke(tmp_path / "events.jsonl", "--outcomes", tmp_path / "nothing.jsonl").exit_code == 2


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf"])
def test_a_deadline_is_a_number_above_0(capsys, value):
    assert exit_code(["judge", "x", "--deadline", value]) == 2
    assert f"must be a number above 0, got {float(value):g}" in capsys.readouterr().err
