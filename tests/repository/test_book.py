"""What the book says of the package is true: its reference is complete, and its map is that of the source.

That all of it can be built, `.ci/run` shows.
"""

import re
from pathlib import Path

import llmlab

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "notebooks" / "api"
HOW_IT_WORKS = (ROOT / "notebooks" / "how_it_works.md").read_text(encoding="utf-8")


def documented() -> list[str]:
    pages = "".join(page.read_text(encoding="utf-8") for page in sorted(REFERENCE.glob("*.md")))
    return sorted(re.findall(r"^\.\. auto(?:class|function):: (\w+)$", pages, re.MULTILINE))


def test_the_reference_has_every_public_name_once():
    assert documented() == sorted(llmlab.__all__), "put a new name on the page of notebooks/api that suits it"


def test_every_page_of_the_reference_is_in_its_table_of_contents():
    index = (REFERENCE / "index.md").read_text(encoding="utf-8")
    pages = {page.stem for page in REFERENCE.glob("*.md")} - {"index"}
    assert set(re.findall(r"^(\w+)$", index, re.MULTILINE)) == pages


def test_the_map_of_how_it_works_is_that_of_the_package():
    drawn = re.findall(r"^\| `(\w+)` \|", HOW_IT_WORKS, re.MULTILINE)
    parts = re.findall(r"^ {4}(\w+)(?:/|\.py)\s", llmlab.__doc__ or "", re.MULTILINE)
    assert drawn == parts


def test_every_file_that_how_it_works_names_is_there():
    named = set(re.findall(r"`((?:llmlab|tests)/[\w/.]+)`", HOW_IT_WORKS))
    assert len(named) > 30
    assert {name for name in named if not (ROOT / name).exists()} == set()
