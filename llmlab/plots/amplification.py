"""Retry amplification: how many attempts a call makes, against load or anything else, beside what theory says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from llmlab.analysis.groups import Groups
from llmlab.analysis.means import means
from llmlab.plots.labels import axis_label, calls_per_point, parameter_name
from llmlab.plots.rates import draw_intervals, side_by_side
from llmlab.plots.scales import Scale, Series
from llmlab.plots.style import FAINT, SeriesStyle, chart, legend, nothing_to_show, series_styles, titled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_RETRIES = "policy.retry.max_retries"
_THEORY: dict[str, Any] = {"linestyle": (0, (2, 1.5)), "linewidth": 1.3, "zorder": 1.5}
_CURVE_POINTS = 200


def retry_amplification(
    calls: pd.DataFrame,
    *,
    x: str,
    hue: str | None = None,
    max_retries: int | None = None,
    capacity: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw how many attempts a call makes on average, against load or another parameter, with 95% intervals.

    The dotted line of each series is theory. Where attempts fail independently, each with probability p, a call makes
    (1 - p^(r+1)) / (1 - p) attempts, r being `max_retries`; p is the share of attempts that failed. Points below it
    say that failures come together: some calls meet them again and again, while others are answered at once. With a
    `capacity`, x is the offered load, and p follows from it: a server that answers just so many attempts per second,
    and refuses the rest at once, makes p^(r+1) = 1 - capacity / load.

    Args:
        calls: calls, one a row.
        x: the column of the parameter along the axis.
        hue: the column that makes one line for each of its values; at most `MAX_SERIES` are shown, and it says so.
        max_retries: of the policy; by default the column `policy.retry.max_retries` says it. No theory without it.
        capacity: attempts per second that the server can answer; x is then in calls per second.
        ax: the axes to draw on; a new figure if `None`.

    Raises:
        KeyError: the frame lacks a column; the message lists those there are.
        ValueError: the capacity is not positive, or x holds no numbers to compare it with.

    Example:
        >>> ax = retry_amplification(result.calls, x="backend.timeout_probability", hue="policy.retry.max_retries")
    """
    by = [x] if hue is None else [x, hue]
    table = _table(calls, by, max_retries)
    with chart(ax) as axes:
        title = f"Retry amplification against {parameter_name(x)}"
        axes.set_ylabel("attempts per call")
        if table.empty:
            titled(axes, title)
            nothing_to_show(axes, "calls")
            return axes
        scale = Scale.of(table[x])
        if capacity is not None and not (capacity > 0 and scale.numeric):
            raise ValueError(f"capacity must be more than 0, and {x} a load in calls per second; got {capacity}")
        note = _draw(axes, scale, table, x=x, hue=hue, capacity=capacity)
        scale.dress(axes, x)
        axes.set_ylim(bottom=min(0.95, 0.95 * float(table["attempts_per_call"].min())))
        known = table["theory"].notna().any()
        source = "attempts fail independently" if capacity is None else f"a server that answers {capacity:g}/s"
        theory = f"dotted: theory, {source}" if known else ""
        titled(axes, title, f"95% intervals, {calls_per_point(table['calls'])}", theory, note)
    return axes


def attempts_in_theory(failing: NDArray[np.float64], max_retries: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the attempts per call where each fails independently with this probability: a geometric series."""
    sure = failing >= 1
    share = np.where(sure, 0.0, failing)
    return np.where(sure, max_retries + 1, (1 - share ** (max_retries + 1)) / (1 - share))


def attempts_under_load(load: NDArray[np.float64], capacity: float, max_retries: float) -> NDArray[np.float64]:
    """Return the attempts per call where a server answers `capacity` of them per second and refuses the rest at once.

    All calls together are answered at the capacity, so load * (1 - p^(r+1)) = capacity, which gives p.
    """
    failing = np.maximum(1 - capacity / load, 0) ** (1 / (max_retries + 1))
    return attempts_in_theory(failing, np.full_like(load, max_retries))


def _table(calls: pd.DataFrame, by: list[str], max_retries: int | None) -> pd.DataFrame:
    """Return attempts per call with intervals, `retries` that are allowed (NaN if unknown), and what theory says."""
    table = means(calls, "attempts", by).rename(columns=lambda name: str(name).replace("mean", "attempts_per_call"))
    groups = Groups(calls, by)
    answered, made = (groups.sums(calls[column]) for column in ("answered", "attempts"))
    table["retries"] = np.nan if max_retries is None else float(max_retries)
    if max_retries is None and _RETRIES in by:
        table["retries"] = table[_RETRIES].astype(float)
    elif max_retries is None and _RETRIES in calls.columns and calls[_RETRIES].nunique() == 1:
        table["retries"] = float(calls[_RETRIES].iloc[0])
    failing = 1 - answered / np.maximum(made, 1)  # an answered call has one attempt that was answered
    table["theory"] = attempts_in_theory(failing, table["retries"].to_numpy(dtype=np.float64))
    return table


def _draw(ax: Axes, scale: Scale, table: pd.DataFrame, *, x: str, hue: str | None, capacity: float | None) -> str:
    lines: list[tuple[pd.DataFrame, SeriesStyle, str]] = [(table, series_styles(1, ordered=False)[0], "_")]
    note = ""
    if hue is not None:
        series = Series.of(table[hue], hue)
        lines = list(zip(series.rows(table, hue), series.styles, series.labels, strict=True))
        note = series.note
    for number, (rows, style, label) in enumerate(lines):
        shift = side_by_side(number, len(lines))
        draw_intervals(ax, scale, rows, x=x, value="attempts_per_call", style=style, label=label, shift=shift)
        _draw_theory(ax, scale, rows, x=x, color=style.color, capacity=capacity)
    handles, _ = ax.get_legend_handles_labels()
    if capacity is not None:
        handles.append(ax.axvline(capacity, color=FAINT, linewidth=1, linestyle="-.", label="capacity"))
    if table["theory"].notna().any():
        handles.append(Line2D([], [], color=FAINT, label="theory", **_THEORY))
    if handles:
        legend(ax, "" if hue is None else axis_label(hue), handles)
    return note


def _draw_theory(ax: Axes, scale: Scale, rows: pd.DataFrame, *, x: str, color: str, capacity: float | None) -> None:
    retries = rows["retries"].to_numpy(dtype=np.float64)
    if np.isnan(retries).any():
        return
    places, theory = scale.positions(rows[x]), rows["theory"].to_numpy(dtype=np.float64)
    if capacity is not None:
        spaced = np.geomspace if scale.logarithmic else np.linspace
        places = spaced(places.min(), places.max(), _CURVE_POINTS)
        theory = attempts_under_load(places, capacity, float(retries[0]))
    look: dict[str, Any] = _THEORY if scale.ordered else _THEORY | {"linestyle": "none", "marker": "_"}
    ax.plot(places, theory, color=color, label="_", **look)
