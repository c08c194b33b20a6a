"""Settings as points: what each costs in failures, latency and load, which nothing beats, and which is recommended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from llmlab.analysis.columns import need_columns
from llmlab.analysis.slo import CRITERIA
from llmlab.analysis.wording import counted
from llmlab.plots.labels import drawn, parameter_name, percent_ticks
from llmlab.plots.scales import latency_scale, wants_log
from llmlab.plots.style import INK, VERMILLION, chart, legend, nothing_to_show, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from llmlab.analysis.slo import SLO, Criterion

_VERDICTS = {
    "chosen": ("*", 330, "recommended"),
    "meets": ("o", 75, "keeps the SLO"),
    "unclear": ("D", 60, "too few calls to tell"),
    "misses": ("X", 65, "misses the SLO"),
}
LABEL = "llmlab-setting"
"""The `gid` of the labels of settings."""

_ASKED: dict[str, Any] = {"color": VERMILLION, "linestyle": "--", "linewidth": 1.3, "zorder": 1}
_MOST_BARS = 60
_LABEL_WIDTH, _LABEL_HEIGHT = 45, 16  # points between two labels
_LATENCIES = {criterion.column: criterion for criterion in CRITERIA if criterion.quantile is not None}


def pareto(points: pd.DataFrame, *, slo: SLO | None = None, latency: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw settings by failure rate, latency (seconds) and load: dark points make more attempts per call.

    The lower left is best. Settings on the Pareto front (nothing beats them in all three) have a dark rim and are
    labelled with their values where there is room; the recommended one is a star. Bars are the intervals of the
    recommendation, and may leave the chart.

    Args:
        points: one row for each setting, as `recommend(...).points` has them.
        slo: what was asked for, drawn as dashed lines.
        latency: the column of the latency; by default the first that there is.
        ax: the axes to draw on; a new figure if `None`.

    Raises:
        KeyError: the frame lacks a column; the message lists those there are.

    Example:
        >>> slo = SLO(success_rate=0.9, p95_latency_s=60)
        >>> recommendation = recommend(result, slo)
        >>> ax = pareto(recommendation.points, slo=slo)
    """
    column = _latency_column(points, latency)
    shown = points.dropna(subset=[column.column, "success_rate", "attempts_per_call"])
    with chart(ax) as axes:
        title = "What each setting costs: failures, latency, load"
        axes.set(xlabel=f"{column.label} (s)", ylabel="failure rate (share of calls)")
        axes.yaxis.set_major_formatter(percent_ticks())
        if shown.empty:
            titled(axes, title)
            nothing_to_show(axes, "settings")
            return axes
        _scale(axes, shown, column, slo)
        bars = _draw_intervals(axes, shown, column)
        image, handles = _draw_points(axes, shown, column)
        _draw_load(axes, image, float(shown["attempts_per_call"].min()), slo)
        handles += _draw_targets(axes, slo, column)
        note = _label(axes, shown, column)
        legend(axes, "settings", handles)
        left_out = len(points) - len(shown)
        missing = f"{counted(left_out, 'setting')} without such calls left out" if left_out else ""
        titled(axes, title, counted(len(shown), "setting"), note, bars, missing)
    return axes


def _latency_column(points: pd.DataFrame, latency: str | None) -> Criterion:
    needed = ["success_rate", "attempts_per_call", "on_front", "verdict"]
    need_columns(points, needed if latency is None else [*needed, latency])
    there = [name for name in _LATENCIES if name in points.columns]
    wanted = there[:1] if latency is None else [latency] if latency in there else []
    need_columns(points, wanted or [latency or "latency_p95_s"])
    return _LATENCIES[wanted[0]]


def _scale(ax: Axes, points: pd.DataFrame, column: Criterion, slo: SLO | None) -> None:
    # By the points: the interval of a setting that few calls were made with may be longer than all else.
    left, latencies = latency_scale(ax, "x", points[column.column]), points[column.column].to_numpy(dtype=np.float64)
    target = None if slo is None else getattr(slo, column.name)
    right = max(latencies.max(), target or 0.0)
    ax.set_xlim(*((min(left, latencies.min() / 1.3), right * 1.4) if left else (0, right * 1.15 or 1.0)))
    failing = 1 - points["success_rate"].to_numpy(dtype=np.float64)
    asked = None if slo is None else slo.success_rate
    top = max(failing.max(), 0.0 if asked is None else 1 - asked)
    positive = failing[failing > 0]
    if positive.size and wants_log([positive.min(), np.median(positive), top]):
        # Linear below the smallest rate that occurred, so that settings under which nothing failed have a place.
        least = 10 ** np.floor(np.log10(positive.min()))
        ax.set_yscale("symlog", linthresh=least, linscale=0.5)
        ax.yaxis.set_major_locator(FixedLocator([0, *least * 10.0 ** np.arange(0, np.ceil(-np.log10(least)) + 1)]))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_formatter(percent_ticks())
        ax.set_ylim(-0.25 * least, min(1.05, top * 2))
        return
    ax.set_ylim(-0.06 * (top or 1.0), 1.15 * top or 1.0)


def _draw_points(ax: Axes, points: pd.DataFrame, column: Criterion) -> tuple[Any, list[Any]]:
    places = points[column.column].to_numpy(dtype=np.float64)
    failing = 1 - points["success_rate"].to_numpy(dtype=np.float64)
    load = points["attempts_per_call"].to_numpy(dtype=np.float64)
    spread = max(load.max() - load.min(), 0.01)
    ends = {"vmin": load.min() - 0.15 * spread, "vmax": load.min() + spread}  # the lightest is not white
    handles: list[Any] = []
    image = None
    for verdict, (marker, size, name) in reversed(_VERDICTS.items()):
        some = (points["verdict"] == verdict).to_numpy()
        if not some.any():
            continue
        rims: Any = np.where(points["on_front"].to_numpy(dtype=np.bool_)[some], 1.8, 0.6)
        look: dict[str, Any] = {"marker": marker, "edgecolor": INK, "cmap": "Blues", **ends}
        image = ax.scatter(
            places[some], failing[some], size, load[some], linewidths=rims, zorder=3 + (verdict == "chosen"), **look
        )
        handles.insert(0, _handle(name, marker=marker, markerfacecolor="#9ecae1", markersize=min(12, size**0.5)))
    return image, [*handles, _handle("on the Pareto front", marker="o", markerfacecolor="none", markeredgewidth=1.8)]


def _draw_intervals(ax: Axes, points: pd.DataFrame, column: Criterion) -> str:
    some = points[points["on_front"].to_numpy(dtype=np.bool_)]
    if len(some) > _MOST_BARS:
        return f"intervals are drawn for up to {_MOST_BARS} settings"
    places, failing = (some[name].to_numpy(dtype=np.float64) for name in (column.column, "success_rate"))
    across = _reach(places, some[f"{column.column}_low"], some[f"{column.column}_high"])
    upright = _reach(1 - failing, 1 - some["success_rate_high"], 1 - some["success_rate_low"])
    look: dict[str, Any] = {"fmt": "none", "ecolor": "#9a9a9a", "elinewidth": 1, "capsize": 0, "zorder": 2}
    ax.errorbar(places, 1 - failing, xerr=across, yerr=upright, **look)
    return "intervals of those on the front"


def _draw_load(ax: Axes, image: Any, least: float, slo: SLO | None) -> None:
    bar = ax.figure.colorbar(image, ax=ax, pad=0.02, fraction=0.05)
    bar.ax.set_ylim(bottom=least)
    bar.set_label("attempts per call")
    bar.ax.tick_params(labelsize=9.5, labelcolor=INK, length=0)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:.4g}"))
    if slo is not None and slo.max_amplification is not None:
        bar.ax.axhline(slo.max_amplification, **_ASKED | {"linewidth": 2.0})


def _handle(name: str, **look: Any) -> Line2D:
    return Line2D([], [], linestyle="none", label=name, **{"markeredgecolor": INK, "markersize": 8, **look})


def _reach(values: Any, low: pd.Series[float], high: pd.Series[float]) -> Any:
    """Return how far bars reach down and up: not at all to an end that is open."""
    return np.nan_to_num([values - low.to_numpy(), high.to_numpy() - values]).clip(min=0)


def _draw_targets(ax: Axes, slo: SLO | None, column: Criterion) -> list[Any]:
    if slo is None:
        return []
    targets = {criterion.name: target for criterion, target in slo.targets().items()}
    if column.name in targets:
        ax.axvline(targets[column.name], **_ASKED)
    if "success_rate" in targets:
        ax.axhline(1 - targets["success_rate"], **_ASKED)
    return [Line2D([], [], label="asked for", **_ASKED)]


def _label(ax: Axes, points: pd.DataFrame, column: Criterion) -> str:
    """Label the settings of the front with their values where there is room, and say in which order these stand."""
    names = list(points.columns[: points.columns.get_loc("calls")])
    front = points[points["on_front"] | (points["verdict"] == "chosen")]
    first = front["verdict"].map(list(_VERDICTS).index).astype(int)  # the recommended one has its label in any case
    taken: list[Any] = []
    for row in front.iloc[np.argsort(first, kind="stable")].to_dict("records") if names else []:
        place = (row[column.column], 1 - row["success_rate"])
        x, y = ax.transData.transform(place) * 72 / ax.figure.dpi
        if any(abs(x - left) < _LABEL_WIDTH and abs(y - low) < _LABEL_HEIGHT for left, low in taken):
            continue
        taken.append((x, y))
        ax.annotate(
            ", ".join(drawn(row[name]) for name in names),
            place,
            xytext=(9, 9),
            textcoords="offset points",
            fontsize=9.5,
            color=INK,
            gid=LABEL,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
            zorder=5,
        )
    return f"labels: {', '.join(map(parameter_name, names))}" if taken else ""
