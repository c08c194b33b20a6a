"""The storm map: at which loads, and with how many retries, a system comes back after an outage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from llmlab.analysis.columns import need_columns
from llmlab.experiments.storm_map import RATE, RECOVERED, RETRIES
from llmlab.plots.labels import percent, value_label
from llmlab.plots.panels import AROUND_PANELS, panels
from llmlab.plots.scales import Scale
from llmlab.plots.style import INK, VERMILLION, chart, legend, nothing_to_show, titled, width_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_WELL: dict[str, Any] = {"facecolor": "#cfe6f5", "hatch": ""}
_ILL: dict[str, Any] = {"facecolor": VERMILLION, "hatch": "////"}
_LINE: dict[str, Any] = {"color": INK, "linewidth": 2.2}
BETWEEN = "llmlab-between"
"""The `gid` of the small print in cells that neither recovered wholly nor failed wholly."""

_ROW, _OF_A_MAP = 0.2, 0.5  # inches: of one number of retries, and of a map's label and margin
_CELL = 0.27  # inches that the small print needs


def storm_map(points: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw where a system recovered from its outage, over load and retries r, with the line lambda (1 + r) = mu.

    Right of the line, retries can keep the server overloaded for ever. Each defence has a panel of its own inside of
    the axes (`ax.child_axes`, from the top). Small print is how many calls in a hundred were answered at the end, where
    it is neither all nor none. Points that were not run are left blank.

    Args:
        points: what `llmlab.storm_map` returns.
        ax: the axes to draw on; a new figure if `None`, as high as its panels need.

    Raises:
        KeyError: the frame lacks a column.
        ValueError: several rows are of the same defence, load and number of retries.

    Example:
        >>> ax = storm_map(points)  # of llmlab.storm_map(experiment, rates=range(15, 301, 15), retries=range(5))
    """
    needed = ["defence", RATE, RETRIES, "capacity_per_s", "recovered", "answered_share"]
    need_columns(points, needed)
    if (again := points[points.duplicated(["defence", RATE, RETRIES])]).size:
        raise ValueError(f"{len(again)} points are there twice, the first with {dict(again.iloc[0][needed[:3]])}")
    defences = Scale.of(points["defence"]).values
    retries = Scale.of(points[RETRIES], side_by_side=True)
    height = AROUND_PANELS + max(len(defences), 1) * (_OF_A_MAP + _ROW * max(len(retries.values), 3))
    with chart(ax, height=height) as axes:
        if points.empty:
            titled(axes, "Storm map")
            nothing_to_show(axes, "points")
            return axes
        rates = np.unique(points[RATE].to_numpy(dtype=np.float64))
        maps = panels(axes, [str(name) for name in defences], xlabel="load (calls/s)")
        for defence, panel in zip(defences, maps, strict=True):
            _draw_map(panel, points[points["defence"] == defence], rates, retries)
        between = any(text.get_gid() == BETWEEN for panel in maps for text in panel.texts)
        lines = [Line2D([], [], label="λ (1 + r) = μ", **_LINE)] if points["capacity_per_s"].notna().any() else []
        kinds = [Patch(label="recovers", **_WELL), Patch(label="does not", edgecolor="white", linewidth=0, **_ILL)]
        legend(maps[0], "after the outage", [*kinds, *lines])
        note = f"recovers: in the end at least {percent(RECOVERED)} of the calls are answered"
        small = "small print: how many in a hundred, where it is neither all nor none" if between else ""
        titled(axes, "Storm map: load and retries per call (r)", note, small)
    return axes


def _draw_map(ax: Axes, points: pd.DataFrame, rates: NDArray[np.float64], retries: Scale) -> None:
    columns = np.searchsorted(rates, points[RATE].to_numpy(dtype=np.float64))
    rows = retries.positions(points[RETRIES]).astype(int)
    recovered = np.full((len(retries.values), len(rates)), np.nan)
    recovered[rows, columns] = points["recovered"]
    edges = _edges(rates)
    for look, value in ((_WELL, 1), (_ILL, 0)):
        some = np.ma.masked_where(recovered != value, recovered)
        colour = ListedColormap([look["facecolor"]])
        ax.pcolor(
            edges, _edges(np.arange(len(retries.values))), some, cmap=colour, hatch=look["hatch"], edgecolor="white"
        )
    capacity = points["capacity_per_s"].to_numpy(dtype=np.float64)
    if np.isfinite(capacity).any():
        places = float(np.nanmax(capacity)) / (1 + np.asarray(retries.values, dtype=np.float64))
        heights = np.arange(len(places))
        ax.plot(np.repeat(places, 2), np.column_stack([heights - 0.5, heights + 0.5]).ravel(), **_LINE)
    _annotate(ax, points, rows)
    ax.set_yticks(np.arange(len(retries.values)), [f"r={value_label(value)}" for value in retries.values])
    ax.set_ylim(-0.5, len(retries.values) - 0.5)
    ax.set_xlim(edges[0], edges[-1])
    ax.grid(visible=False)
    ax.set_facecolor("#ececec")
    ax.tick_params(length=0)


def _edges(places: NDArray[Any]) -> NDArray[np.float64]:
    """Return where cells around these places meet: half-way; the outer ones are as wide as their neighbours' halves."""
    if len(places) == 1:
        return np.array([places[0] - 0.5, places[0] + 0.5])
    middle = (places[1:] + places[:-1]) / 2
    return np.concatenate([[2 * places[0] - middle[0]], middle, [2 * places[-1] - middle[-1]]])


def _annotate(ax: Axes, points: pd.DataFrame, rows: NDArray[np.int64]) -> None:
    rates = points[RATE].to_numpy(dtype=np.float64)
    if width_of(ax) / max(len(np.unique(rates)), 1) < _CELL:
        return
    for rate, row, share in zip(rates, rows, points["answered_share"], strict=True):
        if 0.005 < share < 0.995:
            ax.text(
                rate,
                row,
                f"{100 * share:.0f}",
                ha="center",
                va="center",
                fontsize=8,
                color=INK,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.2, "alpha": 0.85},
                gid=BETWEEN,
            )
