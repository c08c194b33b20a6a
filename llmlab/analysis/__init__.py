"""From events to numbers: data frames, summary metrics, intervals.

`frames.py` makes frames of events, `metrics.py` numbers of frames, `timeline.py` bins of time; `stats.py` says how far
a number may be from the true one, `compare.py` whether two settings differ; `recommend.py` turns a sweep into a
decision.
"""

from llmlab.analysis.bootstrap import BootstrapInterval, bootstrap_interval
from llmlab.analysis.clusters import clusters
from llmlab.analysis.compare import Comparison, adjusted, compare, compare_all
from llmlab.analysis.frames import (
    DERIVED_ATTEMPT_COLUMNS,
    DERIVED_CALL_COLUMNS,
    attempts_frame,
    calls_frame,
    concat_frames,
    dtype_of,
    parameter_columns,
    server_frame,
)
from llmlab.analysis.metrics import (
    STATE_COLUMNS,
    Over,
    failure_rate,
    latency_percentiles,
    rate_by_fate,
    rate_by_reason,
    time_in_states,
)
from llmlab.analysis.pareto import pareto_front
from llmlab.analysis.recommend import recommend
from llmlab.analysis.recommendation import Recommendation
from llmlab.analysis.service import (
    COST_COLUMNS,
    GOODPUT_COLUMNS,
    RECOVERY_COLUMNS,
    TokenPrice,
    costs,
    goodput,
    recovery_time,
)
from llmlab.analysis.slo import CRITERIA, SLO, Criterion
from llmlab.analysis.stats import (
    Interval,
    PercentileInterval,
    clopper_pearson,
    percentile_interval,
    percentile_intervals,
    values_needed,
    wilson,
)
from llmlab.analysis.summaries import HEADLINE, SUMMARY_ATTEMPT_COLUMNS, SUMMARY_COLUMNS, summary
from llmlab.analysis.sweep_reading import SweepReading, SweptPoint, sweep_reading
from llmlab.analysis.timeline import OVER_TIME_COLUMNS, over_time
from llmlab.analysis.warmup import WarmUp, mser5, warm_up, without_warm_up

__all__ = [
    "BootstrapInterval",
    "COST_COLUMNS",
    "CRITERIA",
    "Comparison",
    "Criterion",
    "DERIVED_ATTEMPT_COLUMNS",
    "DERIVED_CALL_COLUMNS",
    "GOODPUT_COLUMNS",
    "HEADLINE",
    "Interval",
    "OVER_TIME_COLUMNS",
    "Over",
    "PercentileInterval",
    "RECOVERY_COLUMNS",
    "Recommendation",
    "SLO",
    "STATE_COLUMNS",
    "SUMMARY_ATTEMPT_COLUMNS",
    "SUMMARY_COLUMNS",
    "SweepReading",
    "SweptPoint",
    "TokenPrice",
    "WarmUp",
    "adjusted",
    "attempts_frame",
    "bootstrap_interval",
    "calls_frame",
    "clopper_pearson",
    "clusters",
    "compare",
    "compare_all",
    "concat_frames",
    "costs",
    "dtype_of",
    "failure_rate",
    "goodput",
    "latency_percentiles",
    "mser5",
    "over_time",
    "parameter_columns",
    "pareto_front",
    "percentile_interval",
    "percentile_intervals",
    "rate_by_fate",
    "rate_by_reason",
    "recommend",
    "recovery_time",
    "server_frame",
    "summary",
    "sweep_reading",
    "time_in_states",
    "values_needed",
    "warm_up",
    "wilson",
    "without_warm_up",
]


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]
