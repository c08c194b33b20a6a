"""`llmlab verify`: the simulation against known theory, as tables and a verdict.

The cases stand in `llmlab/experiments/verify/`; this module only shows them, each as soon as it is done.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import typer

from llmlab.cli.console import BAD, GOOD, HEAD, ends_with_a_code, say, say_table, say_text
from llmlab.cli.result import say_json
from llmlab.experiments.verify import case_names, verify
from llmlab.experiments.verify.case import EXACT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

QUICK = 0.05
"""The size of a quick proof."""

Row = dict[str, Any]
"""A row of `verify`'s data frame."""


def run(*, quick: bool, cases: Sequence[str], as_json: bool) -> None:
    """Run the cases and show every check, as tables or as JSON.

    Raises:
        typer.Exit: a check missed (1), there is no such case (2), Ctrl-C (130), or nobody reads the output (141).
    """
    with ends_with_a_code():
        began = time.perf_counter()
        rows: list[Row] = []
        for name in case_names(cases or None):
            with _announced(name):
                frame = verify(QUICK if quick else 1.0, [name], progress=False)
            checked = cast("list[Row]", frame.to_dict("records"))
            if not as_json:
                _say_case(name, checked)
            rows += checked
        missed = [row for row in rows if not row["holds"]]
        if as_json:
            say_json(rows)
        else:
            _say_verdict(len(rows), missed, time.perf_counter() - began)
        if missed:
            raise typer.Exit(1)


@contextmanager
def _announced(name: str) -> Iterator[None]:
    """Say on a terminal what one is waiting for, and take it back at the end."""
    terminal = sys.stderr.isatty()
    if terminal:
        typer.echo(f"{name} ...", nl=False, err=True)
    try:
        yield
    finally:
        if terminal:
            typer.echo("\r\x1b[K", nl=False, err=True)


def _say_case(name: str, rows: Sequence[Row]) -> None:
    say(name, HEAD)
    say_text(f"by {rows[0]['source']}")
    cells = [
        [
            row["quantity"],
            number(row["expected"]),
            number(row["measured"]),
            "exact" if row["tolerance"] <= EXACT * max(1.0, abs(row["expected"])) else number(row["tolerance"]),
            "holds" if row["holds"] else "MISSES",
        ]
        for row in rows
    ]
    looks = [GOOD if row["holds"] else BAD for row in rows]
    say_table(["quantity", "expected", "measured", "tolerance", "result"], cells, looks=looks)
    say()


def _say_verdict(count: int, missed: Sequence[Row], seconds: float) -> None:
    if missed:
        say(f"{len(missed)} of {count} checks miss ({seconds:.0f} s):", BAD)
        for row in missed:
            say(f"  {row['case']}: {row['quantity']}")
    else:
        say(f"All {count} checks hold ({seconds:.0f} s).", GOOD)


def number(value: float) -> str:
    """Write a number with four digits, or all those before the point."""
    size = abs(value)
    if 1e-4 <= size < 1e7:
        return f"{value:.0f}" if size >= 1000 else f"{value:.4g}"
    return f"{value:.1e}" if size else "0"
