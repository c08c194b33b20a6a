"""Two sources of calls against each other, such as a simulation and the server that it stands for.

Both charts take the sources as `{"simulation": simulated.calls, "Ollama": real.calls}`: the first is the reference.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.lines import Line2D

from llmlab.analysis.metrics import over_mask
from llmlab.analysis.stats import percentile_intervals
from llmlab.analysis.wording import counted
from llmlab.plots.labels import duration, percent, percent_ticks
from llmlab.plots.scales import latency_scale
from llmlab.plots.style import BLUE, FAINT, INK, ORANGE, chart, legend, nothing_to_show, titled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from llmlab.analysis.metrics import Over
    from llmlab.analysis.stats import PercentileInterval

_CURVE_POINTS = 512  # finer than a screen shows
_NAMED = {0.5: "o", 0.9: "s", 0.95: "D", 0.99: "^"}
_SIZE = 5.2  # inches: a chart of something against itself is square


class _Sample(NamedTuple):
    name: str
    ordered: NDArray[np.float64]
    share: float  # of the source's calls

    def described(self) -> str:
        return f"{self.name}: {counted(len(self.ordered), 'call')}"


def compare_qq(sources: Mapping[str, pd.DataFrame], *, over: Over = "answered", ax: Axes | None = None) -> Axes:
    """Draw the percentiles of one source's latency against the other's: on the diagonal they are equally long.

    Marks show p50, p90, p95 and p99 with the 95% order-statistic interval of each source; an interval that the sample
    is too small to bound is left open at that end.

    Args:
        sources: two frames of calls by name; the first lies along the horizontal axis.
        over: which calls: `"all"`, `"answered"` or `"failed"`; the axes say which.
        ax: the axes to draw on; a new figure if `None`.

    Raises:
        ValueError: there are not two sources, or `over` is none of the words.

    Example:
        >>> ax = compare_qq({"simulation": result.calls, "Ollama": other.calls})
    """
    first, second = samples = _samples(sources, over)
    with chart(ax, height=_SIZE) as axes:
        title = f"Percentiles of latency: {second.name} against {first.name}"
        axes.set_xlabel(f"{first.name}: latency of {over} calls (s)")
        axes.set_ylabel(f"{second.name}: latency of {over} calls (s)")
        empty = [sample.name for sample in samples if not sample.ordered.size]
        if empty:
            titled(axes, title)
            nothing_to_show(axes, f"{over} calls of {' and '.join(empty)}")
            return axes
        _square_scale(axes, samples)
        _draw_percentiles(axes, samples)
        _draw_named(axes, samples)
        legend(axes, "percentile")
        titled(axes, title, "; ".join(sample.described() for sample in samples), "bars: 95% intervals")
    return axes


def compare_ecdf(sources: Mapping[str, pd.DataFrame], *, over: Over = "answered", ax: Axes | None = None) -> Axes:
    """Draw the distributions of two sources' latencies over each other, and where they are furthest apart.

    Each curve rises to 1 over its own chosen calls; the legend says which share of the source's calls they are. Bands
    are 95% for the whole curve (Dvoretzky, Kiefer and Wolfowitz, 1956, with P. Massart's constant, 1990), calls taken
    as independent.

    Args:
        sources: two frames of calls by name.
        over: which calls: `"all"`, `"answered"` or `"failed"`; the axis says which.
        ax: the axes to draw on; a new figure if `None`.

    Raises:
        ValueError: there are not two sources, or `over` is none of the words.

    Example:
        >>> ax = compare_ecdf({"simulation": result.calls, "Ollama": other.calls})
    """
    samples = _samples(sources, over)
    with chart(ax) as axes:
        title = f"Distribution of latency: {samples[1].name} against {samples[0].name}"
        axes.set(xlabel="latency (s)", ylabel=f"share of {over} calls within that time")
        axes.yaxis.set_major_formatter(percent_ticks())
        shown = [sample for sample in samples if sample.ordered.size]
        if not shown:
            titled(axes, title)
            nothing_to_show(axes, f"{over} calls")
            return axes
        left, right = _span(axes, shown, "x")
        handles = [
            _draw_curve(axes, sample, over, look, (left, right))
            for sample, look in zip(samples, ((BLUE, "-"), (ORANGE, (0, (5, 1.5)))), strict=True)
            if sample.ordered.size
        ]
        axes.set_xlim(left, right)
        axes.set_ylim(0, 1.02)
        gap = ""
        if len(shown) == 2:
            place, size = _largest_gap(*samples)
            gap = f"furthest apart ({percent(size)}) at {duration(place)}"
            handles.append(
                axes.axvline(max(place, left), color=FAINT, linestyle=":", linewidth=1.4, label="largest gap")
            )
        legend(axes, "source", handles)
        missing = [f"no {over} calls of {sample.name}" for sample in samples if not sample.ordered.size]
        titled(axes, title, gap, *missing, "bands: 95%, each for its whole curve")
    return axes


def _samples(sources: Mapping[str, pd.DataFrame], over: Over) -> tuple[_Sample, _Sample]:
    if len(sources) != 2:
        raise ValueError(f"two sources are compared, got {len(sources)}: {list(sources)}; give two frames by name")
    made = []
    for name, calls in sources.items():
        mask = over_mask(calls, over)
        chosen = calls["latency_s"] if mask is None else calls["latency_s"][mask]
        share = len(chosen) / len(calls) if len(calls) else math.nan
        made.append(_Sample(str(name), np.sort(chosen.to_numpy(dtype=np.float64)), share))
    return made[0], made[1]


def _span(ax: Axes, samples: Sequence[_Sample], which: str) -> tuple[float, float]:
    """Make the axis logarithmic where that helps, and return from where to where it should go."""
    both = np.concatenate([sample.ordered for sample in samples])
    left = latency_scale(ax, which, both)
    return left, float(both.max()) * 1.02 or 1.0


def _square_scale(ax: Axes, samples: tuple[_Sample, _Sample]) -> None:
    (left, right), _ = (_span(ax, samples, which) for which in "xy")
    ax.set_xlim(left, right)
    ax.set_ylim(left, right)
    ax.set_aspect("equal", adjustable="box")
    ax.plot([left, right], [left, right], color=FAINT, linewidth=1.2, zorder=1, label="equally long")


def _draw_percentiles(ax: Axes, samples: tuple[_Sample, _Sample]) -> None:
    # No more percentiles than the smaller sample can tell apart, nor than a screen can show.
    count = min(*(len(sample.ordered) for sample in samples), _CURVE_POINTS)
    shares = (np.arange(count) + 0.5) / count
    places = [np.maximum(np.quantile(sample.ordered, shares), ax.get_xlim()[0]) for sample in samples]
    ax.plot(
        *places, color=BLUE, linewidth=0, marker="o", markersize=3, markeredgewidth=0, zorder=2, label="percentiles"
    )


def _draw_named(ax: Axes, samples: tuple[_Sample, _Sample]) -> None:
    intervals = [percentile_intervals(sample.ordered, list(_NAMED)) for sample in samples]
    for (share, marker), *ends in zip(_NAMED.items(), *intervals, strict=True):
        (x, x_reach), (y, y_reach) = (_reach(each) for each in ends)
        look: dict[str, Any] = {"color": INK, "markerfacecolor": ORANGE, "markersize": 7, "elinewidth": 1.3}
        name = f"p{100 * share:g}"
        ax.errorbar([x], [y], xerr=x_reach, yerr=y_reach, fmt=marker, label=name, zorder=3, **look)


def _reach(interval: PercentileInterval) -> tuple[float, NDArray[np.float64]]:
    """Return the estimate, and how far its bar reaches down and up: not at all to an end that is open."""
    reach = [interval.estimate - interval.low, interval.high - interval.estimate]
    return interval.estimate, np.nan_to_num(np.array(reach)).clip(min=0)[:, None]


def _draw_curve(ax: Axes, sample: _Sample, over: Over, look: tuple[str, Any], span: tuple[float, float]) -> Line2D:
    (color, linestyle), (left, right) = look, span
    ranks = np.unique(np.linspace(0, len(sample.ordered) - 1, _CURVE_POINTS).round().astype(np.int64))
    places = np.concatenate([[left], np.maximum(sample.ordered[ranks], left), [right]])
    at_left = np.searchsorted(sample.ordered, left, side="right")
    shares = np.concatenate([[at_left], ranks + 1, [len(sample.ordered)]]) / len(sample.ordered)
    reach = math.sqrt(math.log(2 / 0.05) / (2 * len(sample.ordered)))
    label = sample.name if over == "all" else f"{sample.name}: {percent(sample.share)} {over}"
    ax.fill_between(
        places,
        np.maximum(shares - reach, 0),
        np.minimum(shares + reach, 1),
        step="post",
        color=color,
        alpha=0.15,
        linewidth=0,
    )
    [line] = ax.step(places, shares, where="post", color=color, linestyle=linestyle, label=label)
    return line


def _largest_gap(first: _Sample, second: _Sample) -> tuple[float, float]:
    """Return where the two distribution functions are furthest apart, and by how much."""
    from scipy import stats  # noqa: PLC0415 - late, as `quantiles.py` says

    with np.errstate(divide="ignore"):  # of the p-value, for a call or two; it is not used
        found = stats.ks_2samp(first.ordered, second.ordered, method="asymp")
    return float(found.statistic_location), float(found.statistic)
