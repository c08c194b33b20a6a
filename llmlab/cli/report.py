"""`llmlab report`: what a store holds, as one HTML file. What stands in the file is `llmlab.reports`' business."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmlab.analysis.recommend import recommend
from llmlab.analysis.slo import SLO
from llmlab.cli.console import ends_with_a_code, say, say_text
from llmlab.cli.result import stored_result
from llmlab.core.settings import SettingsError
from llmlab.reports.document import checked_path, report

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def run(*, store: Path, out: Path, slo: Sequence[str], minimise: str | None) -> None:
    """Write the report, and say where it is and what it recommends.

    Raises:
        typer.Exit: the file cannot be written (1), there is no result or a setting is wrong (2), or Ctrl-C (130).
    """
    with ends_with_a_code():
        checked_path(out)
        asked = slo_of(slo)
        if asked is None and minimise is not None:
            raise SettingsError("--minimise: chooses among the settings that keep an SLO; give one by --slo NAME=VALUE")
        result = stored_result(store)
        recommendation = None if asked is None else recommend(result, asked, minimise or "p95_latency_s")
        path = report(result, out, recommendation=recommendation)
        if recommendation is not None:
            say_text(str(recommendation))
            say()
        say(f"report   {path}")


def slo_of(conditions: Sequence[str]) -> SLO | None:
    """Return what is asked for by conditions such as `success_rate=0.99`; `None` where nothing is.

    Raises:
        SettingsError: a condition is no such thing, is given twice, or its value is not valid.
    """
    targets: dict[str, Any] = {}
    for condition in conditions:
        name, sign, value = condition.partition("=")
        if not (sign and name and value):
            raise SettingsError(f"--slo: must be NAME=VALUE, such as success_rate=0.99; got '{condition}'")
        if name in targets:
            raise SettingsError(f"--slo: {name} is given twice")
        targets[name] = _number(value)
    return SLO(**targets) if targets else None


def _number(value: str) -> float | str:
    try:
        return float(value)
    except ValueError:
        return value
