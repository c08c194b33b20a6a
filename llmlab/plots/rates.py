"""Failure rate against a swept parameter, with Wilson intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from llmlab.analysis import metrics
from llmlab.plots.labels import axis_label, calls_per_point, parameter_name, percent_ticks
from llmlab.plots.scales import Scale, Series
from llmlab.plots.style import SeriesStyle, chart, legend, nothing_to_show, series_styles, sideways, titled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_MOST_BARS = 16  # with more points, a band reads better than an error bar at each


def failure_rate(calls: pd.DataFrame, *, x: str, hue: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw the share of calls that were not answered against a swept parameter, with 95% Wilson intervals.

    Args:
        calls: calls, one a row.
        x: the column of the swept parameter.
        hue: the column that makes one line for each of its values; at most `MAX_SERIES` are shown, and it says so.
        ax: the axes to draw on; a new figure if `None`.

    Raises:
        KeyError: the frame lacks a column; the message lists those there are.
        ValueError: it is one of attempts, of which each call may have several.

    Example:
        >>> ax = failure_rate(result.calls, x="backend.timeout_probability", hue="policy.retry.max_retries")
        >>> ax.figure.savefig("failure_rate.png")
    """
    table = metrics.failure_rate(calls, by=[x] if hue is None else [x, hue])
    if "attempt" in calls:
        raise ValueError("failure_rate needs calls, one a row, and got attempts; give it the result's calls")
    with chart(ax) as axes:
        title = f"Failure rate against {parameter_name(x)}"
        axes.set_ylabel("failure rate (share of calls)")
        axes.yaxis.set_major_formatter(percent_ticks())
        if table.empty:
            titled(axes, title)
            nothing_to_show(axes, "calls")
            return axes
        scale = Scale.of(table[x])
        note = ""
        if hue is None:
            style = series_styles(1, ordered=False)[0]
            draw_intervals(axes, scale, table, x=x, value="failure_rate", style=style)
        else:
            note = _draw_series(axes, scale, table, x, hue)
        scale.dress(axes, x)
        top = float(np.nanmax(table["failure_rate_high"]))
        axes.set_ylim(0, min(1.0, 1.08 * top) if top < 1 else 1.02)
        titled(axes, title, f"95% Wilson intervals, {calls_per_point(table['calls'])}", note)
    return axes


def _draw_series(ax: Axes, scale: Scale, table: pd.DataFrame, x: str, hue: str) -> str:
    series = Series.of(table[hue], hue)
    for number, rows in enumerate(series.rows(table, hue)):
        style, label, shift = series.styles[number], series.labels[number], side_by_side(number, len(series.values))
        draw_intervals(ax, scale, rows, x=x, value="failure_rate", style=style, label=label, shift=shift)
    legend(ax, axis_label(hue))
    return series.note


def side_by_side(number: int, count: int) -> float:
    """Return by how many points of the screen to move one of several series, so that no error bar hides another."""
    return min(3.5, 14 / max(count - 1, 1)) * (number - (count - 1) / 2)


def draw_intervals(
    ax: Axes,
    scale: Scale,
    rows: pd.DataFrame,
    *,
    x: str,
    value: str,
    style: SeriesStyle,
    label: str = "_",
    shift: float = 0.0,
) -> None:
    """Draw one series with its intervals, from the columns `value`, `value_low` and `value_high` of the rows.

    Numbers are joined by a line, words are not. With few points each has an error bar, shifted sideways by some points
    of the screen so that series do not hide each other's; with many there is a band. A missing end is left open.
    """
    places, values = scale.positions(rows[x]), rows[value].to_numpy(dtype=np.float64)
    name, unit = (value.removesuffix("_s"), "_s") if value.endswith("_s") else (value, "")
    low, high = (rows[f"{name}_{end}{unit}"].to_numpy(dtype=np.float64) for end in ("low", "high"))
    low, high = np.fmin(values, np.where(np.isnan(low), values, low)), np.where(np.isnan(high), values, high)
    line: dict[str, Any] = {"color": style.color, "linestyle": style.linestyle, "label": label}
    if len(rows) > _MOST_BARS and scale.ordered:
        ax.plot(places, values, **line)
        ax.fill_between(places, low, high, color=style.color, alpha=0.18, linewidth=0)
        return
    drawn = ax.errorbar(
        places,
        values,
        yerr=np.clip([values - low, high - values], 0, None),
        marker=style.marker,
        elinewidth=1.1,
        transform=sideways(ax, shift),
        **(line if scale.ordered else line | {"linestyle": "none"}),
    )
    drawn.lines[0].set_markeredgewidth(0)  # afterwards: given above, it would take the bars' caps away
    # Shifted artists do not count towards the limits of the axes, so their data are reported here.
    ax.update_datalim(np.column_stack([np.tile(places, 2), np.concatenate([low, high])]))
    ax.margins(x=0.07)  # wide enough for the shift in a narrow panel too
    ax.autoscale_view()
