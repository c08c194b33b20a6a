"""The notebooks keep their form: a question as title, short cells, an assertion at the end, nothing stored in git.

That they run, and that their findings hold, is nbmake's work: pytest collects the notebooks themselves.
"""

import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from llmlab import plots

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.ipynb"))}
LISTED = re.findall(r"^\d+\. \[([\w.]+)\]\(([\w.]+)\): (.+?)$", (FOLDER / "README.md").read_text("utf-8"), re.MULTILINE)

LONGEST_CELL = 15  # lines; what needs more belongs into the package

each_notebook = pytest.mark.parametrize("name", NOTEBOOKS)


def cells(name: str, kind: str) -> list[dict[str, Any]]:
    return [cell for cell in NOTEBOOKS[name]["cells"] if cell["cell_type"] == kind]


def lines(cell: dict[str, Any]) -> list[str]:
    return "".join(cell["source"]).splitlines()


@each_notebook
def test_a_notebook_is_of_the_current_format_for_any_python(name):
    notebook = NOTEBOOKS[name]
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert set(notebook["metadata"]) <= {"kernelspec", "language_info"}, "no widget state, no editor's settings"
    assert set(notebook["metadata"]["language_info"]) == {"name"}, "no version of the one Python that ran it last"


@each_notebook
def test_every_cell_has_an_id_of_its_own(name):
    ids = [cell["id"] for cell in NOTEBOOKS[name]["cells"]]
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", each) for each in ids)
    assert len(set(ids)) == len(ids)


@each_notebook
def test_nothing_that_a_run_leaves_behind_is_stored(name):
    left = [cell["id"] for cell in cells(name, "code") if cell["outputs"] or cell["execution_count"] is not None]
    assert left == [], "run `nbstripout notebooks/*.ipynb`"
    assert all(cell["metadata"] == {} for cell in NOTEBOOKS[name]["cells"])


@each_notebook
def test_the_title_is_a_question_and_the_answer_follows_at_once(name):
    first = NOTEBOOKS[name]["cells"][0]
    title, _, answer, *_ = lines(first)
    assert first["cell_type"] == "markdown"
    assert re.fullmatch(r"# [^#].*\?", title)
    assert answer.startswith("**")
    assert [line for cell in cells(name, "markdown") for line in lines(cell) if line.startswith("# ")] == [title]


@each_notebook
def test_it_says_what_would_change_the_answer(name):
    assert any(lines(cell)[0] == "## What would change this" for cell in cells(name, "markdown"))


@each_notebook
def test_cells_are_short(name):
    lengths = {cell["id"]: len(lines(cell)) for cell in cells(name, "code")}
    assert {cell: length for cell, length in lengths.items() if length > LONGEST_CELL} == {}


@each_notebook
def test_no_cell_is_empty(name):
    assert [cell["id"] for cell in NOTEBOOKS[name]["cells"] if not "".join(cell["source"]).strip()] == []


@each_notebook
def test_the_first_cell_reads_the_size_of_the_run(name):
    assert 'os.environ.get("LLMLAB_NOTEBOOK_SIZE", "quick")' in "".join(cells(name, "code")[0]["source"])


@each_notebook
def test_the_last_cell_asserts_the_finding(name):
    last = NOTEBOOKS[name]["cells"][-1]
    assert last["cell_type"] == "code"
    assert any(line.startswith("assert ") for line in lines(last))


@each_notebook
def test_only_public_modules_are_imported(name):
    code = "\n".join(line for cell in cells(name, "code") for line in lines(cell))
    imported = re.findall(r"^(?:from|import) (llmlab\S*)", code, re.MULTILINE)
    assert imported
    assert [module for module in imported if module.startswith("llmlab.core") or "._" in module] == []


@each_notebook
def test_links_between_notebooks_lead_somewhere(name):
    text = "".join("".join(cell["source"]) for cell in cells(name, "markdown"))
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert [target for target in targets if "://" not in target and not (FOLDER / target).exists()] == []


def test_the_chart_gallery_shows_every_chart():
    code = "\n".join(line for cell in cells("chart_gallery.ipynb", "code") for line in lines(cell))
    charts = {name for name in plots.__all__ if callable(getattr(plots, name)) and name.islower()}
    assert {name for name in charts if f"plots.{name}(" not in code} == set()


def test_the_projects_readme_gives_the_same_reading_order():
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    paragraph = readme.partition("The notebooks answer one question each")[2].partition("\n\n")[0]
    assert re.findall(r"\]\(notebooks/([\w.]+)\)", paragraph) == [name for name, _, _ in LISTED]


def test_each_notebook_ends_with_the_one_to_read_next():
    order = [name for name, _, _ in LISTED]
    text = {name: "\n".join(line for cell in cells(name, "markdown") for line in lines(cell)) for name in order}
    following = {name: re.findall(r"^Next: \[.+\]\((.+)\)$", text[name], re.MULTILINE) for name in order}
    assert following == {name: [after] for name, after in pairwise(order)} | {order[-1]: []}


@pytest.mark.slow
def test_a_finding_that_does_not_hold_fails_the_tests(tmp_path):
    text = (FOLDER / "sweeps_that_resume.ipynb").read_text(encoding="utf-8")
    assert text.count('"assert same_rows') == 1
    (tmp_path / "broken.ipynb").write_text(text.replace('"assert same_rows', '"assert not same_rows'), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "--nbmake", "-p", "no:cacheprovider", "broken.ipynb"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stdout + run.stderr
    assert re.search(r"assert .*not.* same_rows", run.stdout), "and the cell is shown"


def test_the_readme_lists_every_notebook_once():
    assert sorted(name for name, _, _ in LISTED) == sorted(NOTEBOOKS)
    assert all(name == target for name, target, _ in LISTED)


def test_the_readme_names_each_notebooks_own_question():
    text = " ".join((FOLDER / "README.md").read_text(encoding="utf-8").split())
    titles = {name: lines(NOTEBOOKS[name]["cells"][0])[0].removeprefix("# ") for name in NOTEBOOKS}
    assert {name: title for name, title in titles.items() if f"({name}): {title}" not in text} == {}
