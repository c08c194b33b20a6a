"""How often calls fail and why: one bar for each reason, with its interval, and all failures together above them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from llmlab.analysis import metrics
from llmlab.analysis.wording import counted
from llmlab.plots.labels import parameter_name, percent, percent_ticks
from llmlab.plots.scales import Series
from llmlab.plots.style import INK, OUTCOMES, OutcomeStyle, chart, legend, nothing_to_show, series_styles, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ALL = "all failures"
_ALL_STYLE = OutcomeStyle("#5a5a5a", "")
_MOST_REASONS = 10
_BARS = 0.78  # of a row's height


def failure_reasons(calls: pd.DataFrame, *, hue: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw the share of calls that each reason ended, the most frequent first, with 95% Wilson intervals.

    Args:
        calls: calls, one a row.
        hue: the column that makes one bar for each of its values; at most `MAX_SERIES` are shown, and it says so.
        ax: the axes to draw on; a new figure if `None`.

    Raises:
        KeyError: the frame lacks a column; the message lists those there are.

    Example:
        >>> ax = failure_reasons(result.calls)
    """
    table = _rates(calls, hue)
    with chart(ax) as axes:
        title = "Failed calls by reason" if hue is None else f"Failed calls by reason and {parameter_name(hue)}"
        axes.set_xlabel("share of calls")
        axes.xaxis.set_major_formatter(percent_ticks())
        if calls.empty:
            titled(axes, title)
            nothing_to_show(axes, "calls")
            return axes
        names = _ordered(table)
        note = _draw(axes, table, names[:_MOST_REASONS], hue)
        axes.set_yticks(range(len(names[:_MOST_REASONS])), names[:_MOST_REASONS])
        axes.set_ylim(len(names[:_MOST_REASONS]) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        rest = names[_MOST_REASONS:]
        left_out = f"{counted(len(rest), 'rarer reason')} not shown: {', '.join(rest)}" if rest else ""
        titled(axes, title, f"95% Wilson intervals, {_counts(table['calls'])}", note, left_out)
    return axes


def _rates(calls: pd.DataFrame, hue: str | None) -> pd.DataFrame:
    """Return the rates of all failures and of each reason, a row each and for each value of the hue."""
    by = [] if hue is None else [hue]
    total = metrics.failure_rate(calls, by or None).rename(columns=lambda name: name.replace("failure_rate", "rate"))
    reasons = metrics.rate_by_reason(calls, by or None)
    total.insert(len(by), "reason", _ALL)
    reasons["reason"] = reasons["reason"].astype(str)
    return pd.concat([total, reasons], ignore_index=True)


def _ordered(table: pd.DataFrame) -> list[str]:
    totals = table[table["reason"] != _ALL].groupby("reason")["failures"].sum()
    return [_ALL, *map(str, totals.sort_values(ascending=False, kind="stable").index)]


def _draw(ax: Axes, table: pd.DataFrame, names: list[str], hue: str | None) -> str:
    """Draw each series in its colour, or one alone with a colour for each reason; return what is to be noted."""
    groups, labels, looks, note = [table], ["_"], list[str | None]([None]), ""
    if hue is not None:
        series = Series.of(table[hue], hue)
        groups, labels, note = list(series.rows(table, hue)), series.labels, series.note
        looks = [style.color for style in series_styles(len(groups), ordered=False)]
    height = _BARS / len(groups)
    shown = table[table["reason"].isin(names)]
    reach = min(1.0, float(shown["rate_high"].max()))
    for number, (rows, color, label) in enumerate(zip(groups, looks, labels, strict=True)):
        places = np.arange(len(names)) - _BARS / 2 + height * (number + 0.5)
        by_name = rows.set_index("reason").reindex(names)
        rates = by_name["rate"].fillna(0.0).to_numpy()
        colors, hatches = _looks(names) if color is None else (color, None)
        ax.barh(places, rates, height, color=colors, hatch=hatches, label=label, edgecolor="white", linewidth=0.8)
        low, high = (by_name[f"rate_{end}"].fillna(0.0).to_numpy() for end in ("low", "high"))
        spread = np.clip([rates - low, high - rates], 0, None)
        ax.errorbar(rates, places, xerr=spread, fmt="none", ecolor="black", elinewidth=1.1, label="_")
        for place, rate, end in zip(places, rates, high, strict=True):
            ax.annotate(
                percent(rate), (end, place), (5, 0), textcoords="offset points", va="center", fontsize=9, color=INK
            )
    ax.set_xlim(0, 1.15 * reach or 1.0)
    if hue is not None:
        legend(ax, parameter_name(hue))
    return note


def _looks(names: list[str]) -> tuple[list[str], list[str]]:
    styles = [_ALL_STYLE if name == _ALL else OUTCOMES.get(name, _ALL_STYLE) for name in names]
    return [style.color for style in styles], [style.hatch for style in styles]


def _counts(counts: pd.Series[int]) -> str:
    fewest, most = int(counts.min()), int(counts.max())
    return counted(most, "call") if fewest == most else f"{fewest:,} to {most:,} calls each"
