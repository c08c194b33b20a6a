"""A run over time: one small panel for each quantity, the same seconds under each other, faults and outages shaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from llmlab.analysis.columns import need_columns
from llmlab.analysis.timeline import OVER_TIME_COLUMNS
from llmlab.backends.fault_schedule import Ramp, Window
from llmlab.backends.server_model import Outage
from llmlab.plots.labels import axis_label, value_label
from llmlab.plots.panels import AROUND_PANELS, PANEL_HEIGHT, panels
from llmlab.plots.scales import Series
from llmlab.plots.style import (
    FAINT,
    SeriesStyle,
    chart,
    legend,
    nothing_to_show,
    series_styles,
    titled,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd
    from matplotlib.axes import Axes


_LABELS = {
    "offered": "arrivals (calls/s)",
    "answered": "arrivals that are answered (calls/s)",
    "failed": "arrivals that fail (calls/s)",
    "goodput_per_s": "goodput (calls/s)",
    "attempts": "attempts sent (1/s)",
    "attempts_per_call": "attempts per call",
    "in_flight": "attempts in flight",
    "queue": "server's queue (requests)",
    "busy": "busy slots",
    "useful": "useful work (s/s)",
    "wasted": "wasted work (s/s)",
}
_COUNTS = {column.name for column in OVER_TIME_COLUMNS if column.kind == "int"}  # in a bin; drawn per second
_SHOWN = ("goodput_per_s", "failed", "queue", "in_flight", "attempts_per_call")
Span = Outage | Window | Ramp
"""What has a `start` and an `end`, in seconds."""
_SHADES = (("#d9d9d9", ""), ("#ececec", "////"), ("#ececec", "...."), ("#ececec", "xxxx"))


def over_time(
    bins: pd.DataFrame,
    *,
    show: Sequence[str] | None = None,
    hue: str | None = None,
    shaded: Span | Iterable[Span | tuple[float, float]] = (),
    ax: Axes | None = None,
) -> Axes:
    """Draw a run over time (seconds): goodput, failures, queue, attempts in flight and attempts per call.

    Each has a panel of its own inside of the axes (`ax.child_axes`, from the top). Counts are drawn per second. Calls
    count where they arrive, goodput where it is answered; see `llmlab.analysis.over_time`.

    Args:
        bins: what `llmlab.analysis.over_time` returns, of one run; of several with a column that tells them apart.
        show: which of its columns to draw, from the top; `None` is those named above, without those that have no value
            (there is no queue where there is no server's view).
        hue: the column that makes one line for each of its values; at most `MAX_SERIES` are shown, and it says so.
        shaded: times to shade: outages, scheduled faults, or pairs of a beginning and an end; or one outage or fault.
        ax: the axes to draw on; a new figure if `None`, as high as its panels need.

    Raises:
        KeyError: the frame lacks a column.
        ValueError: `show` names something else, or a line would hold several runs.

    Example:
        >>> result = experiment.run()
        >>> bins = analysis.over_time(result.calls, result.attempts, result.server)
        >>> ax = over_time(bins, shaded=experiment.backend.server.outages)
    """
    names = _shown(bins, show, hue)
    with chart(ax, height=AROUND_PANELS + PANEL_HEIGHT * max(len(names), 1)) as axes:
        if bins.empty or not names:
            titled(axes, "A run over time")
            nothing_to_show(axes, "calls")
            return axes
        lines = _lines(bins, hue)
        made = panels(axes, [_LABELS[name] for name in names], xlabel="time (s)")
        width = _width(bins)
        for name, panel in zip(names, made, strict=True):
            _draw(panel, name, lines, width)
        handles: list[Any] = [] if hue is None else list(made[0].get_lines())
        handles += _shade(made, shaded)
        if handles:
            legend(made[0], "" if hue is None else axis_label(hue), handles)
        note = "" if hue is None else Series.of(bins[hue], hue).note
        titled(axes, "A run over time" if hue is None else "Runs over time", f"bins of {value_label(width)} s", note)
    return axes


def _shown(bins: pd.DataFrame, show: Sequence[str] | None, hue: str | None) -> list[str]:
    unknown = [] if show is None else [name for name in show if name not in _LABELS]
    if unknown:
        raise ValueError(f"show must name some of {list(_LABELS)}, got {unknown}")
    wanted = _SHOWN if show is None else show
    need_columns(bins, ["time_s", *wanted, *([] if hue is None else [hue])])
    return [name for name in wanted if show is not None or bins[name].notna().any()]


class _Line(NamedTuple):
    """One run: its bins, and how it is drawn."""

    bins: pd.DataFrame
    style: SeriesStyle
    label: str


def _lines(bins: pd.DataFrame, hue: str | None) -> list[_Line]:
    if hue is None:
        lines = [_Line(bins, series_styles(1, ordered=False)[0], "_")]
    else:
        series = Series.of(bins[hue], hue)
        lines = [_Line(*line) for line in zip(series.rows(bins, hue), series.styles, series.labels, strict=True)]
    for line in lines:
        times = line.bins["time_s"]
        if times.duplicated().any():
            again = times[times.duplicated()].iloc[0]
            raise ValueError(
                f"several rows are of the bin at {again:g} s; select one run, or name the column that tells them apart "
                "as hue"
            )
    return lines


def _width(bins: pd.DataFrame) -> float:
    """Return how long a bin is, which a run of a single one does not tell: 1 s is the default of `over_time`."""
    steps = np.diff(np.unique(bins["time_s"]))
    return float(steps.min()) if len(steps) else 1.0


def _draw(panel: Axes, name: str, lines: list[_Line], width: float) -> None:
    top = 0.0
    for line in lines:
        values = line.bins[name].to_numpy(dtype=np.float64) / (width if name in _COUNTS else 1.0)
        top = max(top, values[np.isfinite(values)].max(initial=0.0))
        look: dict[str, Any] = {"color": line.style.color, "linestyle": line.style.linestyle, "linewidth": 1.3}
        # The last value once more, so that the last bin has its width.
        times = np.append(line.bins["time_s"], line.bins["time_s"].iloc[-1] + width)
        panel.plot(times, np.append(values, values[-1]), drawstyle="steps-post", label=line.label, **look)
    panel.yaxis.set_major_locator(MaxNLocator(nbins=3, steps=[1, 2, 5, 10], min_n_ticks=2))
    panel.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    panel.set_ylim(0, 1.08 * top or 1.0)
    panel.margins(x=0)
    if all(line.bins[name].isna().all() for line in lines):
        panel.set_yticks([])  # and not nothing_to_show: the panels share their time axis
        panel.text(0.5, 0.5, "no values", transform=panel.transAxes, ha="center", va="center", color=FAINT)


def _shade(made: list[Axes], shaded: Span | Iterable[Span | tuple[float, float]]) -> list[Patch]:
    """Shade each kind of time in its own way, and return what a legend says of them."""
    kinds: dict[str, Patch] = {}
    for span in [shaded] if isinstance(shaded, Outage | Window | Ramp) else shaded:
        start, end = span if isinstance(span, tuple) else (span.start, span.end)
        kind = "shaded" if isinstance(span, tuple) else "outage" if isinstance(span, Outage) else str(span.kind)
        color, hatch = _SHADES[list({**kinds, kind: None}).index(kind) % len(_SHADES)]
        look: dict[str, Any] = {"facecolor": color, "hatch": hatch, "edgecolor": FAINT if hatch else "none"}
        kinds.setdefault(kind, Patch(label=kind, linewidth=0, **look))
        for panel in made:
            panel.axvspan(start, end, zorder=0, linewidth=0, **look)
    return [patch for kind, patch in kinds.items() if kind != "shaded"]
