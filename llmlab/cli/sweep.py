"""`llmlab sweep`: the built-in sweep of timeout probability and retries, as tables, a chart and a file of numbers.

The sweep itself is an ordinary one, with the library's defaults; this module only shows and saves it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, cast

import typer

from llmlab import plots
from llmlab.cli.console import HEAD, complain, ends_with_a_code, make_folder, say, say_table, say_text
from llmlab.cli.result import STORED, write_numbers
from llmlab.experiments.experiment import Experiment
from llmlab.experiments.store.store import Store
from llmlab.experiments.sweep import Sweep
from llmlab.experiments.workload import ClosedLoop

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pandas as pd
    from matplotlib.figure import Figure

    from llmlab.experiments.sweep_result import SweepResult

X, HUE = "backend.timeout_probability", "policy.retry.max_retries"
GRID: dict[str, list[Any]] = {X: [0.0, 0.05, 0.1, 0.2, 0.3, 0.4], HUE: [0, 1, 2, 3]}

Cells = dict[tuple[float, int], dict[str, Any]]
"""The summary's rows by timeout probability and retries."""


def run(*, out: Path, calls: int, seed: int) -> None:
    """Run the sweep, write the tables, and save chart, numbers and runs into `out`.

    Raises:
        typer.Exit: the results cannot be written (1), the folder or a setting is wrong (2), Ctrl-C (130), or nobody
            reads the output any more (141).
    """
    with ends_with_a_code():
        sweep = Sweep(Experiment(workload=ClosedLoop(calls=calls), seed=seed), GRID)
        make_folder(out)
        say(f"{len(sweep)} combinations of settings on a simulated server; calls for each: {calls:,}", HEAD)
        policy = sweep.base.policy
        say(f"attempt_timeout={policy.attempt_timeout:g} s, total_timeout={policy.total_timeout:g} s, seed={seed}")
        store = Store(out / STORED)
        result = sweep.run(store=store, progress=sys.stderr.isatty())
        summary = result.summary()
        rows = cast("list[dict[str, Any]]", summary.to_dict("records"))
        cells: Cells = {(row[X], row[HUE]): row for row in rows}
        _say_tables(cells)
        _save(result, summary, out)
        say(f"runs     {store.path}")
        if result.interrupted:
            complain(
                f"interrupted after {len(result.runs)} of {result.planned} combinations; these are shown and saved"
            )
            raise typer.Exit(130)


def _say_tables(cells: Cells) -> None:
    _say_table(
        "Failure rate: share of calls that were not answered (95% interval)",
        cells,
        lambda row: f"{row['failure_rate']:.1%} ({_interval(row['failure_rate_low'], row['failure_rate_high'])})",
    )
    _say_table("Retry amplification: attempts per call", cells, lambda row: f"{row['attempts_per_call']:.2f}")
    _say_table("Latency of all calls, 95th percentile", cells, lambda row: f"{row['latency_p95_s']:.1f} s")
    found = lesson(cells)
    if found:
        say()
        say_text(found)


def _say_table(title: str, cells: Cells, shown: Callable[[dict[str, Any]], str]) -> None:
    retries = GRID[HUE]
    rows = [
        [f"{x:g}", *(shown(cells[x, n]) if (x, n) in cells else "" for n in retries)]
        for x in GRID[X]
        if any((x, n) in cells for n in retries)
    ]
    say()
    say(title, HEAD)
    say_table(["timeouts", *(f"max_retries={n}" for n in retries)], rows)


def _interval(low: float, high: float) -> str:
    return "-".join(f"{100 * end:.1f}" if end < 0.0995 else f"{100 * end:.0f}" for end in (low, high))


def lesson(cells: Cells) -> str:
    """Say in one sentence what retries bring and cost; nothing where the sweep was stopped before that was known."""
    x, retries = 0.2, 2
    without, with_them = cells.get((x, 0)), cells.get((x, retries))
    if without is None or with_them is None:
        return ""
    return (
        f"When {x:.0%} of attempts time out, {retries} retries change the failure rate from "
        f"{without['failure_rate']:.1%} to {with_them['failure_rate']:.1%}, "
        f"for {with_them['attempts_per_call']:.2f} attempts per call."
    )


def _save(result: SweepResult, summary: pd.DataFrame, out: Path) -> None:
    chart = out / "failure_rate.png"
    figure = cast("Figure", plots.failure_rate(result.calls, x=X, hue=HUE).figure)
    try:
        figure.savefig(chart, dpi=150)
    except OSError as error:
        complain(f"cannot write into '{out}': {error.strerror or error}")
        raise typer.Exit(1) from None
    numbers = write_numbers(summary, out)
    say(f"\nchart    {chart}\nnumbers  {numbers}")
