"""`llmlab sweep FILE`: the sweep that a file describes, as a table and a file of numbers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from llmlab.cli.console import HEAD, complain, ends_with_a_code, make_folder, say
from llmlab.cli.result import result_data, say_json, say_result, write_numbers
from llmlab.experiments.sweep import Sweep

if TYPE_CHECKING:
    from pathlib import Path


def run(file: Path, *, out: Path | None, as_json: bool) -> None:
    """Run the sweep, write its headlines, and save its numbers into `out`.

    Args:
        file: a TOML or JSON file, as `Sweep.load` reads it.
        out: the folder; `None` is one named after the file, where the command is run.
        as_json: whether to write JSON in place of the table.

    Raises:
        typer.Exit: the results cannot be written (1), the file or the folder is wrong (2), Ctrl-C (130), or nobody
            reads the output any more (141).
    """
    with ends_with_a_code():
        sweep = Sweep.load(file)
        folder = make_folder(out or file.with_name(f"{file.stem}-results").name)
        if not as_json:
            points = len(sweep) // sweep.replicates
            say(f"{file}: points {points:,}, replicates {sweep.replicates:,}, runs {len(sweep):,}", HEAD)
        result = sweep.run(progress=sys.stderr.isatty())
        summary = result.summary()
        if as_json:
            say_json(result_data(result, summary))
        else:
            say()
            say_result(result, summary)
        numbers = write_numbers(summary, folder)
        if not as_json:
            say(f"\nnumbers  {numbers}")
        if result.interrupted:
            complain(f"interrupted after {len(result.runs)} of {result.planned} runs; these are shown and saved")
            raise typer.Exit(130)
