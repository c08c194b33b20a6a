"""Data frames to numbers: rates, latency percentiles and loads, with intervals, by any columns.

Every function takes frames as `frames.py` makes them, counts every row it is given, and returns a tidy frame: the
columns of `by` first, one row for each group that occurs. Where clients are stacked, each layer's calls are rows too:
choose one layer first, or group by `layer`. A latency of failed calls is never dropped in silence: each metric declares
over which calls it is taken (`Column.over`). Look next at `service.py` (what needs an SLO, a price or an outage to be
told), at `stats.py` (the intervals) and at the package `plots` (the same as charts).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd

from llmlab.analysis.frames import dtype_of
from llmlab.analysis.groups import Groups
from llmlab.analysis.stats import percentile_intervals, wilson
from llmlab.core.events import Column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmlab.analysis.groups import By

Over = Literal["all", "answered", "failed"]
"""Which calls a latency is taken over."""

_ALL = "all calls"

STATE_COLUMNS: tuple[Column, ...] = (
    Column(
        "state",
        "word",
        "",
        "what a call was doing",
        words=("late_start", "rate_wait", "slot_wait", "server", "backoff"),
        over=_ALL,
    ),
    Column("calls", "int", "calls", "calls in the group", over=_ALL),
    Column("total_s", "float", "s", "time that calls spent so, added up", over=_ALL),
    Column("mean_s", "float", "s", "total_s / calls", over=_ALL),
    Column("share", "float", "", "of the latency of all calls; the shares of a group add up to 1", over=_ALL),
)
"""The columns of `time_in_states` after those of `by`. `late_start` is from a call's arrival to its start."""


def time_in_states(calls: pd.DataFrame, by: By = None) -> pd.DataFrame:
    """Return where the time of calls goes: waiting for limits, in the server, in backoff; a row a group and state.

    Columns: those of `by`, then `STATE_COLUMNS`. A call's states add up to its latency.
    """
    groups = Groups(calls, by)
    words = STATE_COLUMNS[0].words
    late = calls["started_at_s"] - calls["arrived_at_s"]
    sums = [groups.sums(late), *(groups.sums(calls[f"{state}_s"]) for state in words[1:])]
    totals = np.stack(sums, axis=1) if len(groups) else np.empty((0, len(words)))
    counts = np.repeat(groups.counts(), len(words))
    states: Any = dtype_of(STATE_COLUMNS[0])
    columns = {
        "state": pd.Categorical.from_codes(np.tile(np.arange(len(words)), len(groups)), dtype=states),
        "calls": counts,
        "total_s": totals.reshape(-1),
        "mean_s": ratio(totals.reshape(-1), counts),
        "share": ratio(totals.reshape(-1), np.repeat(totals.sum(axis=1), len(words))),
    }
    return groups.frame(columns, repeat=len(words))


def failure_rate(calls: pd.DataFrame, by: By = None, *, confidence: float = 0.95) -> pd.DataFrame:
    """Return the share of calls that were not answered, with its Wilson interval, for each group.

    Columns: those of `by`, `calls`, `failures`, `failure_rate`, `failure_rate_low`, `failure_rate_high`.
    """
    groups = Groups(calls, by)
    counts = groups.counts()
    failures = counts - groups.sums(calls["answered"])
    columns = {"calls": counts, "failures": failures, **rate_columns("failure_rate", failures, counts, confidence)}
    return groups.frame(columns)


def latency_percentiles(
    calls: pd.DataFrame,
    by: By = None,
    *,
    q: Sequence[float] = (0.5, 0.95, 0.99),
    over: Over = "all",
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Return percentiles of latency with distribution-free intervals: a row for each group and quantile.

    Columns: those of `by`, `over`, `calls` (how many the percentile is taken over), `q`, `latency_s`, `latency_low_s`,
    `latency_high_s` (NaN where the sample is too small) and `note`, which then says why.
    """
    groups = Groups(calls, by)
    samples = groups.values(calls["latency_s"], over_mask(calls, over))
    rows = [interval for sample in samples for interval in percentile_intervals(sample, q, confidence)]
    columns: dict[str, Any] = {
        "over": np.full(len(rows), over, dtype=object),
        "calls": np.repeat([len(sample) for sample in samples], len(q)).astype(np.int64),
        "q": np.tile(np.asarray(q, dtype=np.float64), len(samples)),
        "latency_s": np.array([row.estimate for row in rows], dtype=np.float64),
        "latency_low_s": np.array([row.low for row in rows], dtype=np.float64),
        "latency_high_s": np.array([row.high for row in rows], dtype=np.float64),
        "note": np.array([row.note for row in rows], dtype=object),
    }
    return groups.frame(columns, repeat=len(q))


def rate_by_reason(calls: pd.DataFrame, by: By = None, *, confidence: float = 0.95) -> pd.DataFrame:
    """Return, for each group and each reason that occurs in any of them, the share of calls that it ended.

    Columns: those of `by`, `reason`, `calls` (all calls of the group), `failures`, `rate`, `rate_low`, `rate_high`.
    The rates of a group add up to its failure rate.
    """
    return _rate_by_word(calls, by, "reason", "failures", confidence)


def rate_by_fate(calls: pd.DataFrame, by: By = None, *, confidence: float = 0.95) -> pd.DataFrame:
    """Return, for each group and each fate that occurs in any of them, the share of calls that ended so.

    Columns: those of `by`, `fate`, `calls` (all calls of the group), `ended`, `rate`, `rate_low`, `rate_high`.
    The rates of a group add up to 1.
    """
    return _rate_by_word(calls, by, "fate", "ended", confidence)


def rate_columns(name: str, successes: Any, n: Any, confidence: float = 0.95) -> dict[str, Any]:
    """Return a rate's three columns: the rate, and the ends of its Wilson interval."""
    interval = wilson(successes, n, confidence)
    return {name: ratio(successes, n), f"{name}_low": interval.low, f"{name}_high": interval.high}


def ratio(numerator: Any, denominator: Any) -> Any:
    """Divide; where there is nothing to divide by there is no ratio (NaN)."""
    result = np.full(len(numerator), np.nan)
    return np.divide(numerator, denominator, out=result, where=np.asarray(denominator) > 0)


def _rate_by_word(calls: pd.DataFrame, by: By, word: str, counted: str, confidence: float) -> pd.DataFrame:
    groups = Groups(calls, by)
    vocabulary: Any = calls[word].dtype
    counts = groups.counts_of_words(calls[word])
    occurring = np.flatnonzero(counts.sum(axis=0))
    totals = np.repeat(groups.counts(), len(occurring))
    ended = counts[:, occurring].reshape(-1)
    columns = {
        word: pd.Categorical.from_codes(np.tile(occurring, len(counts)), dtype=vocabulary),
        "calls": totals,
        counted: ended,
        **rate_columns("rate", ended, totals, confidence),
    }
    return groups.frame(columns, repeat=len(occurring))


def over_mask(calls: pd.DataFrame, over: Over) -> pd.Series[bool] | None:
    """Return which calls a latency is taken over; `None` where it is all of them.

    Raises:
        ValueError: `over` is none of the words.
    """
    if over not in get_args(Over):
        raise ValueError(f"over must be one of {list(get_args(Over))}, got {over!r}")
    masks = {"all": None, "answered": calls["answered"], "failed": ~calls["answered"]}
    return masks[over]
