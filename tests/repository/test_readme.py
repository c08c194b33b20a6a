"""What the README promises is true: its commands have the form that .ci/run executes, and its examples run.

So do the examples of the book's pages.

A Python block after `<!-- needs: ... -->` needs what a test machine does not have (Ollama, a cluster); it is compiled.
"""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from llmlab import Sweep

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


class Block(NamedTuple):
    """A fenced block of the README."""

    comment: str  # the HTML comment on the line before, "" if there is none
    language: str
    code: str
    line: int  # of the code's first line, counted from 1, as in an editor


def blocks(markdown: str) -> list[Block]:
    pattern = r"(?:^<!-- (?P<comment>[^\n]*) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$"
    return [
        Block(
            comment=match["comment"] or "",
            language=match["language"],
            code=match["code"],
            line=markdown.count("\n", 0, match.start("code")) + 1,
        )
        for match in re.finditer(pattern, markdown, flags=re.MULTILINE | re.DOTALL)
    ]


PAGES = [ROOT / "README.md", *sorted((ROOT / "notebooks").rglob("*.md"))]
PYTHON_BLOCKS = [
    pytest.param(page, each, id=f"{page.relative_to(ROOT)} line {each.line}")
    for page in PAGES
    for each in blocks(page.read_text(encoding="utf-8"))
    if each.language == "python"
]


def command(name: str) -> str:
    [found] = [each.code for each in blocks(README) if each.comment == f"command: {name}"]
    return found


@pytest.mark.parametrize(
    ("name", "ends_with"),
    [
        ("run", ".venv/bin/llmlab sweep"),
        ("test", ".venv/bin/pytest -n logical --maxprocesses 4 --dist worksteal"),
        ("book", ".venv/bin/sphinx-build -q -W --keep-going -j auto notebooks build/book"),
    ],
)
def test_a_command_is_one_line_that_needs_only_python_and_pip(name, ends_with):
    first, *steps = command(name).removesuffix("\n").split(" && ")
    assert "\n" not in command(name).removesuffix("\n")
    assert first == "python3 -m venv .venv"
    assert all(step.startswith(".venv/bin/") for step in steps)
    assert steps[-1] == ends_with


@pytest.mark.parametrize(("page", "block"), PYTHON_BLOCKS)
def test_a_python_example_runs(page, block, tmp_path, monkeypatch):
    # Line numbers as in the page, so that a traceback points there.
    code = compile("\n" * (block.line - 1) + block.code, str(page), "exec", dont_inherit=True)
    if not block.comment.startswith("needs: "):
        monkeypatch.chdir(tmp_path)  # an example may write files
        exec(code, {"__name__": "readme"})


def test_a_sweep_as_a_file_runs(tmp_path):
    pages = (page.read_text(encoding="utf-8") for page in PAGES)
    [text] = [each.code for page in pages for each in blocks(page) if each.language == "toml"]
    (tmp_path / "retries.toml").write_text(text)
    assert len(Sweep.load(tmp_path / "retries.toml").run(progress=False).summary()) == 12


def test_the_readme_has_an_example_that_runs():
    assert any(each.language == "python" and not each.comment for each in blocks(README))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    targets = [target.split("#")[0] for target in links if "://" not in target]
    assert [target for target in targets if target and not (page.parent / target).exists()] == []


def test_the_reader_of_blocks_knows_comment_language_and_line():
    markdown = "# Title\n\n<!-- needs: ollama -->\n```python\na = 1\n```\n\n```bash\nls\n```\n"
    assert blocks(markdown) == [Block("needs: ollama", "python", "a = 1\n", 5), Block("", "bash", "ls\n", 9)]
