"""`llmlab sweep FILE`: the sweep that a file describes, as a table and a file of numbers."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import typer

from llmlab.cli.console import HEAD, complain, ends_with_a_code, make_folder, say
from llmlab.cli.result import STORED, result_data, say_json, say_result, write_numbers
from llmlab.core.settings import SettingsError
from llmlab.experiments.running.sweep_run import INTERRUPTED, SweepError
from llmlab.experiments.store.store import Store
from llmlab.experiments.sweep import Sweep
from llmlab.plots.labels import value_label

if TYPE_CHECKING:
    from pathlib import Path

    from llmlab.experiments.runs import FailedRun
    from llmlab.experiments.sweep_result import SweepResult

MOST_FAILURES = 10
"""More failed runs than these are counted and not described."""


def run(file: Path, *, out: Path | None, workers: int | None, resume: bool, as_json: bool) -> None:
    """Run the sweep, write its headlines, and save its numbers into `out`.

    Args:
        file: a TOML or JSON file, as `Sweep.load` reads it.
        out: the folder; `None` is one named after the file, where the command is run.
        workers: how many worker processes; `None` is as many as suit the sweep.
        resume: whether runs that the folder has already are taken from there.
        as_json: whether to write JSON in place of the table.

    Raises:
        typer.Exit: runs failed or the results cannot be written (1), the file or the folder is wrong (2), Ctrl-C
            (130), or nobody reads the output any more (141).
    """
    with ends_with_a_code():
        sweep = Sweep.load(file)
        folder = make_folder(out or file.with_name(f"{file.stem}-results").name)
        store = Store(folder / STORED)
        if store.finished() and not resume:
            raise SettingsError(
                f"'{folder}' has results already; --resume computes only what is missing, or name another --out"
            )
        if not as_json:
            points = len(sweep) // sweep.replicates
            say(f"{file}: points {points:,}, replicates {sweep.replicates:,}, runs {len(sweep):,}", HEAD)
        result = _carried_out(sweep, workers, store)
        summary = result.summary()
        if as_json:
            say_json(result_data(result, summary))
        else:
            say()
            say_result(result, summary)
        numbers = write_numbers(summary, folder)
        if not as_json:
            say(f"\nnumbers  {numbers}\nruns     {store.path}")
        for failed in result.failures[:MOST_FAILURES]:
            complain(f"failed: {_described(failed)}: {failed.reason}")
        if len(result.failures) > MOST_FAILURES:
            complain(f"... and {len(result.failures) - MOST_FAILURES:,} runs more")
        if result.interrupted:
            complain(
                f"{result.stopped or INTERRUPTED} after {len(result.runs)} of {result.planned} runs; "
                "these are shown and saved"
            )
            raise typer.Exit(130)
        if result.failures:
            complain(f"{len(result.failures)} of {result.planned} runs failed; the others are shown and saved")
            raise typer.Exit(1)


def _carried_out(sweep: Sweep, workers: int | None, store: Store) -> SweepResult:
    logger, quiet = logging.getLogger("llmlab"), logging.NullHandler()
    logger.addHandler(quiet)  # what it warns of is told here, in our form
    try:
        return sweep.run(store=store, workers=workers, progress=sys.stderr.isatty())
    except SweepError as error:
        complain(str(error).splitlines()[0])
        raise typer.Exit(1) from None
    finally:
        logger.removeHandler(quiet)


def _described(failed: FailedRun) -> str:
    settings = [f"{path}={value_label(value)}" for path, value in failed.settings.items()]
    return ", ".join([*settings, f"replicate {failed.replicate}"])
