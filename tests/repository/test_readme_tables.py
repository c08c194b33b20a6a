"""The tables of the guide are those of the code: its defaults, its reasons and its columns cannot drift apart."""

from pathlib import Path

import pytest

from llmlab.backends.distributions import Lognormal
from llmlab.backends.fault_kinds import faults_table
from llmlab.backends.faults import Faults
from llmlab.core import policy
from llmlab.core.events import ATTEMPT_COLUMNS, CALL_COLUMNS, columns_table
from llmlab.core.limits import RateLimit
from llmlab.core.policy import ClientPolicy
from llmlab.core.vocabulary import reasons_table
from llmlab.llms import LOCAL_POLICY, LocalLLM, MockLLM, OpenAILLM
from llmlab.telemetry import mapping_table

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = "\n".join(page.read_text(encoding="utf-8") for page in sorted((ROOT / "notebooks/guide").glob("*.md")))
PICTURE = ROOT / "notebooks" / "pictures" / "failure_rate.png"


def defaults_table() -> str:
    return "\n".join(line for line in (policy.__doc__ or "").splitlines() if line.startswith("|"))


@pytest.mark.parametrize(
    "table",
    [
        pytest.param(reasons_table(), id="reasons"),
        pytest.param(defaults_table(), id="defaults"),
        pytest.param(faults_table(), id="faults"),
        pytest.param(columns_table(ATTEMPT_COLUMNS), id="attempts"),
        pytest.param(columns_table(CALL_COLUMNS), id="calls"),
        pytest.param(mapping_table(), id="telemetry"),
    ],
)
def test_a_table_of_the_guide_is_the_one_of_the_code(table):
    assert table.count("\n") > 10
    assert f"\n\n{table}\n\n" in f"{GUIDE}\n", f"put this into notebooks/guide:\n\n{table}"


def rows_of_the_defaults() -> dict[str, str]:
    """Read the defaults' table: each setting with what stands in its column `default`."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in defaults_table().splitlines()[2:]]
    return {name.strip("` "): default for names, default, _ in rows for name in names.split(",")}


SUBJECTS = {
    "RateLimit": RateLimit(),
    "MockLLM": MockLLM().backend,
    "LocalLLM": LocalLLM().backend,
    "OpenAILLM": OpenAILLM().backend,
}
"""Whose defaults stand in the table beside those of `ClientPolicy`."""


def value(path: str) -> object:
    first, _, rest = path.partition(".")
    found: object = SUBJECTS.get(first, ClientPolicy())
    for name in (rest if first in SUBJECTS else path).split("."):
        found = getattr(found, name)
    return found


@pytest.mark.parametrize("path", sorted(rows_of_the_defaults()))
def test_the_defaults_are_what_their_table_says(path):
    said, default = rows_of_the_defaults()[path], value(path)
    if path == "retry.backoff":
        backoff = ClientPolicy().retry.backoff
        assert said == f"{backoff.base:g} s doubling to {backoff.maximum:g} s"
        assert backoff.factor == 2
    elif isinstance(default, Lognormal):
        assert said == f"lognormal, median {default.median:g} s, sigma {default.sigma:g}"
    elif default == Faults():
        assert said == "none"
    elif default is None:
        assert said in {"none", "all retryable reasons"}
    elif isinstance(default, bool):
        assert said == str(default).lower()
    elif isinstance(default, float):
        assert said == f"{default:g} s"
    else:
        assert said.strip("`") == str(default)


def test_every_setting_of_a_policy_stands_in_the_table_of_defaults():
    listed = {path.split(".")[0] for path in rows_of_the_defaults()} - set(SUBJECTS)
    assert listed == set(ClientPolicy.model_fields)


def test_what_the_table_says_of_local_models_is_true():
    table = defaults_table()
    assert f"`LocalLLM` takes {LOCAL_POLICY.attempt_timeout:g} s: a cold model loads first" in table
    assert f"`LocalLLM` takes {LOCAL_POLICY.total_timeout:g} s |" in table
    assert f"`LocalLLM` takes {LOCAL_POLICY.max_concurrency}, since" in table


def test_the_picture_is_there_and_small():
    assert "](notebooks/pictures/failure_rate.png)" in README
    assert PICTURE.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert PICTURE.stat().st_size < 100_000
