"""Single calls, seen closely: each call a row, each attempt a bar, waits and backoff between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from llmlab.analysis.columns import need_columns
from llmlab.analysis.frames import parameter_columns
from llmlab.analysis.wording import counted
from llmlab.core.vocabulary import Fate
from llmlab.plots.labels import drawn, parameter_name
from llmlab.plots.style import FAINT, INK, OUTCOMES, chart, legend, nothing_to_show, sideways, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_BAR, _WAIT = 0.62, 0.34  # heights of an attempt and of a wait, in rows
_SLOT_WAIT: dict[str, Any] = {"facecolor": "#d0d0d0", "edgecolor": "white", "linewidth": 0}
_RATE_WAIT: dict[str, Any] = _SLOT_WAIT | {"facecolor": "#8f8f8f", "hatch": "||||"}


def attempts_timeline(
    attempts: pd.DataFrame, calls: pd.DataFrame | None = None, *, first: int = 30, ax: Axes | None = None
) -> Axes:
    """Draw the first calls of a run over time (seconds), each a row, each attempt a bar by its outcome.

    Thin bars are waits for a slot and for the rate limit, dotted lines are backoff. Where attempts of a call overlap,
    its hedged ones take the lower half of the row. With `calls`, marks show when each call arrived and which failed.

    Args:
        attempts: attempts, one a row. Of a frame of several runs the first is shown, and the chart says so.
        calls: their calls, for the marks, and for the calls that never came to an attempt.
        first: how many calls to show, in order of arrival; the chart says how many it left out.
        ax: the axes to draw on; a new figure if `None`, as high as its rows need.

    Raises:
        KeyError: a frame lacks a column; the message lists those there are.
        ValueError: `first` is less than 1.

    Example:
        >>> ax = attempts_timeline(result.attempts, result.calls, first=20)
    """
    if first < 1:
        raise ValueError(f"first must be 1 or more, got {first}")
    need_columns(attempts, ["queued_at_s"])
    if calls is not None:
        need_columns(calls, ["arrived_at_s"])
    attempts, calls, run = _first_run(attempts, calls)
    rows = _rows(attempts, calls)
    shown = rows.head(first)
    with chart(ax, height=1.6 + 0.2 * max(len(shown), 8)) as axes:
        axes.set_xlabel("time (s)")
        if shown.empty:
            titled(axes, "Attempts over time")
            nothing_to_show(axes, "calls")
            return axes
        some = attempts[attempts["call"].isin(shown["call"])]  # a merge of a million rows takes a second
        bars = some.merge(shown[["layer", "call", "row"]], on=["layer", "call"], how="inner")
        kinds = _draw_attempts(axes, bars)
        kinds += _draw_waits(axes, bars)
        if calls is not None:
            kinds += _draw_calls(axes, shown)
        _dress_rows(axes, shown, bars)
        legend(axes, "attempts", kinds)
        left_out = f"{counted(len(rows) - len(shown), 'later call')} left out" if len(rows) > len(shown) else ""
        titled(axes, "Attempts over time, one call a row", run, left_out)
    return axes


def _first_run(attempts: pd.DataFrame, calls: pd.DataFrame | None) -> tuple[pd.DataFrame, pd.DataFrame | None, str]:
    """Return the rows of the first run where the frames hold several, and what to say about it."""
    of_all_runs = attempts if calls is None else calls
    names = parameter_columns(of_all_runs)
    count = len(of_all_runs[names].drop_duplicates()) if names else 1
    if count < 2:
        return attempts, calls, ""
    settings = {name: of_all_runs[name].iloc[0] for name in names}
    said = ", ".join(f"{parameter_name(name)} {drawn(value)}" for name, value in settings.items())
    if calls is not None:
        calls = calls[_matches(calls, settings)]
    return attempts[_matches(attempts, settings)], calls, f"run 1 of {count} ({said})"


def _matches(frame: pd.DataFrame, settings: dict[str, Any]) -> NDArray[np.bool_]:
    matched = np.ones(len(frame), dtype=np.bool_)
    for name, value in settings.items():
        matched &= (frame[name].isna() if pd.isna(value) else frame[name] == value).to_numpy(dtype=np.bool_)
    return matched


def _rows(attempts: pd.DataFrame, calls: pd.DataFrame | None) -> pd.DataFrame:
    """Return the calls by their beginning, numbered: `layer`, `call`, `begin_s`, `row`, and their end if known."""
    if calls is None:
        begin = attempts.groupby(["layer", "call"], observed=True)["queued_at_s"].min()
        rows = begin.rename("begin_s").reset_index()
    else:
        rows = calls[["layer", "call", "arrived_at_s", "ended_at_s", "fate"]].rename(
            columns={"arrived_at_s": "begin_s"}
        )
    rows = rows.sort_values(["begin_s", "call"], kind="stable", ignore_index=True)
    return rows.assign(row=np.arange(len(rows)))


def _draw_attempts(ax: Axes, bars: pd.DataFrame) -> list[Any]:
    reasons = bars["reason"].astype(object).where(bars["reason"].notna(), str(Fate.ANSWERED))
    # Where attempts of a call overlap, the first takes the upper half of the row and its hedges the lower.
    overlap = bars.groupby("row")["hedge"].transform("any").to_numpy()
    places = bars["row"] + np.where(bars["hedge"], _BAR / 4, -_BAR / 4) * overlap
    heights = np.where(overlap, _BAR / 2, _BAR)
    # An attempt that was refused at once would be too thin to be seen: no bar is thinner than a few pixels.
    thinnest = (bars["ended_at_s"].max() - bars["queued_at_s"].min()) / 150
    widths = (bars["ended_at_s"] - bars["started_at_s"]).clip(lower=thinnest)
    kinds: list[Any] = []
    for outcome, style in OUTCOMES.items():
        some = (reasons == outcome).to_numpy()
        if some.any():
            look: dict[str, Any] = {
                "facecolor": style.color,
                "hatch": style.hatch,
                "edgecolor": "white",
                "linewidth": 0,
            }
            ax.barh(places[some], widths[some], heights[some], left=bars["started_at_s"][some], zorder=3, **look)
            kinds.append(Patch(label=outcome, **look))
    return kinds


def _draw_waits(ax: Axes, bars: pd.DataFrame) -> list[Any]:
    kinds: list[Any] = []
    queued, slot, rate = bars["queued_at_s"], bars["slot_wait_s"], bars["rate_wait_s"]
    for name, begin, length, look in (
        ("wait for a slot", queued, slot, _SLOT_WAIT),
        ("wait for the rate limit", queued + slot, rate, _RATE_WAIT),
    ):
        waited = length > 0
        if waited.any():
            ax.barh(bars["row"][waited], length[waited], _WAIT, left=begin[waited], **look)
            kinds.append(Patch(label=name, **look))
    backed_off = bars[bars["backoff_s"] > 0]
    if len(backed_off):
        ends = backed_off["ended_at_s"] + backed_off["backoff_s"]
        dots: dict[str, Any] = {"color": INK, "linewidth": 1.3, "linestyle": (0, (1, 1.2))}
        ax.hlines(backed_off["row"], backed_off["ended_at_s"], ends, **dots)
        kinds.append(Line2D([], [], label="backoff", **dots))
    return kinds


def _draw_calls(ax: Axes, shown: pd.DataFrame) -> list[Any]:
    failed = shown[shown["fate"] != Fate.ANSWERED]
    look: dict[str, Any] = {"linestyle": "none", "color": INK, "markeredgewidth": 1.6}
    bar, cross = look | {"marker": "|", "markersize": 12}, look | {"marker": "x", "markersize": 6}
    ax.plot(shown["begin_s"], shown["row"], zorder=2.5, **bar)  # behind the attempts, and higher than they are
    kinds: list[Any] = [Line2D([], [], linestyle="none", label=""), Line2D([], [], label="call arrives", **bar)]
    if len(failed):
        # Beside the bar, because on a dark one it would not be seen.
        ax.plot(failed["ended_at_s"], failed["row"], zorder=4, transform=sideways(ax, 6), **cross)
        kinds.append(Line2D([], [], label="call failed", **cross))
    return kinds


def _dress_rows(ax: Axes, shown: pd.DataFrame, bars: pd.DataFrame) -> None:
    names = [f"{call}" for call in shown["call"]]
    if shown["layer"].nunique() > 1:
        names = [f"{layer} {name}" for layer, name in zip(shown["layer"], names, strict=True)]
    step = -(-len(names) // 40)
    ax.set_yticks(shown["row"][::step], names[::step])
    ax.set_ylabel("call")
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0, labelsize=9, labelcolor=FAINT)
    begin = min(shown["begin_s"].min(), bars["queued_at_s"].min())
    end = max(frame["ended_at_s"].max() for frame in (shown, bars) if "ended_at_s" in frame)
    margin = 0.015 * (end - begin) or 0.5
    ax.set_xlim(begin - margin, end + 2 * margin)  # with room for the mark of a last call that failed
