"""Where the time goes: what a call waits for, on average, against a swept parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.patheffects import withStroke

from llmlab.analysis.columns import need_columns
from llmlab.analysis.frames import parameter_columns
from llmlab.analysis.groups import Groups
from llmlab.analysis.means import means
from llmlab.analysis.metrics import over_mask
from llmlab.plots.labels import calls_per_point, parameter_name
from llmlab.plots.scales import MOST_BARS, Scale, bar_width
from llmlab.plots.style import BLUE, ORANGE, OutcomeStyle, chart, legend, nothing_to_show, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from llmlab.analysis.metrics import Over

SPENT: dict[str, OutcomeStyle] = {
    "in attempts": OutcomeStyle(BLUE, ""),
    "backoff": OutcomeStyle(ORANGE, "...."),
    "wait for the rate limit": OutcomeStyle("#8f8f8f", "||||"),
    "wait for a slot": OutcomeStyle("#d0d0d0", ""),
    "late start": OutcomeStyle("#4d4d4d", "////"),
}
"""What a call spends its time on, from the bottom of the stack, and its look."""


def time_spent(calls: pd.DataFrame, *, x: str | None = None, over: Over = "all", ax: Axes | None = None) -> Axes:
    """Draw where the time of a call goes on average (seconds): attempts, backoff and waits, stacked to its latency.

    A late start is the time from a call's intended start to its real one, as a client that cannot keep up has it. The
    error bar is the 95% interval of the mean latency.

    Args:
        calls: calls, one a row.
        x: the column of the swept parameter; `None` takes all calls together.
        over: which calls: `"all"`, `"answered"` or `"failed"`; the axis says which.
        ax: the axes to draw on; a new figure if `None`.

    Raises:
        KeyError: the frame lacks a column; the message lists those there are.
        ValueError: `over` is none of these.

    Example:
        >>> ax = time_spent(result.calls, x="policy.max_concurrency")
    """
    chosen = _chosen(calls, x, over)
    table = means(chosen, "latency_s", x)
    with chart(ax) as axes:
        title = "Where the time goes" + ("" if x is None else f", against {parameter_name(x)}")
        which = "a call" if over == "all" else f"{'an' if over == 'answered' else 'a'} {over} call"
        axes.set_ylabel(f"mean time of {which} (s)")
        if chosen.empty:
            titled(axes, title)
            nothing_to_show(axes, "calls" if over == "all" else f"{over} calls")
            return axes
        names = pd.Series([which], dtype="category") if x is None else table[x]
        scale = Scale.of(names, side_by_side=True)
        places = scale.positions(names)
        _draw_stack(axes, places, _parts(chosen, x))
        note = _draw_total(axes, places, table)
        scale.dress(axes, x or "")
        axes.grid(visible=False, axis="x")
        axes.set_ylim(bottom=0)
        legend(axes, "time", reverse=True)
        titled(axes, title, note, calls_per_point(table["calls"]))
    return axes


def _chosen(calls: pd.DataFrame, x: str | None, over: Over) -> pd.DataFrame:
    """Return the calls in question; where they are not all, with the columns in question only: copies take time."""
    swept = [] if x is None else [x]
    need_columns(calls, swept)
    mask = over_mask(calls, over)
    if mask is None:
        return calls
    needed = [
        "call",
        "arrived_at_s",
        "started_at_s",
        "latency_s",
        "slot_wait_s",
        "rate_wait_s",
        "server_s",
        "backoff_s",
    ]
    return calls[list(dict.fromkeys([*parameter_columns(calls), *swept, *needed]))][mask]


def _parts(calls: pd.DataFrame, x: str | None) -> dict[str, Any]:
    """Return the mean seconds of each part by group; parts that take no time anywhere are left out."""
    groups = Groups(calls, x)
    columns = {
        "in attempts": calls["server_s"],
        "backoff": calls["backoff_s"],
        "wait for the rate limit": calls["rate_wait_s"],
        "wait for a slot": calls["slot_wait_s"],
        "late start": calls["started_at_s"] - calls["arrived_at_s"],
    }
    parts = {name: groups.sums(columns[name]) / groups.counts() for name in SPENT}
    least = 1e-6 * max(part.max(initial=0.0) for part in parts.values())
    return {name: part for name, part in parts.items() if part.max(initial=0.0) > least or name == "in attempts"}


def _draw_stack(ax: Axes, places: Any, parts: dict[str, Any]) -> None:
    few = len(places) <= MOST_BARS
    edges: dict[str, Any] = {"edgecolor": "white", "linewidth": 0.8 if few else 0}
    bottom = np.zeros(len(places))
    for name, heights in parts.items():
        look = SPENT[name]
        ax.bar(places, heights, bar_width(len(places)), bottom, color=look.color, hatch=look.hatch, label=name, **edges)
        bottom = bottom + heights


def _draw_total(ax: Axes, places: Any, table: pd.DataFrame) -> str:
    if len(places) > MOST_BARS:
        return f"intervals are drawn for up to {MOST_BARS} bars"
    known = table["mean_high"].notna().to_numpy()
    mean, high = table["mean"].to_numpy()[known], table["mean_high"].to_numpy()[known]
    outlined: dict[str, Any] = {"path_effects": [withStroke(linewidth=3.5, foreground="white")]}  # on dark bars too
    look: dict[str, Any] = {"fmt": "none", "ecolor": "black", "elinewidth": 1.2, "label": "_", "zorder": 3}
    _, caps, bars = ax.errorbar(places[known], mean, yerr=high - mean, **look)
    for part in (*caps, *bars):
        part.set(**outlined)
    few = "" if known.all() else ", where there are enough calls"
    return f"error bars: 95% interval of the mean latency{few}"
