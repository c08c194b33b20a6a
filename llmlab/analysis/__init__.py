"""From events to numbers: data frames (`frames.py`), summary metrics (`metrics.py`) and intervals (`stats.py`)."""

from llmlab.analysis.frames import (
    DERIVED_ATTEMPT_COLUMNS,
    DERIVED_CALL_COLUMNS,
    attempts_frame,
    calls_frame,
    concat_frames,
    dtype_of,
    parameter_columns,
)

__all__ = [
    "DERIVED_ATTEMPT_COLUMNS",
    "DERIVED_CALL_COLUMNS",
    "attempts_frame",
    "calls_frame",
    "concat_frames",
    "dtype_of",
    "parameter_columns",
]
