"""Latency: percentiles against a swept parameter, and the distribution itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from llmlab.analysis import metrics
from llmlab.analysis.groups import Groups
from llmlab.analysis.stats import wilson
from llmlab.analysis.wording import counted
from llmlab.plots.labels import axis_label, calls_per_point, parameter_name, percent_ticks
from llmlab.plots.rates import draw_intervals, side_by_side
from llmlab.plots.scales import Scale, Series, latency_scale
from llmlab.plots.style import (
    BLUE,
    FAINT,
    VERMILLION,
    SeriesStyle,
    chart,
    legend,
    nothing_to_show,
    series_styles,
    titled,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from llmlab.analysis.metrics import Over

_DASHES: Any = ("-", "--", ":", "-.")
_MOST_HUES_WITH_PERCENTILES = 5
_CURVE_POINTS = 512  # of an ECDF: finer than a screen shows
_BAND_POINTS = 96
_MOST_BANDS = 4
_BANDS, _NO_BANDS = "pointwise 95% Wilson bands", f"bands are drawn for up to {_MOST_BANDS} series"


def latency_percentiles(
    calls: pd.DataFrame,
    *,
    x: str,
    q: Sequence[float] = (0.5, 0.95, 0.99),
    hue: str | None = None,
    over: Over = "all",
    ax: Axes | None = None,
) -> Axes:
    """Draw percentiles of latency (seconds) against a swept parameter, with 95% order-statistic intervals.

    Args:
        calls: calls, one a row.
        x: the column of the swept parameter.
        q: the quantiles, 0.95 for p95; at most four where there is a hue.
        hue: the column that makes one colour for each of its values; each quantile then has a dash pattern of its own.
        over: which calls: `"all"`, `"answered"` or `"failed"`; the axis says which.
        ax: the axes to draw on; a new figure if `None`.

    An interval that the sample is too small to bound is left open at that end, and the chart says so.

    Raises:
        KeyError: the frame lacks a column; the message lists those there are.
        ValueError: a quantile is not between 0 and 1, or too many for the dash patterns.

    Example:
        >>> ax = latency_percentiles(result.calls, x="policy.max_concurrency", q=(0.5, 0.95))
    """
    if hue is not None and len(q) > len(_DASHES):
        raise ValueError(f"at most {len(_DASHES)} quantiles can be told apart beside a hue, got {len(q)}")
    table = metrics.latency_percentiles(calls, by=[x] if hue is None else [x, hue], q=q, over=over)
    table = table[table["calls"] > 0].reset_index(drop=True)
    which = {"all": "all calls", "answered": "answered calls", "failed": "failed calls"}[over]
    with chart(ax) as axes:
        title = f"Latency against {parameter_name(x)}"
        axes.set_ylabel(f"latency of {which} (s)")
        if table.empty:
            titled(axes, title)
            nothing_to_show(axes, which)
            return axes
        scale = Scale.of(table[x])
        note = _draw_quantiles(axes, scale, table, x) if hue is None else _draw_hues(axes, scale, table, x, hue)
        scale.dress(axes, x)
        latency_scale(axes, "y", table["latency_s"])
        open_ends = int((table["note"] != "").sum())
        small = f"{open_ends} of {len(table)} intervals are open: too few calls" if open_ends else ""
        titled(axes, title, f"95% intervals, {calls_per_point(table['calls'])}", small, note)
    return axes


def latency_ecdf(calls: pd.DataFrame, *, hue: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw how latency is distributed: the share of *all* calls that were answered, and that had failed, within a time.

    The solid curve rises to the success rate and the dashed one to the failure rate, so failed calls are neither
    dropped nor mixed in. Bands are pointwise 95% Wilson intervals. The axis is logarithmic where latencies differ a
    lot; calls that took no time at all (turned away by the client) then start their curve at the left edge.

    Args:
        calls: calls, one a row.
        hue: the column that makes one colour for each of its values; at most `MAX_SERIES` are shown, and it says so.
        ax: the axes to draw on; a new figure if `None`.

    Raises:
        KeyError: the frame lacks the column; the message lists those there are.

    Example:
        >>> ax = latency_ecdf(result.calls, hue="policy.retry.max_retries")
    """
    groups = Groups(calls, hue)
    with chart(ax) as axes:
        title = "Distribution of latency" + ("" if hue is None else f" by {parameter_name(hue)}")
        axes.set(xlabel="latency (s)", ylabel="share of all calls within that time")
        axes.yaxis.set_major_formatter(percent_ticks())
        if calls.empty:
            titled(axes, title)
            nothing_to_show(axes, "calls")
            return axes
        answered = groups.values(calls["latency_s"], calls["answered"])
        failed = groups.values(calls["latency_s"], ~calls["answered"])
        left = latency_scale(axes, "x", calls["latency_s"])
        right = float(calls["latency_s"].max())
        note, styles, chosen = _series_of_groups(groups, hue)
        look: dict[str, Any] = {"span": (left, right), "band": len(chosen) <= _MOST_BANDS}
        for style, group in zip(styles, chosen, strict=True):
            total = len(answered[group]) + len(failed[group])
            _draw_ecdf(axes, answered[group], total, style, solid=True, **look)
            if len(failed[group]):
                failed_style = style if hue is not None else style._replace(color=VERMILLION)
                _draw_ecdf(axes, failed[group], total, failed_style, solid=False, **look)
        axes.set_xlim(left, right * 1.02 or 1.0)
        axes.set_ylim(0, 1.02)
        _ecdf_legend(axes, groups, hue, styles, chosen)
        titled(axes, title, counted(len(calls), "call"), _BANDS if look["band"] else _NO_BANDS, note)
    return axes


def _draw_quantiles(ax: Axes, scale: Scale, table: pd.DataFrame, x: str) -> str:
    quantiles = sorted(table["q"].unique())
    for number, (quantile, style) in enumerate(
        zip(quantiles, series_styles(len(quantiles), ordered=False), strict=False)
    ):
        shift = side_by_side(number, len(quantiles))
        rows = table[table["q"] == quantile]
        name = _quantile_name(quantile)
        draw_intervals(ax, scale, rows, x=x, value="latency_s", style=style, label=name, shift=shift)
    legend(ax, "percentile", reverse=True)
    return ""


def _draw_hues(ax: Axes, scale: Scale, table: pd.DataFrame, x: str, hue: str) -> str:
    quantiles = sorted(table["q"].unique())
    series = Series.of(table[hue], hue, most=_MOST_HUES_WITH_PERCENTILES)
    handles = []
    for number, rows in enumerate(series.rows(table, hue)):
        style, label = series.styles[number], series.labels[number]
        handles.append(Line2D([], [], color=style.color, marker=style.marker, label=label))
        for quantile, dashes in zip(quantiles, _DASHES, strict=False):
            part = style._replace(linestyle=dashes)
            some = rows[rows["q"] == quantile]
            shift = side_by_side(number, len(series.values))
            draw_intervals(ax, scale, some, x=x, value="latency_s", style=part, label=label, shift=shift)
    handles.append(Line2D([], [], linestyle="none", label=""))
    handles += [
        Line2D([], [], color=FAINT, linestyle=dashes, label=_quantile_name(quantile))
        for quantile, dashes in zip(quantiles, _DASHES, strict=False)
    ]
    legend(ax, axis_label(hue), handles)
    return series.note


def _quantile_name(quantile: float) -> str:
    return f"p{100 * quantile:g}"


def _series_of_groups(groups: Groups, hue: str | None) -> tuple[str, list[SeriesStyle], list[int]]:
    if hue is None:
        return "", [SeriesStyle(BLUE, "", "-")], [0]
    series = Series.of(groups.keys[hue], hue)
    chosen = [int(rows.index[0]) for rows in series.rows(groups.keys, hue)]
    return series.note, series.styles, chosen


def _draw_ecdf(
    ax: Axes,
    values: NDArray[Any],
    total: int,
    style: SeriesStyle,
    *,
    span: tuple[float, float],
    solid: bool,
    band: bool,
) -> None:
    """Draw the share of `total` whose value is at most x, as a step from the left end of the span to its right end."""
    left, right = span
    ordered = np.sort(values)
    ranks = np.unique(np.linspace(0, len(ordered) - 1, min(_CURVE_POINTS, len(ordered))).round().astype(np.int64))
    places = np.concatenate([[left], np.maximum(ordered[ranks], left), [right]])
    counts = np.concatenate([[np.searchsorted(ordered, left, side="right")], ranks + 1, [len(ordered)]])
    linestyle, width = ("-", 1.8) if solid else ((0, (4, 1.5)), 1.5)
    markers: dict[str, Any] = (
        {"marker": style.marker, "markevery": (0.15, 0.25), "markersize": 5} if style.marker else {}
    )
    ax.step(places, counts / total, where="post", color=style.color, linestyle=linestyle, linewidth=width, **markers)
    if not band:
        return
    some = np.unique(np.linspace(0, len(places) - 1, min(_BAND_POINTS, len(places))).round().astype(np.int64))
    ends = wilson(counts[some], total)
    ax.fill_between(places[some], ends.low, ends.high, color=style.color, alpha=0.15, linewidth=0)


def _ecdf_legend(ax: Axes, groups: Groups, hue: str | None, styles: list[SeriesStyle], chosen: list[int]) -> None:
    outcomes: list[tuple[str, Any, str]] = [("answered", "-", BLUE), ("failed", (0, (4, 1.5)), VERMILLION)]
    lines: list[Any] = [
        Line2D([], [], color=color if hue is None else FAINT, linestyle=dashes, label=name)
        for name, dashes, color in outcomes
    ]
    if hue is None:
        legend(ax, "calls", lines)
        return
    series = Series.of(groups.keys[hue], hue)
    hues = [
        Line2D([], [], color=style.color, marker=style.marker, markersize=5, label=label)
        for style, label, _ in zip(styles, series.labels, chosen, strict=True)
    ]
    legend(ax, axis_label(hue), [*hues, Line2D([], [], linestyle="none", label=""), *lines])
