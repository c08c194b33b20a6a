"""Every chart of many events, as a call without arguments."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

from llmlab import plots
from llmlab.analysis.timeline import over_time
from tests.benchmarks.plots import events
from tests.benchmarks.plots.events import HUE, X

if TYPE_CHECKING:
    from collections.abc import Callable


def charts(count: int) -> dict[str, Callable[[], object]]:
    """Return every chart that is made of events, each of so many."""
    calls, attempts, server = events.calls(count), events.attempts(count), events.server()
    alone, tries = (frame.drop(columns=[X, HUE, "replicate", "seed"]) for frame in (calls, attempts))
    halves = {"simulation": calls[: count // 2], "Ollama": calls[count // 2 :]}
    swept = SimpleNamespace(parameters=[X, HUE], calls=calls, attempts=attempts, server=server)
    return {
        "attempts_timeline": lambda: plots.attempts_timeline(attempts, calls),
        "compare_ecdf": lambda: plots.compare_ecdf(halves),
        "compare_qq": lambda: plots.compare_qq(halves),
        "failure_rate": lambda: plots.failure_rate(calls, x=X, hue=HUE),
        "heatmap": lambda: plots.heatmap(calls, x=X, y=HUE),
        "latency_ecdf": lambda: plots.latency_ecdf(calls, hue=HUE),
        "latency_histogram": lambda: plots.latency_histogram(calls, hue=HUE),
        "latency_percentiles": lambda: plots.latency_percentiles(calls, x=X, hue=HUE),
        "outcomes": lambda: plots.outcomes(calls, x=X),
        "over_time": lambda: plots.over_time(over_time(alone, tries, server, step=5.0)),
        "report": lambda: plots.report(swept),
        "retry_amplification": lambda: plots.retry_amplification(calls, x=X, hue=HUE),
        "time_spent": lambda: plots.time_spent(calls, x=X),
    }


NOT_OF_EVENTS = {"pareto", "storm_map"}
"""Charts of tables with a row for each setting, which are never long."""
