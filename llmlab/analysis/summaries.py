"""The summary: a row of numbers for each setting, from rates and latencies to waste and tokens.

Each column declares its unit, its meaning and over which calls or attempts it is taken. Look next at `metrics.py`
(single metrics, with intervals) and `service.py` (what takes an SLO, a price or an outage to tell).
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from llmlab.analysis.frames import parameter_columns
from llmlab.analysis.groups import Groups
from llmlab.analysis.metrics import rate_columns, ratio
from llmlab.analysis.sketches import quantiles
from llmlab.analysis.totals import (
    ATTEMPT_TOTALS,
    CALL_TOTALS,
    TOTALS_COLUMNS,
    attempt_totals,
    call_totals,
    generation_speeds,
)
from llmlab.core.events import Column
from llmlab.core.vocabulary import Fate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmlab.analysis.groups import By

_ALL, _ANSWERED, _FAILED = "all calls", "answered calls", "failed calls"
_ATTEMPTS, _ANSWERED_ATTEMPTS = "all attempts", "answered attempts"
_INTERVAL = "95% Wilson interval"
_QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
_TOKEN_QUANTILES = (0.5, 0.95)
_WAITS = {"slot_wait": "waiting for a slot", "rate_wait": "waiting for the rate limit", "backoff": "in backoff"}


def _percentile_name(name: str, q: float) -> str:
    """Return the column of a percentile: `latency_p95_s`, `latency_p99_9_s`."""
    return f"{name}_p{100 * q:g}_s".replace(".", "_")


def _columns_of_rate(name: str, meaning: str, over: str) -> tuple[Column, ...]:
    return (
        Column(name, "float", "", meaning, over=over),
        Column(f"{name}_low", "float", "", f"its lower end ({_INTERVAL})", over=over),
        Column(f"{name}_high", "float", "", f"its upper end ({_INTERVAL})", over=over),
    )


def _percentiles(name: str, what: str, over: str, qs: tuple[float, ...] = _QUANTILES) -> tuple[Column, ...]:
    return tuple(Column(_percentile_name(name, q), "float", "s", f"p{100 * q:g} of the {what}", over=over) for q in qs)


SUMMARY_COLUMNS: tuple[Column, ...] = (
    Column("calls", "int", "calls", "calls in the group", over=_ALL),
    Column("answered", "int", "calls", "calls that were answered", over=_ALL),
    *_columns_of_rate("success_rate", "answered / calls", _ALL),
    *_columns_of_rate("failure_rate", "calls that were not answered / calls", _ALL),
    *(Column(f"fate_{fate}", "int", "calls", f"calls with the fate `{fate}`", over=_ALL) for fate in Fate),
    *_percentiles("latency", "latency of all calls", _ALL),
    *_percentiles("answered_latency", "latency of answered calls", _ANSWERED),
    *_percentiles("failed_latency", "time that failed calls kept their callers waiting", _FAILED),
    *_percentiles(
        "time_to_first_token", "time from arrival to the first token, where there was one", _ANSWERED, _TOKEN_QUANTILES
    ),
    Column("attempts", "int", "attempts", "attempts that the calls made", over=_ALL),
    Column("attempts_per_call", "float", "", "retry amplification: attempts / calls", over=_ALL),
    Column("wasted_attempts", "int", "attempts", "attempts that answered no call: attempts - answered", over=_ALL),
    *(
        Column(f"{name}_mean_s", "float", "s", f"mean time {doing}", over=_ALL)
        for name, doing in (*_WAITS.items(), ("server", "in attempts"))
    ),
    Column("duration_s", "float", "s", "from the first arrival to the last end, added up over runs", over=_ALL),
    Column("throughput_per_s", "float", "1/s", "answered / duration_s", over=_ANSWERED),
    Column("output_tokens_per_s", "float", "tokens/s", "tokens of the answers / duration_s", over=_ANSWERED),
)
"""The columns of `summary` after those of `by`."""

SUMMARY_ATTEMPT_COLUMNS: tuple[Column, ...] = (
    Column("failed_attempts", "int", "attempts", "attempts that were not answered", over=_ATTEMPTS),
    *_columns_of_rate("attempt_failure_rate", "failed attempts / attempts", _ATTEMPTS),
    Column("input_tokens", "float", "tokens", "tokens read, where the server counted them", over=_ATTEMPTS),
    Column("output_tokens", "float", "tokens", "tokens written, where the server counted them", over=_ATTEMPTS),
    Column("wasted_tokens", "float", "tokens", "of these, both kinds, the tokens of failed attempts", over=_ATTEMPTS),
    Column("server_s", "float", "s", "time in attempts, added up", over=_ATTEMPTS),
    Column("wasted_server_s", "float", "s", "of this, the time in failed attempts", over=_ATTEMPTS),
    Column(
        "generation_tokens_per_s",
        "float",
        "tokens/s",
        "median speed from the first token to the last",
        over=_ANSWERED_ATTEMPTS,
    ),
)
"""The columns that `summary` appends where it is given the attempts too."""

HEADLINE = (
    "calls",
    "success_rate",
    "success_rate_low",
    "success_rate_high",
    "latency_p50_s",
    "latency_p95_s",
    "latency_p99_s",
    "attempts_per_call",
    "throughput_per_s",
)
"""The columns of `summary` that a first look needs."""


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
    totals = call_totals(calls, groups) | ({} if attempts is None else attempt_totals(attempts, groups))
    seconds = durations(calls, groups, parameter_columns(calls) if runs is None else list(runs))
    answered = calls["answered"]
    percentiles = {
        **_percentile_columns("latency", groups, calls["latency_s"]),
        **_percentile_columns("answered_latency", groups, calls["latency_s"], answered),
        **_percentile_columns("failed_latency", groups, calls["latency_s"], ~answered),
        **_first_token_columns(calls, groups),
    }
    if attempts is not None:
        percentiles["generation_tokens_per_s"] = _generation_speeds(attempts, groups)
    return groups.frame(_columns(totals, seconds, percentiles))


def summary_of_totals(totals: pd.DataFrame, sketches: pd.DataFrame, by: By = None) -> pd.DataFrame:
    """Return the `summary` of calls of which only totals and sketches were kept; its percentiles are within 0.4%.

    Args:
        totals: `TOTALS_COLUMNS` of runs, and in front the columns that tell them apart.
        sketches: `SKETCH_COLUMNS` of the same runs, with the same columns in front.
        by: the column or columns to group by; `None` takes all calls together.

    Raises:
        KeyError: a frame lacks a column of `by`; the message lists those there are.
    """
    groups = Groups(totals, by)
    kept = CALL_TOTALS if totals["made_attempts"].isna().any() else (*CALL_TOTALS, *ATTEMPT_TOTALS)
    sums = {column.name: groups.sums(totals[column.name]) for column in kept}
    codes = groups.codes_of(sketches)
    declared = {column.name for column in TOTALS_COLUMNS}
    runs = [str(name) for name in totals.columns if name not in declared]
    percentiles: dict[str, Any] = {}
    for name, measures, qs in _SKETCHED:
        chosen = sketches["measure"].isin(measures).to_numpy()
        own = codes[chosen]
        order = np.argsort(own, kind="stable")
        edges = np.searchsorted(own[order], np.arange(len(groups) + 1))
        places, counts = (sketches[of].to_numpy(dtype=np.int64)[chosen][order] for of in ("bucket", "count"))
        parts = [slice(start, end) for start, end in itertools.pairwise(edges)]
        table = np.array([quantiles(places[part], counts[part], qs) for part in parts]).reshape(-1, len(qs))
        percentiles |= {_percentile_name(name, q): table[:, column] for column, q in enumerate(qs)}
    percentiles["generation_tokens_per_s"] = percentiles.pop(_percentile_name("generation_speed", 0.5))
    return groups.frame(_columns(sums, durations(totals, groups, runs), percentiles))


_SKETCHED: tuple[tuple[str, tuple[str, ...], tuple[float, ...]], ...] = (
    ("latency", ("answered_latency", "failed_latency"), _QUANTILES),
    ("answered_latency", ("answered_latency",), _QUANTILES),
    ("failed_latency", ("failed_latency",), _QUANTILES),
    ("time_to_first_token", ("time_to_first_token",), _TOKEN_QUANTILES),
    ("generation_speed", ("generation_speed",), (0.5,)),
)


def _columns(totals: dict[str, Any], seconds: Any, percentiles: dict[str, Any]) -> dict[str, Any]:
    """Return the columns of the summary, in order, of totals, durations and percentiles of the same groups."""
    calls, answered, attempts = totals["calls"], totals["answered"], totals["attempts"]
    columns: dict[str, Any] = {
        **{name: total for name, total in totals.items() if name.startswith("fate_")},
        **percentiles,
        "calls": calls,
        "answered": answered,
        **rate_columns("success_rate", answered, calls),
        **rate_columns("failure_rate", calls - answered, calls),
        "attempts": attempts,
        "attempts_per_call": ratio(attempts, calls),
        "wasted_attempts": attempts - answered,
        **{f"{name}_mean_s": ratio(totals[f"{name}_s"], calls) for name in (*_WAITS, "server")},
        "duration_s": seconds,
        "throughput_per_s": ratio(answered, seconds),
        "output_tokens_per_s": ratio(totals["answer_tokens"], seconds),
    }
    if "made_attempts" not in totals:
        return {column.name: columns[column.name] for column in SUMMARY_COLUMNS}
    failed = np.rint(totals["failed_attempts"]).astype(np.int64)
    columns |= {name: totals[name] for name in ("input_tokens", "output_tokens", "wasted_tokens")}
    columns |= {
        "failed_attempts": failed,
        **rate_columns("attempt_failure_rate", failed, totals["made_attempts"]),
        "server_s": totals["attempts_s"],
        "wasted_server_s": totals["wasted_s"],
    }
    return {column.name: columns[column.name] for column in (*SUMMARY_COLUMNS, *SUMMARY_ATTEMPT_COLUMNS)}


def _percentile_columns(
    name: str,
    groups: Groups,
    values: pd.Series[float],
    where: pd.Series[bool] | None = None,
    qs: tuple[float, ...] = _QUANTILES,
) -> dict[str, Any]:
    samples = groups.values(values, where)
    found = [np.quantile(sample, qs) if sample.size else np.full(len(qs), np.nan) for sample in samples]
    table = np.array(found).reshape(-1, len(qs))
    return {_percentile_name(name, q): table[:, column] for column, q in enumerate(qs)}


def _first_token_columns(calls: pd.DataFrame, groups: Groups) -> dict[str, Any]:
    times = calls["time_to_first_token_s"]
    return _percentile_columns(
        "time_to_first_token", groups, times, times.notna() & calls["answered"], _TOKEN_QUANTILES
    )


def durations(calls: pd.DataFrame, groups: Groups, runs: list[str]) -> Any:
    """Return the seconds of each group: over its runs, the sum of last end minus first arrival."""
    return Groups(calls, runs).spans(calls["arrived_at_s"], calls["ended_at_s"], within=groups)


def _generation_speeds(attempts: pd.DataFrame, groups: Groups) -> Any:
    codes, speeds = groups.codes_of(attempts), generation_speeds(attempts)
    return speeds[codes >= 0].groupby(codes[codes >= 0]).median().reindex(np.arange(len(groups))).to_numpy()
