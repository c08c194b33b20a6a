"""Data frames to numbers: rates, latency percentiles and loads, with intervals, by any columns.

Every function takes frames as `frames.py` makes them, counts every row it is given, and returns a tidy frame: the
columns of `by` first, one row for each group that occurs. Where clients are stacked, each layer's calls are rows too:
choose one layer first, or group by `layer`. A latency of failed calls is never dropped in silence: each name says over
which calls it is taken. Look next at `stats.py` (the intervals) and at the package `plots` (the same as charts).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd

from llmlab.analysis.frames import parameter_columns
from llmlab.analysis.groups import Groups
from llmlab.analysis.stats import percentile_intervals, wilson
from llmlab.core.events import Column
from llmlab.core.vocabulary import Fate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmlab.analysis.groups import By

Over = Literal["all", "answered", "failed"]
"""Which calls a latency is taken over."""

_RATE_INTERVAL = "Wilson interval, 95%"
_WAITS = {"slot_wait": "waiting for a slot", "rate_wait": "waiting for the rate limit", "backoff": "in backoff"}

SUMMARY_COLUMNS: tuple[Column, ...] = (
    Column("calls", "int", "calls", "calls in the group"),
    Column("answered", "int", "calls", "calls that were answered"),
    Column("success_rate", "float", "", "answered / calls"),
    Column("success_rate_low", "float", "", f"its lower end ({_RATE_INTERVAL})"),
    Column("success_rate_high", "float", "", f"its upper end ({_RATE_INTERVAL})"),
    Column("failure_rate", "float", "", "calls that were not answered / calls"),
    Column("failure_rate_low", "float", "", f"its lower end ({_RATE_INTERVAL})"),
    Column("failure_rate_high", "float", "", f"its upper end ({_RATE_INTERVAL})"),
    *(Column(f"fate_{fate}", "int", "calls", f"calls with the fate `{fate}`") for fate in Fate),
    *(Column(f"latency_p{q}_s", "float", "s", f"p{q} of the latency of all calls") for q in (50, 95, 99)),
    *(Column(f"answered_latency_p{q}_s", "float", "s", f"p{q} over answered calls only") for q in (50, 95, 99)),
    Column("attempts", "int", "attempts", "attempts that the calls made"),
    Column("attempts_per_call", "float", "", "retry amplification: attempts / calls"),
    *(Column(f"{name}_mean_s", "float", "s", f"mean time {doing}, over all calls") for name, doing in _WAITS.items()),
    Column("server_mean_s", "float", "s", "mean time in attempts, over all calls"),
    Column("duration_s", "float", "s", "from the first arrival to the last end, added up over runs"),
    Column("throughput_per_s", "float", "1/s", "answered / duration_s"),
)
"""The columns of `summary` after those of `by`."""

SUMMARY_ATTEMPT_COLUMNS: tuple[Column, ...] = (
    Column("failed_attempts", "int", "attempts", "attempts that were not answered"),
    Column("attempt_failure_rate", "float", "", "failed attempts / attempts"),
    Column("attempt_failure_rate_low", "float", "", f"its lower end ({_RATE_INTERVAL})"),
    Column("attempt_failure_rate_high", "float", "", f"its upper end ({_RATE_INTERVAL})"),
)
"""The columns that `summary` appends where it is given the attempts too."""


def summary(
    calls: pd.DataFrame, attempts: pd.DataFrame | None = None, by: By = None, *, runs: Sequence[str] | None = None
) -> pd.DataFrame:
    """Return a row of headline numbers for each group: `SUMMARY_COLUMNS`; with attempts, `SUMMARY_ATTEMPT_COLUMNS` too.

    Args:
        calls: calls, one a row.
        attempts: their attempts, for the columns that only they can tell.
        by: the column or columns to group by; `None` takes all calls together.
        runs: the columns whose values tell one run from another, since each run has a clock of its own and durations
            add up over runs. By default, all columns that are not events' own: swept parameters, seeds, replicates.

    Raises:
        KeyError: a frame lacks a column of `by` or `runs`; the message lists those there are.
    """
    groups = Groups(calls, by)
    counts, answered = groups.counts(), groups.sums(calls["answered"])
    fates = groups.counts_of_words(calls["fate"])
    attempted = groups.sums(calls["attempts"])
    columns: dict[str, Any] = {
        "calls": counts,
        "answered": answered,
        **_rate("success_rate", answered, counts),
        **_rate("failure_rate", counts - answered, counts),
        **{f"fate_{fate}": fates[:, code] for code, fate in enumerate(Fate)},
        **_percentile_columns("latency", groups, calls["latency_s"]),
        **_percentile_columns("answered_latency", groups, calls["latency_s"], calls["answered"]),
        "attempts": attempted,
        "attempts_per_call": _ratio(attempted, counts),
    }
    for name in ("slot_wait", "rate_wait", "backoff", "server"):
        columns[f"{name}_mean_s"] = _ratio(groups.sums(calls[f"{name}_s"]), counts)
    columns["duration_s"] = _durations(calls, groups, parameter_columns(calls) if runs is None else list(runs))
    columns["throughput_per_s"] = _ratio(answered, columns["duration_s"])
    if attempts is not None:
        columns |= _attempt_columns(attempts, groups)
    return groups.frame(columns)


def failure_rate(calls: pd.DataFrame, by: By = None, *, confidence: float = 0.95) -> pd.DataFrame:
    """Return the share of calls that were not answered, with its Wilson interval, for each group.

    Columns: those of `by`, `calls`, `failures`, `failure_rate`, `failure_rate_low`, `failure_rate_high`.
    """
    groups = Groups(calls, by)
    counts = groups.counts()
    failures = counts - groups.sums(calls["answered"])
    columns = {"calls": counts, "failures": failures, **_rate("failure_rate", failures, counts, confidence)}
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
        **_rate("rate", ended, totals, confidence),
    }
    return groups.frame(columns, repeat=len(occurring))


def _rate(name: str, successes: Any, n: Any, confidence: float = 0.95) -> dict[str, Any]:
    interval = wilson(successes, n, confidence)
    return {name: _ratio(successes, n), f"{name}_low": interval.low, f"{name}_high": interval.high}


def _ratio(numerator: Any, denominator: Any) -> Any:
    """Divide; where there is nothing to divide by there is no ratio (NaN)."""
    result = np.full(len(numerator), np.nan)
    return np.divide(numerator, denominator, out=result, where=np.asarray(denominator) > 0)


def over_mask(calls: pd.DataFrame, over: Over) -> pd.Series[bool] | None:
    """Return which calls a latency is taken over; `None` where it is all of them.

    Raises:
        ValueError: `over` is none of the words.
    """
    if over not in get_args(Over):
        raise ValueError(f"over must be one of {list(get_args(Over))}, got {over!r}")
    masks = {"all": None, "answered": calls["answered"], "failed": ~calls["answered"]}
    return masks[over]


def _percentile_columns(
    name: str, groups: Groups, values: pd.Series[float], where: pd.Series[bool] | None = None
) -> dict[str, Any]:
    qs = (0.5, 0.95, 0.99)
    samples = groups.values(values, where)
    found = [np.quantile(sample, qs) if sample.size else np.full(len(qs), np.nan) for sample in samples]
    table = np.array(found).reshape(-1, len(qs))
    return {f"{name}_p{100 * q:.0f}_s": table[:, column] for column, q in enumerate(qs)}


def _durations(calls: pd.DataFrame, groups: Groups, runs: list[str]) -> Any:
    """Return the seconds of each group: over its runs, the sum of last end minus first arrival."""
    return Groups(calls, runs).spans(calls["arrived_at_s"], calls["ended_at_s"], within=groups)


def _attempt_columns(attempts: pd.DataFrame, groups: Groups) -> dict[str, Any]:
    codes = groups.codes_of(attempts)
    known = codes >= 0
    made = np.bincount(codes[known], minlength=len(groups))
    failed = np.bincount(codes[known & ~attempts["answered"].to_numpy()], minlength=len(groups))
    return {"failed_attempts": failed, **_rate("attempt_failure_rate", failed, made)}
