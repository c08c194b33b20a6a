"""The summary: a row of numbers for each setting, from rates and latencies to waste and tokens.

Each column declares its unit, its meaning and over which calls or attempts it is taken. Look next at `metrics.py`
(single metrics, with intervals) and `service.py` (what takes an SLO, a price or an outage to tell).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from llmlab.analysis.frames import parameter_columns
from llmlab.analysis.groups import Groups
from llmlab.analysis.metrics import rate_columns, ratio
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
    counts, answered = groups.counts(), groups.sums(calls["answered"])
    fates = groups.counts_of_words(calls["fate"])
    attempted = groups.sums(calls["attempts"])
    columns: dict[str, Any] = {
        "calls": counts,
        "answered": answered,
        **rate_columns("success_rate", answered, counts),
        **rate_columns("failure_rate", counts - answered, counts),
        **{f"fate_{fate}": fates[:, code] for code, fate in enumerate(Fate)},
        **_percentile_columns("latency", groups, calls["latency_s"]),
        **_percentile_columns("answered_latency", groups, calls["latency_s"], calls["answered"]),
        **_percentile_columns("failed_latency", groups, calls["latency_s"], ~calls["answered"]),
        **_first_token_columns(calls, groups),
        "attempts": attempted,
        "attempts_per_call": ratio(attempted, counts),
        "wasted_attempts": attempted - answered,
    }
    for name in ("slot_wait", "rate_wait", "backoff", "server"):
        columns[f"{name}_mean_s"] = ratio(groups.sums(calls[f"{name}_s"]), counts)
    columns["duration_s"] = durations(calls, groups, parameter_columns(calls) if runs is None else list(runs))
    columns["throughput_per_s"] = ratio(answered, columns["duration_s"])
    written = groups.sums(calls["output_tokens"].where(calls["answered"]).fillna(0.0))
    columns["output_tokens_per_s"] = ratio(written, columns["duration_s"])
    if attempts is not None:
        columns |= _attempt_columns(attempts, groups)
    return groups.frame(columns)


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


def _attempt_columns(attempts: pd.DataFrame, groups: Groups) -> dict[str, Any]:
    codes = groups.codes_of(attempts)
    known = codes >= 0
    own, attempts = codes[known], attempts[known]
    lost = ~attempts["answered"].to_numpy()

    def total(weights: Any) -> Any:
        return np.bincount(own, weights=weights, minlength=len(groups))

    made = np.bincount(own, minlength=len(groups))
    failed = np.bincount(own[lost], minlength=len(groups))
    read, written = (attempts[name].fillna(0.0).to_numpy() for name in ("input_tokens", "output_tokens"))
    seconds = attempts["latency_s"].to_numpy()
    return {
        "failed_attempts": failed,
        **rate_columns("attempt_failure_rate", failed, made),
        "input_tokens": total(read),
        "output_tokens": total(written),
        "wasted_tokens": total((read + written) * lost),
        "server_s": total(seconds),
        "wasted_server_s": total(seconds * lost),
        "generation_tokens_per_s": _generation_speeds(attempts, own, len(groups)),
    }


def _generation_speeds(attempts: pd.DataFrame, codes: Any, count: int) -> Any:
    writing = (attempts["latency_s"] - attempts["time_to_first_token_s"]).to_numpy()
    kept = attempts["answered"].to_numpy() & (writing > 0) & attempts["output_tokens"].notna().to_numpy()
    speeds = pd.Series(attempts["output_tokens"].to_numpy()[kept] / writing[kept])
    return speeds.groupby(codes[kept]).median().reindex(np.arange(count)).to_numpy()
