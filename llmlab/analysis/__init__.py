"""From events to numbers: data frames, summary metrics, intervals.

`frames.py` makes frames of events, `metrics.py` numbers of frames, `timeline.py` bins of time; `stats.py` says how far
a number may be from the true one; `recommend.py` turns a sweep into a decision.
"""

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
    SUMMARY_ATTEMPT_COLUMNS,
    SUMMARY_COLUMNS,
    Over,
    failure_rate,
    latency_percentiles,
    rate_by_fate,
    rate_by_reason,
    summary,
)
from llmlab.analysis.pareto import pareto_front
from llmlab.analysis.recommend import recommend
from llmlab.analysis.recommendation import Recommendation
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
from llmlab.analysis.timeline import OVER_TIME_COLUMNS, over_time

__all__ = [
    "CRITERIA",
    "Criterion",
    "DERIVED_ATTEMPT_COLUMNS",
    "DERIVED_CALL_COLUMNS",
    "Interval",
    "OVER_TIME_COLUMNS",
    "Over",
    "PercentileInterval",
    "Recommendation",
    "SLO",
    "SUMMARY_ATTEMPT_COLUMNS",
    "SUMMARY_COLUMNS",
    "attempts_frame",
    "calls_frame",
    "clopper_pearson",
    "concat_frames",
    "dtype_of",
    "failure_rate",
    "latency_percentiles",
    "over_time",
    "parameter_columns",
    "pareto_front",
    "percentile_interval",
    "percentile_intervals",
    "rate_by_fate",
    "rate_by_reason",
    "recommend",
    "server_frame",
    "summary",
    "values_needed",
    "wilson",
]
