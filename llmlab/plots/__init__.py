"""Charts of frames: a tidy data frame in, `ax` if you have one, Axes out; uncertainty drawn, units on the axes.

The charts, by what they show: `rates.py`, `reasons.py` and `latency.py`, `histogram.py`, `grid.py`, `breakdown.py`,
`spending.py`, `amplification.py`; single calls in `timeline.py`, a run over time in `history.py`, recovery in
`storms.py`, two sources in `comparison.py`, a decision in `pareto.py`, a whole result on `page.py`. `style.py` says how
all of them look and which figure they draw on, `scales.py` how a swept parameter becomes an axis or a legend,
`panels.py` how several stand in one. No chart calls `plt.show()`. Parameters are columns named by their path, such as
`policy.retry.max_retries`.
"""

from llmlab.plots.amplification import retry_amplification
from llmlab.plots.breakdown import Kind, outcomes
from llmlab.plots.comparison import compare_ecdf, compare_qq
from llmlab.plots.grid import heatmap
from llmlab.plots.histogram import latency_histogram
from llmlab.plots.history import over_time
from llmlab.plots.latency import latency_ecdf, latency_percentiles
from llmlab.plots.page import report
from llmlab.plots.pareto import pareto
from llmlab.plots.rates import failure_rate
from llmlab.plots.reasons import failure_reasons
from llmlab.plots.spending import time_spent
from llmlab.plots.storms import storm_map
from llmlab.plots.style import MAX_SERIES, OUTCOMES, STYLE
from llmlab.plots.timeline import attempts_timeline

__all__ = [
    "Kind",
    "MAX_SERIES",
    "OUTCOMES",
    "STYLE",
    "attempts_timeline",
    "compare_ecdf",
    "compare_qq",
    "failure_rate",
    "failure_reasons",
    "heatmap",
    "latency_ecdf",
    "latency_histogram",
    "latency_percentiles",
    "outcomes",
    "over_time",
    "pareto",
    "report",
    "retry_amplification",
    "storm_map",
    "time_spent",
]


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]
