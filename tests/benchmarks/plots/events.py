"""Made-up events by the million, column by column: enough for every chart, in a second instead of minutes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from llmlab.analysis.frames import dtype_of
from llmlab.backends.server_view import SERVER_COLUMNS
from llmlab.core.events import ATTEMPT_COLUMNS, CALL_COLUMNS
from llmlab.core.vocabulary import FailureReason, Fate

if TYPE_CHECKING:
    from llmlab.core.events import Column

X, HUE = "backend.timeout_probability", "policy.retry.max_retries"
_X_VALUES, _HUE_VALUES = np.linspace(0, 0.5, 10), np.arange(4)
_RATE = 100.0  # calls per second


def calls(count: int, seed: int = 0) -> pd.DataFrame:
    """Return so many calls of a sweep: 10 timeout probabilities by 4 numbers of retries."""
    random = np.random.default_rng(seed)
    latency, failed = random.lognormal(0.0, 0.6, count), random.random(count) < 0.1
    arrived = np.arange(count) % max(count // 40, 1) / _RATE
    return _frame(CALL_COLUMNS, count).assign(
        arrived_at_s=arrived,
        started_at_s=arrived,
        ended_at_s=arrived + latency,
        server_s=latency,
        attempts=1 + random.poisson(0.3, count),
        fate=_words(CALL_COLUMNS, "fate", np.where(failed, list(Fate).index(Fate.RETRIES_EXHAUSTED), 0)),
        reason=_words(CALL_COLUMNS, "reason", np.where(failed, random.integers(0, 7, count), -1)),
        latency_s=latency,
        answered=~failed,
    )


def attempts(count: int, seed: int = 0) -> pd.DataFrame:
    """Return as many attempts, one for each call."""
    random = np.random.default_rng(seed)
    latency, failed = random.lognormal(0.0, 0.6, count), random.random(count) < 0.1
    started = np.arange(count) % max(count // 40, 1) / _RATE
    reasons = np.where(failed, list(FailureReason).index(FailureReason.ATTEMPT_TIMEOUT), -1)
    return _frame(ATTEMPT_COLUMNS, count).assign(
        attempt=1,
        queued_at_s=started,
        started_at_s=started,
        ended_at_s=started + latency,
        reason=_words(ATTEMPT_COLUMNS, "reason", reasons),
        latency_s=latency,
        answered=~failed,
    )


def server() -> pd.DataFrame:
    """Return a server's view without rows."""
    return pd.DataFrame({column.name: pd.Series(dtype=dtype_of(column)) for column in SERVER_COLUMNS})


def _frame(columns: tuple[Column, ...], count: int) -> pd.DataFrame:
    point = np.arange(count) // max(count // 40, 1) % 40
    data: dict[str, Any] = {X: _X_VALUES[point // 4], HUE: _HUE_VALUES[point % 4]}
    data |= {"replicate": np.zeros(count, dtype=np.int64), "seed": np.zeros(count, dtype=np.int64)}
    data |= {column.name: _nothing(column, count) for column in columns}
    return pd.DataFrame(data | {"call": np.arange(count)}, copy=False)


def _nothing(column: Column, count: int) -> Any:
    if column.kind != "word":
        return np.zeros(count, dtype=dtype_of(column))
    dtype = dtype_of(column) if column.words else pd.CategoricalDtype(pd.Index(["client"], dtype="str"))
    return pd.Categorical.from_codes(np.zeros(count, dtype=np.int8), dtype=dtype)


def _words(columns: tuple[Column, ...], name: str, codes: Any) -> Any:
    [column] = [column for column in columns if column.name == name]
    return pd.Categorical.from_codes(codes.astype(np.int8), dtype=dtype_of(column))
