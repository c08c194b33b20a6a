"""`llmlab show`: what a sweep has stored, as a table or JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.cli.console import HEAD, ends_with_a_code, say
from llmlab.cli.result import result_data, say_json, say_result, stored_result

if TYPE_CHECKING:
    from pathlib import Path


def run(*, store: Path, as_json: bool) -> None:
    """Write the headlines of what is stored.

    Raises:
        typer.Exit: there is no result (2), or nobody reads the output any more (141).
    """
    with ends_with_a_code():
        result = stored_result(store)
        summary = result.summary()
        if as_json:
            say_json(result_data(result, summary))
            return
        say(f"{store}: runs {len(result.runs):,} of {result.planned:,}", HEAD)
        say()
        say_result(result, summary)
