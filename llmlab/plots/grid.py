"""Two swept parameters at once: a heat map with a number in each cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.ticker import FuncFormatter

from llmlab.analysis import summaries
from llmlab.core.events import Column
from llmlab.plots.labels import duration, parameter_name, percent, percent_ticks, plain_number
from llmlab.plots.scales import Scale
from llmlab.plots.style import INK, chart, nothing_to_show, titled, width_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage
    from numpy.typing import NDArray

_COLUMNS = {column.name: column for column in summaries.SUMMARY_COLUMNS if column.kind == "float"}
_OVER_TIME = {"duration_s", "throughput_per_s", "output_tokens_per_s"}  # for all else, telling runs apart costs time
INTERVAL = "llmlab-interval"
"""The `gid` of the small print in the cells."""

_MOST_COLUMNS, _MOST_ROWS = 14, 16  # with more cells than this the numbers no longer fit into them


def heatmap(calls: pd.DataFrame, *, x: str, y: str, value: str = "failure_rate", ax: Axes | None = None) -> Axes:
    """Draw a number for each pair of values of two swept parameters; light is low, dark is high.

    Rates show their 95% Wilson interval in small print. A pair without calls is left blank and marked.

    Args:
        calls: calls, one a row.
        x: the column of the parameter along the horizontal axis.
        y: the column of the parameter along the vertical axis.
        value: what to show: a column of `llmlab.analysis.summary` with fractions, such as `failure_rate`,
            `latency_p95_s`, `answered_latency_p95_s`, `attempts_per_call` or `throughput_per_s`.
        ax: the axes to draw on; a new figure if `None`.

    Raises:
        KeyError: the frame lacks a column; the message lists those there are.
        ValueError: the value is none of the columns; the message lists them.

    Example:
        >>> ax = heatmap(result.calls, x="policy.retry.max_retries", y="backend.timeout_probability")
    """
    if value not in _COLUMNS:
        raise ValueError(f"value must be one of {list(_COLUMNS)}, got {value!r}")
    table = summaries.summary(calls, by=[x, y], runs=None if value in _OVER_TIME else ())
    columns, rows = Scale.of(table[x], side_by_side=True), Scale.of(table[y], side_by_side=True)
    height = 1.6 + float(np.clip(0.55 * len(rows.values), 1.5, 6))
    with chart(ax, height=height) as axes:
        title = f"{_name(_COLUMNS[value])} by {parameter_name(x)} and {parameter_name(y)}"
        axes.grid(visible=False)
        if table.empty:
            titled(axes, title)
            nothing_to_show(axes, "calls")
            return axes
        cells = _cells(table, value, (rows.positions(table[y]), columns.positions(table[x])), (rows, columns))
        fits = len(columns.values) <= _MOST_COLUMNS and len(rows.values) <= _MOST_ROWS
        image = _draw_cells(axes, cells, _COLUMNS[value], fits=fits)
        columns.dress(axes, x)
        rows.dress(axes, y, which="y")
        if fits:
            _annotate(axes, image, table, value, (columns.positions(table[x]), rows.positions(table[y])))
        blank = int(np.isnan(cells).sum())
        titled(
            axes,
            title,
            "small print: 95% Wilson interval" if any(text.get_gid() == INTERVAL for text in axes.texts) else "",
            "" if fits else "too many cells for a number in each",
            f"{blank} of {cells.size} cells have no value" if blank else "",
        )
    return axes


def _name(column: Column) -> str:
    words = column.name.removesuffix("_per_s").removesuffix("_s").replace("_", " ")
    return words[0].upper() + words[1:]


def _format(column: Column, number: float) -> str:
    if column.unit == "s":
        return duration(number)
    return percent(number) if "_rate" in column.name else plain_number(number)


def _cells(table: pd.DataFrame, value: str, places: Any, scales: tuple[Scale, Scale]) -> NDArray[np.float64]:
    cells = np.full(tuple(len(scale.values) for scale in scales), np.nan)
    cells[places[0].astype(int), places[1].astype(int)] = table[value]
    return cells


def _draw_cells(ax: Axes, cells: NDArray[np.float64], column: Column, *, fits: bool) -> AxesImage:
    low, high = (float(np.nanmin(cells)), float(np.nanmax(cells))) if np.isfinite(cells).any() else (0.0, 1.0)
    low = 0.0 if "_rate" in column.name or low == high else low
    ax.set_facecolor("#ececec")
    # One hue, from light to dark: it reads the same for every eye and in grey.
    image = ax.imshow(cells, cmap="Blues", aspect="auto", origin="lower", vmin=low, vmax=high or 1.0)
    if fits:
        for row, place in np.argwhere(np.isnan(cells)):
            ax.text(place, row, "–", ha="center", va="center", color=INK, gid="llmlab-blank")
        ax.set_xticks(np.arange(cells.shape[1] + 1) - 0.5, minor=True)
        ax.set_yticks(np.arange(cells.shape[0] + 1) - 0.5, minor=True)
        ax.grid(visible=True, which="minor", color="white", linewidth=2)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)
    bar = ax.figure.colorbar(image, ax=ax, pad=0.02, fraction=0.05)
    bar.ax.spines[:].set_visible(False)
    bar.set_label(_name(column).lower() + (f" ({column.unit})" if column.unit else ""))
    plain = FuncFormatter(lambda number, _: f"{number:.4g}")
    bar.ax.yaxis.set_major_formatter(percent_ticks() if "_rate" in column.name else plain)
    bar.ax.tick_params(labelsize=9.5, labelcolor=INK, length=0)
    return image


def _annotate(ax: Axes, image: AxesImage, table: pd.DataFrame, value: str, places: Any) -> None:
    column = _COLUMNS[value]
    inches = width_of(ax)
    cell = inches / len(np.unique(places[0]))
    with_interval = f"{value}_low" in table and cell >= (
        0.68 if inches > 6 else 1.0
    )  # panels lose more to their labels
    for row, x, y in zip(table.to_dict("records"), *places, strict=True):
        number = row[value]
        if np.isnan(number):
            continue
        color = readable_on(image.cmap(image.norm(number)))
        look: dict[str, Any] = {"ha": "center", "va": "center", "color": color}
        ax.text(
            x, y + (0.12 if with_interval else 0), _format(column, number), fontsize=10.5, gid="llmlab-cell", **look
        )
        if with_interval:
            low, high = row[f"{value}_low"], row[f"{value}_high"]
            text = f"{percent(low).removesuffix('%')}–{percent(high)}"
            ax.text(x, y - 0.22, text, fontsize=8, gid=INTERVAL, **look)


def readable_on(background: Any) -> str:
    """Return black or white, whichever contrasts more with the background (WCAG 2.2's relative luminance)."""
    channels = np.asarray(mpl.colors.to_rgb(background))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ [0.2126, 0.7152, 0.0722])
    return "#ffffff" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "#000000"
