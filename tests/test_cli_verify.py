"""`llmlab verify`: what it prints, and how it ends."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from llmlab.cli import app, exit_code
from llmlab.cli.verify import number
from llmlab.experiments.verify import CASES, case_names, proof
from llmlab.experiments.verify.case import Checks

ROOT = Path(__file__).parents[1]
WIDTH = 80


def invoke(*arguments):
    return CliRunner().invoke(app, ["verify", *arguments])


@pytest.fixture
def a_miss(monkeypatch):
    """A case with three checks, the last two of which miss."""

    def case(size):
        checks = Checks("a miss", "a source")
        checks.exactly("right", 1.0, 1.0)
        checks.within("wrong", 1.0, 1.0 + size, 0.01)
        checks.exactly("not measured", 1.0, math.nan)
        return checks.made

    monkeypatch.setattr(proof, "CASES", {"a miss": case, "rate limit": CASES["rate limit"]})


def test_checks_that_hold_end_with_0():
    result = invoke("--quick", "--case", "layered-retries", "--case", "per-attempt timeout trap")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[:3] == [
        "per-attempt timeout trap",
        "by openai-python's backoff, 0.5 s doubling, without its jitter",
        "quantity                                   expected  measured  tolerance  result",
    ]
    assert "attempts at the bottom of 5 layers       243       243      exact   holds" in lines
    assert lines[-1].startswith("All 4 checks hold (")
    assert max(map(len, lines)) <= WIDTH


def test_a_miss_ends_with_1_and_is_named_at_the_end(a_miss):
    result = invoke()
    assert result.exit_code == 1
    assert "wrong                1         2       0.01  MISSES" in result.stdout
    assert "not measured         1       nan      exact  MISSES" in result.stdout
    assert "rate limit\n" in result.stdout, "the other cases are run all the same"
    assert result.stdout.splitlines()[-3].startswith("2 of 7 checks miss (")
    assert result.stdout.splitlines()[-2:] == ["  a miss: wrong", "  a miss: not measured"]


def test_quick_is_a_smaller_size(a_miss):
    assert "wrong                1      1.05       0.01  MISSES" in invoke("--quick").stdout


def test_json_has_every_check_and_the_same_exit_code(a_miss):
    result = invoke("--json")
    assert result.exit_code == 1
    checks = json.loads(result.stdout, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert [check["holds"] for check in checks] == [True, False, False, True, True, True, True]
    assert checks[1] == {
        "case": "a miss",
        "quantity": "wrong",
        "expected": 1.0,
        "measured": 2.0,
        "tolerance": 0.01,
        "holds": False,
        "source": "a source",
    }
    assert checks[2]["measured"] is None


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_an_unknown_case_ends_with_2_and_the_list(more):
    result = invoke("--case", "storms", *more)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("llmlab: there is no case 'storms'; ")
    assert all(name in result.stderr for name in CASES)


@pytest.mark.parametrize("arguments", [["--quick", "more"], ["--case"], ["--size", "1"]])
def test_wrong_arguments_end_with_2_and_one_line(arguments, capsys):
    assert exit_code(["verify", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.rstrip().endswith("--help'")


def test_the_help_has_examples_with_valid_options(monkeypatch):
    ran = []
    monkeypatch.setattr("llmlab.cli.verify.run", lambda **options: ran.append(options))
    output = invoke("--help").stdout
    assert max(map(len, output.splitlines())) <= WIDTH
    examples = [line for line in map(str.strip, output.splitlines()) if line.startswith("llmlab ")]
    assert [exit_code(example.split()[1:]) for example in examples] == [0, 0, 0]
    assert ran[1]["quick"]
    assert case_names(ran[2]["cases"]) == ["M/M/c", "retry storms"]


def test_help_loads_nothing_heavy():
    script = (
        "import sys\n"
        "from llmlab.cli import exit_code\n"
        "code = exit_code(['verify', '--help'])\n"
        "heavy = {'pandas', 'numpy', 'scipy', 'matplotlib', 'rich', 'llmlab.core'} & set(sys.modules)\n"
        "print(code, sorted(heavy), file=sys.stderr)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stderr == "0 []\n"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (0.8, "0.8"),
        (1 / 3, "0.3333"),
        (21.910133, "21.91"),
        (64065.4, "64065"),
        (-2.5, "-2.5"),
        (0.00012345, "0.0001234"),
        (1.8e-15, "1.8e-15"),
        (1.2e9, "1.2e+09"),
        (math.inf, "inf"),
    ],
)
def test_numbers_are_short(value, shown):
    assert number(value) == shown
