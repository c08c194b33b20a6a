"""`llmlab calibrate`: what was fitted, what could not be told, and how well it predicts, as tables or JSON."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Any

from llmlab.calibration.calibration import METRICS, Calibration
from llmlab.calibration.fitting import calibrate
from llmlab.cli.console import HEAD, WIDTH, ends_with_a_code, file_to_write, say, say_table
from llmlab.cli.result import say_json, stored_result
from llmlab.core.plain_data import plain_data
from llmlab.core.settings import SettingsError
from llmlab.plots.labels import parameter_name, value_label

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from llmlab.calibration.visits import Events

ENDINGS = (".json", ".toml")


def run(*, source: Path, out: Path | None, held_out: Path | None, as_json: bool) -> None:
    """Fit, say what came of it, and save the backend.

    Raises:
        typer.Exit: the file cannot be written (1), a recording or an option is wrong (2), or Ctrl-C (130).
    """
    with ends_with_a_code():
        if out is not None:
            file_to_write(out, ENDINGS)
        fitted_to, others = _events(source), None if held_out is None else _events(held_out)
        found = calibrate(fitted_to)
        if out is not None:  # before the predictions, so that nothing that takes long is lost with them
            found.save(out)
        errors = None if others is None else found.validate(others)
        if as_json:
            say_json(_data(found, errors))
            return
        _say_found(source, found)
        if errors is not None:
            say()
            _say_errors(errors)
        if out is not None:
            say(f"\nserver   {out}")


def _events(path: Path) -> Events:
    if not path.exists():
        raise SettingsError(f"there is no '{path}'; name a file of a JsonLinesObserver, or the folder of a sweep")
    return stored_result(path) if path.is_dir() else path


def _say_found(source: Path, found: Calibration) -> None:
    say(f"{source}: fitted to {found.attempts:,} attempts", HEAD)
    say()
    say_table(
        ["parameter", "value", "95% interval", "unit"],
        [
            [row["parameter"], value_label(row["value"]), _interval(row["low"], row["high"]), row["unit"]]
            for row in found.report.to_dict("records")
        ],
    )
    if len(found.unknown):
        say("\nCould not be told from these events:", HEAD)
    for row in found.unknown.to_dict("records"):
        measure = f" To tell: {row['measure']}." if row["measure"] else ""
        _say_point(f"{row['parameter']}: {row['why']}. Assumed: {row['assumed']}.{measure}")


def _interval(low: float, high: float) -> str:
    return "" if math.isnan(low) else f"{low:.4g} to {high:.4g}"


def _say_point(text: str) -> None:
    say(textwrap.fill(text, WIDTH, initial_indent="- ", subsequent_indent="  "))


def _say_errors(errors: pd.DataFrame) -> None:
    say("Predicted, and measured in runs that were not fitted:", HEAD)
    by = [str(name) for name in errors.columns[: list(errors.columns).index("metric")]]
    say_table(
        [*map(parameter_name, by), "metric", "measured", "95% interval", "predicted", "error"],
        [
            [
                *(value_label(row[name]) for name in by),
                row["metric"],
                f"{row['measured']:.4g}",
                _interval(row["low"], row["high"]),
                f"{row['predicted']:.4g}",
                f"{row['error']:+.3f}" if row["metric"] == "failure_rate" else f"{row['error']:+.1%}",
            ]
            for row in errors.to_dict("records")
        ],
        texts=len(by) + 1,
    )


def _data(found: Calibration, errors: pd.DataFrame | None) -> dict[str, Any]:
    return {
        "attempts": found.attempts,
        "backend": plain_data(found.backend),
        "report": found.report.to_dict("records"),
        "unknown": found.unknown.to_dict("records"),
        "metrics": METRICS,
        "held_out": None if errors is None else errors.to_dict("records"),
    }
