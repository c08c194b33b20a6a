"""The command line as a user meets it: what it prints, what it saves, and how it ends."""

import csv
import errno
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import llmlab
from llmlab.cli import app, exit_code
from llmlab.cli.console import WIDTH, ends_with_a_code, say, say_table, wants_colour
from llmlab.cli.demo import lesson
from llmlab.core.messages import LLMFailure, LLMResponse, Usage
from llmlab.core.settings import SettingsError
from llmlab.core.vocabulary import FailureReason, Fate, FinishReason
from llmlab.experiments.sweep import Sweep

ROOT = Path(__file__).parents[1]
PNG = b"\x89PNG\r\n\x1a\n"


def command(*arguments, **environment):
    """Run the command in a process of its own, from the tree, without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "llmlab", *arguments],
        cwd=ROOT,
        env=_environment(environment),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _environment(changes):
    inherited = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
    return inherited | changes


def invoke(*arguments):
    """Run the command in this process."""
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def attempt_lines(output):
    """Return the lines of the demo between the head of its first table and the empty line after it."""
    lines = output.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("call  attempt"))
    return list(itertools.takewhile(bool, lines[start + 1 :]))


# ---- demo


def test_the_demo_shows_attempts_and_ends_in_a_summary_and_a_lesson():
    result = invoke("demo")
    assert result.exit_code == 0
    lines = attempt_lines(result.stdout)
    assert len(lines) >= 12
    assert any("attempt_timeout" in line and "30.00 s  retry in " in line for line in lines)
    assert any("overloaded (503)" in line and "retry in 4.00 s (Retry-After)" in line for line in lines)
    assert any("gives up: not_retryable" in line for line in lines)
    assert any("done after 2 retries" in line for line in lines)
    assert "fate of the call  reason" in result.stdout
    assert "all                                    12   100%" in result.stdout
    lesson_words = (
        "4 of 12 calls failed at the first attempt; retries answered 3 of these, at the price of 4 attempts more."
    )
    assert lesson_words in " ".join(result.stdout.split())


def test_both_clients_make_the_same_attempts():
    one_by_one, at_once = invoke("demo", "--calls", "40"), invoke("demo", "--calls", "40", "--async")
    assert one_by_one.exit_code == at_once.exit_code == 0
    assert attempt_lines(one_by_one.stdout) != attempt_lines(at_once.stdout)  # in order of time
    assert sorted(attempt_lines(one_by_one.stdout)) == sorted(attempt_lines(at_once.stdout))


def test_the_async_client_overlaps_the_calls():
    def virtual_seconds(output):
        [line] = [line for line in output.splitlines() if line.startswith("All this took")]
        return int(line.split()[3])

    assert virtual_seconds(invoke("demo", "--async").stdout) < virtual_seconds(invoke("demo").stdout)


@pytest.mark.parametrize("form", [[], ["--async"]])
def test_the_same_seed_gives_the_same_output_and_another_seed_another(form):
    assert invoke("demo", *form).stdout == invoke("demo", *form).stdout
    assert invoke("demo", *form, "--seed", "2").stdout != invoke("demo", *form).stdout


def test_fewer_retries_meet_the_same_weather():
    with_retries, without = invoke("demo").stdout, invoke("demo", "--max-retries", "0").stdout

    def first_attempts(output):
        return [line.split("  then")[0][:49] for line in attempt_lines(output) if line[6:13].strip() == "1"]

    assert first_attempts(with_retries) == first_attempts(without)
    assert "Try --max-retries 2." in without


def test_the_deadline_ends_a_call_that_has_retries_left():
    output = invoke("demo", "--timeout-probability", "1", "--max-retries", "10", "--calls", "1").stdout
    assert "total_deadline_exceeded" in output
    assert "gives up: deadline" in output


def test_no_line_of_the_demo_is_wider_than_a_terminal():
    for arguments in (["--seed", "7"], ["--timeout-probability", "0.9", "--async"], ["--calls", "300"]):
        assert max(map(len, invoke("demo", *arguments).stdout.splitlines())) <= WIDTH


def test_the_demo_counts_every_call_once():
    output = invoke("demo", "--calls", "200", "--seed", "3").stdout
    table = output[output.index("fate of the call") :].splitlines()[2:]
    rows = list(itertools.takewhile(bool, table))
    calls = [int(next(cell for cell in row.split() if cell.isdigit())) for row in rows]
    assert sum(calls[:-1]) == calls[-1] == 200


def _answered(attempts):
    return LLMResponse(
        text="{}",
        model="mock",
        usage=Usage(),
        finish_reason=FinishReason.STOP,
        latency=1.0,
        time_to_first_token=None,
        attempts=attempts,
    )


def _failed(attempts, *, retryable=True):
    return LLMFailure(
        reason=FailureReason.OVERLOADED,
        retryable=retryable,
        message="busy",
        fate=Fate.RETRIES_EXHAUSTED,
        attempts=attempts,
        latency=1.0,
    )


@pytest.mark.parametrize(
    ("results", "max_retries", "says"),
    [
        ([_answered(1)], 2, "Every call was answered at the first attempt, so there was nothing to retry."),
        (
            [_answered(1), _answered(2), _failed(3)],
            2,
            "2 of 3 calls failed at the first attempt; retries answered 1 of these, at the price of 3 attempts more.",
        ),
        (
            [_failed(2)],
            1,
            "1 of 1 call failed at the first attempt; retries answered none of these, at the price of 1 attempt more.",
        ),
        (
            [_answered(1), _failed(1), _failed(1, retryable=False)],
            0,
            (
                "2 of 3 calls failed at the first attempt and were not tried again; 1 of these failures are retryable. "
                "Try --max-retries 2."
            ),
        ),
    ],
)
def test_the_lesson_says_what_retries_did(results, max_retries, says):
    assert lesson(results, max_retries) == says


# ---- sweep


def test_the_sweep_ends_in_tables_a_chart_and_numbers(tmp_path):
    out = tmp_path / "made" / "when missing"
    result = invoke("sweep", "--out", str(out), "--calls", "100")
    assert (result.exit_code, result.stderr) == (0, ""), "without a terminal there is no progress bar"
    assert "Failure rate: share of calls that were not answered (95% interval)" in result.stdout
    assert "Retry amplification: attempts per call" in result.stdout
    assert "Latency of all calls, 95th percentile" in result.stdout
    assert "When 20% of attempts time out, 2 retries change the failure rate from" in result.stdout
    assert f"chart    {out / 'failure_rate.png'}" in result.stdout
    assert f"numbers  {out / 'summary.csv'}" in result.stdout
    assert f"runs     {out / 'runs'}" in result.stdout
    assert sorted(path.name for path in out.iterdir()) == ["failure_rate.png", "runs", "summary.csv"]
    assert "runs 24 of 24" in invoke("show", str(out)).stdout
    assert (out / "failure_rate.png").read_bytes().startswith(PNG)
    rows = list(csv.DictReader((out / "summary.csv").read_text().splitlines()))
    assert len(rows) == 24
    assert {row["calls"] for row in rows} == {"100"}
    shown = {row["backend.timeout_probability"] for row in rows}
    assert shown == {"0.0", "0.05", "0.1", "0.2", "0.3", "0.4"}


def test_the_same_seed_sweeps_to_the_same_numbers_and_replaces_the_old_ones(tmp_path):
    def swept(seed):
        assert invoke("sweep", "--out", str(tmp_path), "--calls", "20", "--seed", seed).exit_code == 0
        return (tmp_path / "summary.csv").read_bytes()

    first = swept("1")
    assert swept("2") != first
    assert swept("1") == first


def test_no_line_of_the_sweep_is_wider_than_a_terminal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for calls in ("1", "2", "50"):
        output = invoke("sweep", "--calls", calls).stdout
        assert max(map(len, output.splitlines())) <= WIDTH
    assert (tmp_path / "llmlab-sweep" / "failure_rate.png").exists()


def test_a_sweep_that_is_interrupted_shows_and_saves_what_is_finished(tmp_path, monkeypatch):
    whole = Sweep.run

    def cut_short(self, *, store, progress=True):
        assert store.path == tmp_path / "runs"
        result = whole(self, progress=progress)
        result.runs = result.runs[:5]
        return result

    monkeypatch.setattr(Sweep, "run", cut_short)
    result = invoke("sweep", "--out", str(tmp_path), "--calls", "5")
    assert result.exit_code == 130
    assert result.stderr == "llmlab: interrupted after 5 of 24 combinations; these are shown and saved\n"
    assert "0.05 " in result.stdout
    assert "0.2 " not in result.stdout
    assert len((tmp_path / "summary.csv").read_text().splitlines()) == 6


@pytest.mark.parametrize(("name", "why"), [("file", "File exists"), ("file/below", "Not a directory")])
def test_a_folder_that_cannot_be_made_is_refused_before_the_work(tmp_path, monkeypatch, name, why):
    (tmp_path / "file").touch()
    monkeypatch.setattr(Sweep, "run", lambda *_, **__: pytest.fail("it ran"))
    result = invoke("sweep", "--out", str(tmp_path / name))
    assert result.exit_code == 2
    assert result.stderr == f"llmlab: --out: cannot make the folder '{tmp_path / name}' ({why}); name another\n"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused_before_the_work(tmp_path):
    tmp_path.chmod(0o500)
    result = invoke("sweep", "--out", str(tmp_path))
    assert result.exit_code == 2
    assert "no permission to write" in result.stderr


def test_a_chart_that_cannot_be_written_ends_in_one_line(tmp_path):
    (tmp_path / "failure_rate.png").mkdir()
    result = invoke("sweep", "--out", str(tmp_path), "--calls", "2")
    assert result.exit_code == 1
    assert result.stderr == f"llmlab: cannot write into '{tmp_path}': Is a directory\n"


# ---- arguments


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["demo", "--calls", "0"], "Invalid value for '--calls': must be 1 or more, got 0; see 'llmlab demo --help'"),
        (["demo", "--max-retries", "-1"], "'--max-retries': must be 0 or more, got -1;"),
        (["demo", "--timeout-probability", "1.5"], "'--timeout-probability': must be between 0 and 1, got 1.5;"),
        (["demo", "--timeout-probability", "nan"], "'--timeout-probability': must be between 0 and 1, got nan;"),
        (["demo", "--calls", "many"], "Invalid value for '--calls': "),
        (["demo", "--nonsense"], "--nonsense"),
        (["demo", "more"], "extra argument"),
        (
            ["sweep", "--calls", "-3"],
            "'--calls': must be 1 or more, got -3; see 'llmlab sweep --help'",
        ),
        (["sweep", "--out"], "'--out'"),
        (["sweap"], "No such command 'sweap'"),
    ],
)
def test_wrong_arguments_end_in_one_line_that_says_what_to_do(arguments, complaint, capsys):
    assert exit_code(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert complaint in err
    assert err.startswith("llmlab")
    assert "--help'" in err
    assert err.count("\n") == 1


def test_a_bug_is_not_mistaken_for_a_users_mistake(monkeypatch):
    def broken(**_):
        raise RuntimeError("a bug")

    monkeypatch.setattr("llmlab.cli.demo.run", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        exit_code(["demo"])


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_names_the_commands_with_examples(arguments):
    result = invoke(*arguments)
    assert result.exit_code == 0
    for text in ("Examples:", "llmlab demo --async", "llmlab sweep --out results", "Options:", "Commands:"):
        assert text in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= WIDTH


@pytest.mark.parametrize(("name", "modules"), [("demo", ["demo"]), ("sweep", ["sweep", "sweep_file"])])
def test_the_help_of_a_command_has_examples_with_valid_options(name, modules, monkeypatch):
    ran = []
    for module in modules:
        monkeypatch.setattr(f"llmlab.cli.{module}.run", lambda *_, **options: ran.append(options))
    output = invoke(name, "--help").stdout
    assert max(map(len, output.splitlines())) <= WIDTH
    examples = [
        line.split("   ")[0].split(" > ")[0]
        for line in map(str.strip, output.splitlines())
        if line.startswith("llmlab ")
    ]
    assert len(examples) >= 2
    assert [exit_code(example.split()[1:]) for example in examples] == [0] * len(examples) == [0] * len(ran)


def test_version():
    result = invoke("--version")
    assert (result.exit_code, result.stdout) == (0, f"llmlab {llmlab.__version__}\n")


# ---- ends of a command


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (SettingsError("calls must be 1 or more\nseed must be an integer"), 2, "llmlab: calls must be 1 or more\n"),
        (KeyboardInterrupt(), 130, "llmlab: interrupted\n"),
    ],
)
def test_a_users_doing_becomes_an_exit_code(error, code, said, capsys):
    with pytest.raises(typer.Exit) as ended, ends_with_a_code():
        raise error
    assert ended.value.exit_code == code
    assert capsys.readouterr().err.startswith(said)


def test_a_bug_in_a_command_stays_an_exception():
    with pytest.raises(ZeroDivisionError), ends_with_a_code():
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("environment", "terminal", "coloured"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
        ({"TERM": "dumb"}, True, False),
    ],
)
def test_colour_is_for_terminals_that_want_it(environment, terminal, coloured, monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    assert wants_colour() is coloured


def test_a_table_has_texts_to_the_left_and_numbers_to_the_right(capsys):
    say_table(["name", "note", "n"], [["a", "", "10"], ["bcdef", "x", "9"]], texts=2)
    assert capsys.readouterr().out.splitlines() == [
        "name   note   n",
        "-----  ----  --",
        "a            10",
        "bcdef  x      9",
    ]


def test_what_is_said_goes_out_at_once(monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(typer, "echo", full)
    with pytest.raises(OSError, match="No space left"):
        say("a line")


# ---- as a process


def test_the_module_runs_as_the_command():
    run = command("demo", "--calls", "3", "--seed", "5")
    assert run.returncode == 0
    assert run.stderr == ""
    assert run.stdout == invoke("demo", "--calls", "3", "--seed", "5").stdout
    assert "\x1b" not in run.stdout


def test_wrong_arguments_give_exit_code_2_and_no_traceback():
    run = command("demo", "--calls", "0")
    assert (run.returncode, run.stdout) == (2, "")
    assert "Traceback" not in run.stderr


def test_colour_can_be_forced_and_changes_nothing_but_colour():
    plain, coloured = invoke("demo"), command("demo", FORCE_COLOR="1")
    assert "\x1b[32m" in coloured.stdout
    without = coloured.stdout
    for code in ("\x1b[0m", "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[33m"):
        without = without.replace(code, "")
    assert without == plain.stdout
    assert command("demo", FORCE_COLOR="1", NO_COLOR="1").stdout == plain.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"], ["sweep", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments):
    script = (
        "import sys\n"
        "from llmlab.cli import exit_code\n"
        f"code = exit_code({arguments!r})\n"
        "heavy = {'pandas', 'numpy', 'scipy', 'matplotlib', 'rich', 'llmlab.core'} & set(sys.modules)\n"
        "print(code, sorted(heavy), file=sys.stderr)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stderr == "0 []\n"


def test_the_demo_loads_no_data_frames():
    script = "import sys, llmlab.cli.demo; print({'pandas', 'matplotlib'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


@pytest.mark.benchmark
def test_help_answers_within_half_a_second():
    def measured():
        began = time.perf_counter()
        assert command("sweep", "--help").returncode == 0
        return time.perf_counter() - began

    assert min(measured() for _ in range(5)) < 0.5


@pytest.mark.skipif(os.name != "posix", reason="a pipe's reader goes away otherwise there")
@pytest.mark.parametrize("form", [[], ["--async"]])
def test_a_reader_who_goes_away_is_no_error(form):
    process = subprocess.Popen(
        [sys.executable, "-m", "llmlab", "demo", "--calls", "3000", *form],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        assert process.stdout.readline().startswith("3000 calls")
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device here")
def test_a_full_disk_ends_in_one_line():
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(
            [sys.executable, "-m", "llmlab", "demo"],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert "No space left on device" in run.stderr


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is sent otherwise there")
def test_ctrl_c_ends_with_130_and_no_traceback():
    process = subprocess.Popen(
        [sys.executable, "-m", "llmlab", "demo", "--calls", "20000"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for _ in range(20):
        process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "llmlab: interrupted\n")
