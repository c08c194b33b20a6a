"""`llmlab plot`: one chart of what a sweep has stored, as a picture."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from llmlab import plots
from llmlab.cli.console import ends_with_a_code, file_to_write, say
from llmlab.cli.result import stored_result
from llmlab.core.settings import SettingsError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from matplotlib.figure import Figure

KINDS: dict[str, Callable[..., Any]] = {
    "failure-rate": plots.failure_rate,
    "heatmap": plots.heatmap,
    "latency-ecdf": plots.latency_ecdf,
    "latency-histogram": plots.latency_histogram,
    "latency-percentiles": plots.latency_percentiles,
    "outcomes": plots.outcomes,
    "retry-amplification": plots.retry_amplification,
    "time-spent": plots.time_spent,
}
"""The charts of calls, by the name that `--kind` takes."""
ENDINGS = (".pdf", ".png", ".svg")


def run(*, store: Path, kind: str, out: Path | None, x: str | None, y: str | None, hue: str | None) -> None:
    """Draw the chart and say where it is.

    Raises:
        typer.Exit: it cannot be written (1), there is no result or an option is wrong (2), or Ctrl-C (130).
    """
    with ends_with_a_code():
        if kind not in KINDS:
            raise SettingsError(f"--kind: there is no chart '{kind[:60]}'; {nearest(kind[:60], KINDS)}")
        file = file_to_write(out or Path(f"{kind}.png"), ENDINGS)
        result = stored_result(store)
        _check_options(kind, {"x": x, "y": y, "hue": hue}, result.parameters)
        columns = {
            name: _column(f"--{name}", value, result.parameters)
            for name, value in (("x", x), ("y", y), ("hue", hue))
            if value is not None
        }
        figure = cast("Figure", KINDS[kind](result.calls, **columns).figure)
        figure.savefig(file, dpi=150)
        say(f"chart    {file}")
        together = [path for path in result.parameters if path not in columns.values()]
        if together:
            say(f"         all values of {', '.join(together)} together")


def _check_options(kind: str, given: Mapping[str, str | None], parameters: Sequence[str]) -> None:
    """Refuse options that the chart does not take, and the lack of one that it needs."""
    taken = inspect.signature(KINDS[kind]).parameters
    for name, value in given.items():
        if value is not None and name not in taken:
            raise SettingsError(f"--{name}: the chart '{kind}' has none; leave it out")
        if value is None and name in taken and taken[name].default is inspect.Parameter.empty:
            valid = ", ".join(parameters) or "none was swept"
            raise SettingsError(f"--{name}: the chart '{kind}' needs a swept setting there; valid: {valid}")


def _column(option: str, name: str, parameters: list[str]) -> str:
    """Return the swept setting that a name means: its path, or the end of it."""
    found = [path for path in parameters if path == name or path.endswith(f".{name}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise SettingsError(f"{option}: '{name}' may be any of {', '.join(found)}; give the whole path")
    raise SettingsError(f"{option}: no setting '{name[:60]}' was swept; {nearest(name[:60], parameters)}")
