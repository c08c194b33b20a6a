"""Real clients on trial: what the judge says of `openai`, `ollama` and `litellm`, in Python and in JavaScript.

Behind the marker `third_party`: `pip install -e ".[test,trial]"`, Node.js 20 or newer with npm, and then
`pytest -m third_party` (about three minutes; npm's packages are fetched into a temporary folder). The table in the
guide is what was seen on the day that it names, and what is expected here.
"""

import importlib.metadata
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.third_party.trials import PROGRAMS, WEATHERS, put_on_trial, python_program

pytestmark = [pytest.mark.third_party, pytest.mark.timeout(900)]

GUIDE = Path(__file__).parents[2] / "notebooks/guide/testing.md"
CLIENTS = ("openai (Python)", "litellm (Python)", "ollama (Python)", "openai (JavaScript)", "ollama (JavaScript)")


def documented():
    """What the guide's table says of each client, by weather."""
    lines = GUIDE.read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| weather |"))
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[start:] if line.startswith("|")]
    heads, rows = rows[0], rows[2 : 2 + len(WEATHERS)]
    return {
        client: {row[0]: row[column] for row in rows}
        for client in CLIENTS
        for column, head in enumerate(heads)
        if head.startswith(f"{client} ")
    }


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A folder in which npm has put the JavaScript clients, with the programs beside them."""
    missing = [tool for tool in ("node", "npm") if shutil.which(tool) is None]
    if missing:
        pytest.fail(f"{' and '.join(missing)} not found: install Node.js 20 or newer, with npm")
    folder = tmp_path_factory.mktemp("npm")
    for program in PROGRAMS.glob("*.mjs"):
        shutil.copy(program, folder)
    quiet = ["--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    subprocess.run(["npm", "install", *quiet, "openai", "ollama"], cwd=folder, check=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def trial_of(request):
    """What was seen of a client, by its name; each is put on trial once."""
    seen = {}

    def of(client):
        if client not in seen:
            seen[client] = put_on_trial(command_of(client, request))
        return seen[client]

    return of


def command_of(client, request):
    name, _, language = client.partition(" ")
    if language == "(JavaScript)":
        return ["node", str(request.getfixturevalue("packages") / f"{name}_js.mjs")]
    version_of(client, request)
    return python_program(f"{name}_python")


def version_of(client, request):
    name, _, language = client.partition(" ")
    if language == "(JavaScript)":
        package = request.getfixturevalue("packages") / "node_modules" / name / "package.json"
        return json.loads(package.read_text())["version"]
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pytest.fail(f"{name} is not installed: pip install -e '.[test,trial]'")


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_behaves_as_the_readme_says(client, trial_of):
    assert {weather: str(seen) for weather, seen in trial_of(client).items()} == documented()[client]


def test_the_table_of_the_readme_can_be_made_anew(request, trial_of, capsys):
    heads = [f"{client} {version_of(client, request)}" for client in CLIENTS]
    rows = [[weather, *(str(trial_of(client)[weather]) for client in CLIENTS)] for weather in WEATHERS]
    lines = [f"| {' | '.join(cells)} |" for cells in (["weather", *heads], ["---"] * (len(heads) + 1), *rows)]
    with capsys.disabled():
        print("\n" + "\n".join(lines))
    assert len(lines) == len(WEATHERS) + 2
