"""Which charts suit a result: those that a report shows, by what was swept.

`page.py` puts them on one page, `llmlab.reports` into a file. A parameter with many numbers makes an axis, one with few
values makes series; with more than two, the others are averaged over, and every chart says so.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from llmlab.analysis import timeline
from llmlab.core.settings import SettingsError
from llmlab.plots.amplification import retry_amplification
from llmlab.plots.breakdown import outcomes
from llmlab.plots.grid import heatmap
from llmlab.plots.histogram import latency_histogram
from llmlab.plots.history import over_time
from llmlab.plots.latency import latency_ecdf, latency_percentiles
from llmlab.plots.pareto import pareto
from llmlab.plots.rates import failure_rate
from llmlab.plots.reasons import failure_reasons
from llmlab.plots.scales import is_number
from llmlab.plots.spending import time_spent
from llmlab.plots.style import HEIGHT
from llmlab.plots.timeline import attempts_timeline

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from matplotlib.axes import Axes

    from llmlab.analysis.recommendation import Recommendation

_BINS = 120
"""About how many bins of time a run is cut into."""


class Result(Protocol):
    """What is reported: a `SweepResult`, or anything with its frames."""

    parameters: list[str]

    @property
    def calls(self) -> pd.DataFrame:
        """One row per call, the swept settings as columns."""
        ...

    @property
    def attempts(self) -> pd.DataFrame:
        """One row per attempt, the swept settings as columns."""
        ...

    @property
    def server(self) -> pd.DataFrame:
        """The simulated servers' own view; no rows where there is none."""
        ...


class Panel(NamedTuple):
    """One chart of a report: the question that it answers, how to draw it on axes, and how high it is by itself."""

    question: str
    draw: Callable[[Axes], Axes]
    height: float = HEIGHT


class Chosen(NamedTuple):
    """What a report shows: its charts, and the swept parameters that they average over."""

    panels: list[Panel]
    averaged: list[str]


def charts_of(result: Result, recommendation: Recommendation | None = None) -> Chosen:
    """Choose the charts for a result, the most important first."""
    calls = result.calls
    axes = _by_breadth(calls, result.parameters)
    if not axes:
        panels = _of_one_setting(result, calls)
    elif len(axes) == 1:
        panels = _of_one_parameter(calls, axes[0])
    else:
        panels = _of_two_parameters(calls, axes[0], axes[1])
    if recommendation is not None:
        points, slo = recommendation.points, recommendation.slo
        panels.insert(0, Panel("What should I set?", lambda ax: pareto(points, slo=slo, ax=ax)))
    return Chosen(panels, axes[2:])


def _by_breadth(calls: pd.DataFrame, parameters: list[str]) -> list[str]:
    """Return the parameters that differ, numbers first, and among these the one with the most values."""
    counts = {name: calls[name].nunique(dropna=False) for name in parameters}
    differing = [name for name in parameters if counts[name] > 1]
    numbers = {name for name in differing if is_number(calls.loc[:, name])}
    return sorted(differing, key=lambda name: (name not in numbers, -counts[name]))


def _of_one_setting(result: Result, calls: pd.DataFrame) -> list[Panel]:
    of_calls = [
        Panel("How long do calls take, and how many fail?", lambda ax: latency_ecdf(calls, ax=ax)),
        Panel("Where do latencies pile up?", lambda ax: latency_histogram(calls, ax=ax)),
        Panel("How often do calls fail, and why?", lambda ax: failure_reasons(calls, ax=ax)),
        Panel("Where does the time go?", lambda ax: time_spent(calls, ax=ax)),
    ]
    run = _first_run(calls, calls)
    try:
        tries, server = _first_run(result.attempts, calls), _first_run(result.server, calls)
    except SettingsError:  # a store that keeps calls only
        return of_calls

    def history(ax: Axes) -> Axes:
        bins = timeline.over_time(run, tries, server, step=_step(run))
        return over_time(bins, show=_shown(bins), ax=ax)

    return [
        Panel("What happened over time?", history, 6.0),
        *of_calls,
        Panel("What do single calls meet?", lambda ax: attempts_timeline(tries, run, first=25, ax=ax), 6.6),
    ]


def _of_one_parameter(calls: pd.DataFrame, x: str) -> list[Panel]:
    return [
        Panel("How often do calls fail?", lambda ax: failure_rate(calls, x=x, ax=ax)),
        Panel("How long do calls take?", lambda ax: latency_percentiles(calls, x=x, ax=ax)),
        Panel("Why do calls fail?", lambda ax: outcomes(calls, x=x, ax=ax)),
        Panel("Where does the time go?", lambda ax: time_spent(calls, x=x, ax=ax)),
        Panel("How much load do retries add?", lambda ax: retry_amplification(calls, x=x, ax=ax)),
        Panel("How are latencies distributed?", lambda ax: latency_ecdf(calls, hue=x, ax=ax)),
    ]


def _of_two_parameters(calls: pd.DataFrame, x: str, hue: str) -> list[Panel]:
    return [
        Panel("How often do calls fail?", lambda ax: failure_rate(calls, x=x, hue=hue, ax=ax)),
        Panel("How long do calls take?", lambda ax: latency_percentiles(calls, x=x, hue=hue, q=(0.5, 0.95), ax=ax)),
        Panel("What does each combination bring?", lambda ax: heatmap(calls, x=x, y=hue, ax=ax)),
        Panel("How much load do retries add?", lambda ax: retry_amplification(calls, x=x, hue=hue, ax=ax)),
        Panel("Why do calls fail?", lambda ax: outcomes(calls, x=x, ax=ax)),
        Panel("Where does the time go?", lambda ax: time_spent(calls, x=x, ax=ax)),
        Panel("How are latencies distributed?", lambda ax: latency_ecdf(calls, hue=hue, ax=ax)),
    ]


def _first_run(frame: pd.DataFrame, calls: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the first replicate, for charts of one run."""
    if "replicate" not in frame.columns or calls.empty:
        return frame
    of_first: pd.DataFrame = frame[(frame["replicate"] == calls["replicate"].iloc[0]).to_numpy()]
    return of_first


def _shown(bins: pd.DataFrame) -> list[str]:
    names = ["goodput_per_s", "failed", "queue", "in_flight"]
    return [name for name in names if bins[name].notna().any()]


def _step(calls: pd.DataFrame) -> float:
    """Return a round number of seconds, 1, 2 or 5 times a power of ten, that cuts a run into some hundred bins."""
    if calls.empty:
        return 1.0
    least = max(float(calls["ended_at_s"].max() - calls["arrived_at_s"].min()), 1e-3) / _BINS
    power = 10.0 ** math.floor(math.log10(least))
    return float(next(step for step in np.array([1, 2, 5, 10]) * power if step >= least * (1 - 1e-9)))
