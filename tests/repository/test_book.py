"""The book's reference lists every public name of llmlab once. That all of it can be built, `.ci/run` shows."""

import re
from pathlib import Path

import llmlab

REFERENCE = Path(__file__).parents[2] / "notebooks" / "api"


def documented() -> list[str]:
    pages = "".join(page.read_text(encoding="utf-8") for page in sorted(REFERENCE.glob("*.md")))
    return sorted(re.findall(r"^\.\. auto(?:class|function):: (\w+)$", pages, re.MULTILINE))


def test_the_reference_has_every_public_name_once():
    assert documented() == sorted(llmlab.__all__), "put a new name on the page of notebooks/api that suits it"


def test_every_page_of_the_reference_is_in_its_table_of_contents():
    index = (REFERENCE / "index.md").read_text(encoding="utf-8")
    pages = {page.stem for page in REFERENCE.glob("*.md")} - {"index"}
    assert set(re.findall(r"^(\w+)$", index, re.MULTILINE)) == pages
