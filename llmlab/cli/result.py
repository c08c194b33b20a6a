"""How a sweep's result is written: a table of headlines for people, JSON for machines."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, cast

import typer

from llmlab.cli.console import complain, say, say_table
from llmlab.core.plain_data import plain_data
from llmlab.core.settings import Settings, SettingsError
from llmlab.experiments.sweep_result import SweepResult
from llmlab.plots.labels import duration, parameter_name, percent, plain_number, value_label

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd

MOST_ROWS = 50
"""More points than these are not written out: the file of numbers has them."""


def say_result(result: SweepResult, summary: pd.DataFrame) -> None:
    """Write the headlines of every point as a table."""
    rows = cast("list[dict[str, Any]]", summary.to_dict("records"))
    settings = [[_cut(value_label(row[path])) for path in result.parameters] for row in rows[:MOST_ROWS]]
    say_table(
        [*_short_names(result.parameters), "calls", "failure rate (95%)", "attempts/call", "p50", "p95"],
        [[*shown, *_headlines(row)] for shown, row in zip(settings, rows, strict=False)],
        texts=len(result.parameters),
    )
    if len(rows) > MOST_ROWS:
        say(f"... and {len(rows) - MOST_ROWS:,} points more")


def _cut(text: str) -> str:
    return text if len(text) <= 32 else f"{text[:31]}…"


def _headlines(row: dict[str, Any]) -> list[str]:
    low, high = percent(row["failure_rate_low"]), percent(row["failure_rate_high"])
    return [
        f"{row['calls']:,}",
        f"{percent(row['failure_rate'])} ({low} to {high})",
        plain_number(row["attempts_per_call"]),
        duration(row["latency_p50_s"]),
        duration(row["latency_p95_s"]),
    ]


def _short_names(paths: Sequence[str]) -> list[str]:
    """Return the last parts of paths, as many as it takes to tell them apart."""
    names = [parameter_name(path) for path in paths]
    return [path if names.count(name) > 1 else name for path, name in zip(paths, names, strict=True)]


STORED = "runs"
"""Where `llmlab sweep FILE --out DIR` keeps every run, in DIR."""


def stored_result(folder: Path) -> SweepResult:
    """Return what a sweep has stored, in the folder that was its `--out` or in a store of its own.

    Raises:
        SettingsError: there is no store, or no run is finished in it.
    """
    inside = folder / STORED
    result = SweepResult.load(inside if inside.is_dir() else folder)
    if not result.runs:
        raise SettingsError(f"no run is finished in '{folder}'; run the sweep on")
    return result


def result_data(result: SweepResult, summary: pd.DataFrame) -> dict[str, Any]:
    """Return a result as a program reads it."""
    return {
        "planned": result.planned,
        "finished": len(result.runs),
        "failures": [
            {"settings": run.settings, "replicate": run.replicate, "seed": run.seed, "reason": run.reason}
            for run in result.failures
        ],
        "interrupted": result.interrupted,
        "parameters": result.parameters,
        "summary": summary.to_dict("records"),
    }


def write_numbers(summary: pd.DataFrame, folder: Path) -> Path:
    """Write a summary into a folder, replacing an earlier one; return the file.

    Raises:
        typer.Exit: it cannot be written (1).
    """
    numbers = folder / "summary.csv"
    try:
        summary.to_csv(numbers, index=False)
    except OSError as error:
        complain(f"cannot write into '{folder}': {error.strerror or error}")
        raise typer.Exit(1) from None
    return numbers


def say_json(data: Any) -> None:
    """Write data to stdout as JSON."""
    say(json.dumps(_plain(data), indent=2))


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: it has no word for what could not be measured."""
    if isinstance(value, dict):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, Settings):
        return plain_data(value)
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
