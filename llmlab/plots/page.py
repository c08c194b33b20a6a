"""A result on one page: the charts that suit it, side by side, under a line that says what was run."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from llmlab.analysis.wording import counted
from llmlab.plots.labels import parameter_name
from llmlab.plots.selection import charts_of
from llmlab.plots.style import INK, new_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from llmlab.analysis.recommendation import Recommendation
    from llmlab.plots.selection import Result

_WIDTH = 11.0  # inches; A4's proportions, so that it prints on one sheet
_HEIGHT = _WIDTH * 297 / 210
_COLUMNS = 2
HEADER = "llmlab-header"
"""The `gid` of the text above the charts."""


def report(result: Result, recommendation: Recommendation | None = None) -> Figure:
    """Draw a result on one page (A4): the charts that suit what was swept, and what is recommended if that is given.

    `llmlab.report` writes the same as a file, with tables.

    Args:
        result: what an experiment or a sweep brought.
        recommendation: what `recommend(result, slo)` says of it.

    Example:
        >>> figure = report(result, recommend(result, SLO(success_rate=0.9)))
        >>> figure.savefig("report.pdf")
    """
    chosen = charts_of(result, recommendation)
    lines = _lines(result, recommendation, chosen.averaged)
    rows = -(-len(chosen.panels) // _COLUMNS)
    figure = new_page(_WIDTH, _HEIGHT)
    grid = figure.add_gridspec(rows + 1, _COLUMNS, height_ratios=[0.2 * len(lines) + 0.55, *[_HEIGHT / rows] * rows])
    _write(figure.add_subfigure(grid[0, :]), lines)
    for number, panel in enumerate(chosen.panels):
        row, column = 1 + number // _COLUMNS, number % _COLUMNS
        alone = column == 0 and number == len(chosen.panels) - 1
        # A figure of its own makes room beside its axes for its own legend, and not for its neighbours' too.
        part = figure.add_subfigure(grid[row, :] if alone else grid[row, column])
        panel.draw(part.add_subplot())
    return figure


def _lines(result: Result, recommendation: Recommendation | None, averaged: list[str]) -> list[str]:
    calls = result.calls
    swept = ", ".join(f"{parameter_name(name)} ({calls[name].nunique(dropna=False)})" for name in result.parameters)
    said = [
        f"{counted(len(calls), 'call')}, {counted(int(calls['attempts'].sum()), 'attempt')}",
        f"swept: {swept}" if swept else "",
        f"averaged over: {', '.join(map(parameter_name, averaged))}" if averaged else "",
    ]
    paragraphs = ["; ".join(part for part in said if part), *([] if recommendation is None else [str(recommendation)])]
    return [line for paragraph in paragraphs for line in textwrap.wrap(paragraph, width=round(14 * _WIDTH))]


def _write(header: Any, lines: list[str]) -> None:
    top = 0.12 / (0.2 * len(lines) + 0.55)
    look: dict[str, Any] = {"va": "top", "color": INK, "gid": HEADER}
    header.text(0.01, 1 - top, "What the calls met", fontsize=15, fontweight="bold", **look)
    header.text(0.01, 1 - 4 * top, "\n".join(lines), fontsize=9.5, linespacing=1.3, **look)
