"""Latency as a histogram: where the calls pile up, which a cumulative curve hides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from llmlab.analysis.groups import Groups
from llmlab.analysis.metrics import over_mask
from llmlab.analysis.stats import wilson
from llmlab.analysis.wording import counted
from llmlab.core.vocabulary import FailureReason, Fate
from llmlab.plots.labels import axis_label, parameter_name, percent_ticks
from llmlab.plots.scales import Series, latency_scale
from llmlab.plots.style import INK, OUTCOMES, SeriesStyle, chart, legend, nothing_to_show, titled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from llmlab.analysis.metrics import Over

_MOST_BANDS = 4
_ANSWERED, _FAILED = OUTCOMES[Fate.ANSWERED], OUTCOMES[FailureReason.TOTAL_DEADLINE_EXCEEDED]


class _Bins(NamedTuple):
    """Edges that are equally wide on the axis: in seconds, or where it is logarithmic in their logarithm."""

    edges: NDArray[np.float64]
    logarithmic: bool

    def counts(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """Count the values in each bin; the few that lie before the first edge go into the first bin."""
        inside = np.maximum(values, self.edges[0])
        places, ends = (np.log(inside), np.log(self.edges)) if self.logarithmic else (inside, self.edges)
        return np.histogram(places, len(self.edges) - 1, (ends[0], ends[-1]))[0]  # given so, bins cost no search


def latency_histogram(
    calls: pd.DataFrame, *, hue: str | None = None, over: Over = "all", bins: int = 40, ax: Axes | None = None
) -> Axes:
    """Draw which share of the calls took how long, in equally wide bins; the axis is logarithmic where that helps.

    Without a hue, failed calls stand on top of the answered ones. With one, each of its values is an outline, as a
    share of its own calls. Bars and bands are pointwise 95% Wilson intervals.

    Args:
        calls: calls, one a row.
        hue: the column that makes one outline for each of its values; at most `MAX_SERIES`, and it says so.
        over: which calls: `"all"`, `"answered"` or `"failed"`; the axis says which.
        bins: how many.
        ax: the axes to draw on; a new figure if `None`.

    Raises:
        KeyError: the frame lacks the column; the message lists those there are.
        ValueError: `over` is none of these, or `bins` is less than 1.

    Example:
        >>> ax = latency_histogram(result.calls, hue="policy.retry.max_retries")
    """
    if bins < 1:
        raise ValueError(f"bins must be 1 or more, got {bins}")
    mask = over_mask(calls, over)
    groups = Groups(calls, hue)
    with chart(ax) as axes:
        which = "calls" if over == "all" else f"{over} calls"
        axes.set(xlabel="latency (s)", ylabel=f"share of {over} calls in the bin")
        axes.yaxis.set_major_formatter(percent_ticks())
        title = "Histogram of latency" + ("" if hue is None else f" by {parameter_name(hue)}")
        chosen = calls["latency_s"] if mask is None else calls["latency_s"][mask]
        if chosen.empty:
            titled(axes, title)
            nothing_to_show(axes, which)
            return axes
        cut = _bins(axes, chosen, bins)
        note = (
            _draw_stack(axes, cut, chosen, calls["answered"] if over == "all" else None, over)
            if hue is None
            else _draw_outlines(axes, cut, groups, groups.values(calls["latency_s"], mask), hue)
        )
        axes.set_xlim(cut.edges[0], cut.edges[-1])
        axes.set_ylim(bottom=0)
        titled(axes, title, counted(len(chosen), which.removesuffix("s")), note)
    return axes


def _bins(ax: Axes, latencies: pd.Series[float], count: int) -> _Bins:
    left, right = latency_scale(ax, "x", latencies), float(latencies.max())
    logarithmic = ax.get_xscale() == "log"
    right = right if right > left else left + 1.0  # all calls took no time at all
    edges = np.geomspace(left, right, count + 1) if logarithmic else np.linspace(left, right, count + 1)
    edges[-1] = right  # not a rounding error below the largest value
    return _Bins(edges, logarithmic)


def _draw_stack(
    ax: Axes, bins: _Bins, latencies: pd.Series[float], answered: pd.Series[bool] | None, over: Over
) -> str:
    values = latencies.to_numpy()
    whole = bins.counts(values)
    below = whole if over == "answered" else np.zeros_like(whole)
    if answered is not None:
        below = bins.counts(values[answered.to_numpy()])
    left, width = bins.edges[:-1], np.diff(bins.edges)
    handles: list[Patch] = []
    for name, style, bottom, top in (("answered", _ANSWERED, 0 * below, below), ("failed", _FAILED, below, whole)):
        if not (top > bottom).any():
            continue
        look: dict[str, Any] = {"facecolor": style.color, "hatch": style.hatch, "edgecolor": "white", "linewidth": 0.5}
        ax.bar(left, (top - bottom) / len(values), width, bottom / len(values), align="edge", label=name, **look)
        handles.insert(0, Patch(label=name, **look))
    ends = wilson(whole, len(values))
    middle = np.sqrt(left * bins.edges[1:]) if bins.logarithmic else left + width / 2
    shares = whole / len(values)
    reach = np.clip([shares - ends.low, ends.high - shares], 0, None)[:, whole > 0]
    ax.errorbar(
        middle[whole > 0], shares[whole > 0], yerr=reach, fmt="none", ecolor=INK, elinewidth=0.9, capsize=0, label="_"
    )
    legend(ax, "calls", handles)
    return "error bars: 95% Wilson intervals"


def _draw_outlines(ax: Axes, bins: _Bins, groups: Groups, samples: list[NDArray[Any]], hue: str) -> str:
    series = Series.of(groups.keys[hue], hue)
    numbers = [int(rows.index[0]) for rows in series.rows(groups.keys, hue)]
    handles: list[Any] = []
    empty = []
    for style, label, number in zip(series.styles, series.labels, numbers, strict=True):
        if samples[number].size == 0:
            empty.append(label)
            continue
        _draw_outline(ax, bins, samples[number], style, band=len(numbers) <= _MOST_BANDS)
        handles.append(
            Line2D([], [], color=style.color, linestyle=style.linestyle, marker=style.marker, markersize=5, label=label)
        )
    legend(ax, axis_label(hue), handles)
    bands = "pointwise 95% Wilson bands"
    notes = [
        bands if len(numbers) <= _MOST_BANDS else f"{bands} are drawn for up to {_MOST_BANDS} series",
        series.note,
        f"no such calls at {parameter_name(hue)} {', '.join(empty)}" if empty else "",
    ]
    return "; ".join(note for note in notes if note)


def _draw_outline(ax: Axes, bins: _Bins, values: NDArray[Any], style: SeriesStyle, *, band: bool) -> None:
    counts = bins.counts(values)
    shares = counts / len(values)
    markers: dict[str, Any] = {"marker": style.marker, "markevery": (0.1, 0.2), "markersize": 5}
    # A step holds from its edge to the next one, so the last share is said twice.
    steps = [np.append(heights, heights[-1]) for heights in (shares, *wilson(counts, len(values)))]
    ax.step(bins.edges, steps[0], where="post", color=style.color, linestyle=style.linestyle, **markers)
    if band:
        ax.fill_between(bins.edges, steps[1], steps[2], step="post", color=style.color, alpha=0.15, linewidth=0)
