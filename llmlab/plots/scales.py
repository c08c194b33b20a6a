"""A swept parameter as an axis or as series: which scale, which ticks, and which values are left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.ticker import (
    FixedFormatter,
    FixedLocator,
    LogLocator,
    NullFormatter,
    NullLocator,
    StrMethodFormatter,
)

from llmlab.plots.labels import axis_label, drawn, parameter_name, value_label
from llmlab.plots.style import MAX_SERIES, SeriesStyle, series_styles, width_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray

_INCHES_OF_A_TICK = 0.36
_CHARACTERS_OF_AN_INCH = 11
_MOST_ROWS = 16  # ticks of a vertical axis
MOST_BARS = 40
"""With more bars than that they touch, and have no error bars."""


class Scale(NamedTuple):
    """Where the values of a swept parameter stand on an axis.

    `values` are the distinct values in order. Numbers stand at themselves; words, booleans, and numbers among which one
    is missing (a setting that was `None`) stand side by side at 0, 1, 2... `ordered` says that they are numbers.
    """

    values: list[Any]
    numeric: bool
    ordered: bool
    logarithmic: bool

    @classmethod
    def of(cls, column: pd.Series[Any], *, side_by_side: bool = False) -> Scale:
        """Choose the scale for a column's values."""
        values = _distinct(column)
        numeric = not side_by_side and is_number(column) and not column.isna().any()
        return cls(values, numeric, is_number(column), numeric and wants_log(values))

    def positions(self, column: pd.Series[Any]) -> NDArray[np.float64]:
        """Return where each value of a column stands."""
        if self.numeric:
            return column.to_numpy(dtype=np.float64)
        return _codes(column, self.values).astype(np.float64)

    def dress(self, ax: Axes, path: str, *, which: str = "x") -> None:
        """Label an axis and set its ticks: at the measured values where there is room for them."""
        axis = ax.xaxis if which == "x" else ax.yaxis
        axis.set_label_text(axis_label(path))
        if self.logarithmic:
            ax.set(**{f"{which}scale": "log"})
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        inches = width_of(ax) if which == "x" else _MOST_ROWS * _INCHES_OF_A_TICK
        if self.numeric and not self._has_room(inches):
            return
        step = -(-len(self.values) // max(int(inches / _INCHES_OF_A_TICK), 1))
        shown = range(0, len(self.values), step)
        axis.set_major_locator(FixedLocator([float(self.values[i]) if self.numeric else float(i) for i in shown]))
        texts = [drawn(self.values[i]) for i in shown]
        axis.set_major_formatter(FixedFormatter(texts))
        if not self.numeric:
            set_limits = ax.set_xlim if which == "x" else ax.set_ylim
            set_limits(-0.5, len(self.values) - 0.5)
            if which == "x" and max(map(len, texts)) * len(texts) > _CHARACTERS_OF_AN_INCH * inches:
                ax.tick_params(axis="x", labelrotation=30)
                for label in ax.get_xticklabels():
                    label.set(ha="right", rotation_mode="anchor")

    def _has_room(self, inches: float) -> bool:
        places = np.asarray(self.values, dtype=np.float64)
        places = np.log(places) if self.logarithmic else places
        return len(places) < 2 or bool(np.diff(places).min() >= np.ptp(places) * _INCHES_OF_A_TICK / inches)


class Series(NamedTuple):
    """The series that a column splits a chart into: value, label and style of each, and a note on those left out."""

    values: list[Any]
    labels: list[str]
    styles: list[SeriesStyle]
    note: str

    @classmethod
    def of(cls, column: pd.Series[Any], path: str, *, most: int = MAX_SERIES) -> Series:
        """Choose the series: all, or of too many numbers an even spread, or of too many words the first."""
        values = _distinct(column)
        ordered = is_number(column)
        left_out = len(values) - most
        note = ""
        if left_out > 0:
            chosen = np.linspace(0, len(values) - 1, most).round().astype(int) if ordered else range(most)
            note = f"{left_out} of {len(values)} values of {parameter_name(path)} are left out"
            values = [values[i] for i in chosen]
        return cls(values, [drawn(value) for value in values], series_styles(len(values), ordered=ordered), note)

    def rows(self, table: pd.DataFrame, hue: str) -> list[pd.DataFrame]:
        """Return each series' rows of a table."""
        codes = _codes(table[hue], self.values)
        return [table[codes == number] for number in range(len(self.values))]


def wants_log(values: Any) -> bool:
    """Say whether positive numbers span so much that a linear axis would crush the small ones."""
    numbers = np.asarray(values, dtype=np.float64)
    return len(numbers) > 2 and bool(numbers.min() > 0) and bool(numbers.max() / numbers.min() >= 50)


def bar_width(count: int) -> float:
    """Return how wide each of so many bars is that stand side by side; a single one does not fill the axes."""
    if count > MOST_BARS:
        return 1.0
    return 0.72 if count > 1 else 0.3


def is_number(column: pd.Series[Any]) -> bool:
    """Say whether a column holds numbers, which booleans are not."""
    return pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype)


def latency_scale(ax: Axes, which: str, latencies: ArrayLike) -> float:
    """Make an axis of seconds logarithmic where that helps; return where it should begin."""
    values = np.asarray(latencies, dtype=np.float64)
    positive = values[values > 0]
    # The bulk decides: one call in a thousand that took a microsecond is no reason for three empty decades.
    low, middle = np.quantile(positive, [0.01, 0.5]) if len(positive) else (0.0, 0.0)
    high = positive.max(initial=0.0)
    if not wants_log([low, middle, high]):
        if which == "y":
            ax.set_ylim(bottom=0)
        return 0.0
    ax.set(**{f"{which}scale": "log"})
    axis = ax.xaxis if which == "x" else ax.yaxis
    decades = np.log10(high / low)
    roomy = decades < (width_of(ax) / 1.5 if which == "x" else 3.3)
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if roomy else (1.0,)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())
    return float(low) / 2


def _distinct(column: pd.Series[Any]) -> list[Any]:
    present = column.dropna().unique()
    order = column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else None
    values = list(present) if order is None else [word for word in order if word in set(present)]
    if order is None and _is_sortable(column):
        values = sorted(values)
    return [*values, np.nan] if column.isna().any() else values


def _codes(column: pd.Series[Any], values: list[Any]) -> NDArray[np.int64]:
    places = {value_label(value): place for place, value in enumerate(values)}
    return np.array([places.get(value_label(value), -1) for value in column], dtype=np.int64)


def _is_sortable(column: pd.Series[Any]) -> bool:
    return pd.api.types.is_numeric_dtype(column.dtype)
