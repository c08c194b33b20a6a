"""A run over time: what callers, attempts and the server did in each bin of some seconds.

Averages over a whole run hide what an outage does after its end; bins show it. Counts of calls go by *arrival*, so
that `offered` is `answered` plus `failed` in every bin; goodput goes by the time of the answer. Every column is one
pass over sorted arrays, so a million attempts cost a fraction of a second. `plots/history.py` draws the frame.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from llmlab.analysis.columns import need_columns
from llmlab.analysis.frames import parameter_columns
from llmlab.core.events import Column

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

OVER_TIME_COLUMNS: tuple[Column, ...] = (
    Column("time_s", "float", "s", "the bin's beginning; it ends where the next one begins"),
    Column("offered", "int", "calls", "calls that arrived in the bin"),
    Column("answered", "int", "calls", "of these, the calls that were answered, then or later"),
    Column("failed", "int", "calls", "of these, the calls that were not answered"),
    Column("goodput_per_s", "float", "calls/s", "calls answered in the bin, per second"),
    Column("attempts", "int", "attempts", "attempts that were sent in the bin"),
    Column("attempts_per_call", "float", "", "attempts of the calls that arrived in the bin; NaN where none did"),
    Column("in_flight", "float", "attempts", "attempts that were open, on average over the bin"),
    Column("queue", "float", "requests", "requests waiting in the server, on average over the bin"),
    Column("busy", "float", "slots", "slots of the server at work, on average over the bin"),
    Column("useful", "float", "s/s", "work on requests that were answered, per second, counted when it ends"),
    Column("wasted", "float", "s/s", "work on requests whose client had gone, per second, counted when it ends"),
)
"""The columns of `over_time`; the last four are NaN where there is no server's view."""


def over_time(
    calls: pd.DataFrame, attempts: pd.DataFrame, server: pd.DataFrame | None = None, *, step: float = 1.0
) -> pd.DataFrame:
    """Return what happened in each bin of `step` seconds, from the first arrival to the last end.

        result = experiment.run()
        over_time(result.calls, result.attempts, result.server)

    Columns: `OVER_TIME_COLUMNS`, one row a bin.

    Args:
        calls: the calls of one run; of stacked clients, those of one layer.
        attempts: their attempts.
        server: the simulated server's own view; `None` or an empty frame where there is none.
        step: how long a bin is, in seconds.

    Raises:
        KeyError: a frame lacks a column; the message lists those there are.
        ValueError: the step is not positive and finite, or a frame holds several runs.
    """
    if not 0 < step < math.inf:
        raise ValueError(f"step must be more than 0 seconds and finite, got {step}")
    need_columns(calls, ("arrived_at_s", "ended_at_s", "answered", "attempts"))
    need_columns(attempts, ("started_at_s", "ended_at_s"))
    for name, frame in (("calls", calls), ("attempts", attempts), ("server", server)):
        _refuse_several_runs(name, frame)
    edges = _edges(calls, attempts, step)
    columns = _of_calls(calls, edges, step)
    columns["attempts"] = _counts(attempts["started_at_s"], edges)
    columns["in_flight"] = _mean_open(attempts, edges) / step
    columns |= _of_server(server, edges, step)
    return pd.DataFrame({column.name: columns[column.name] for column in OVER_TIME_COLUMNS})


def _refuse_several_runs(name: str, frame: pd.DataFrame | None) -> None:
    if frame is None or frame.empty:
        return
    runs = parameter_columns(frame)
    count = len(frame[runs].drop_duplicates()) if runs else 1
    if count > 1:
        raise ValueError(f"{name} holds {count} runs, told apart by {runs}; select the rows of one of them")


def _edges(calls: pd.DataFrame, attempts: pd.DataFrame, step: float) -> Floats:
    """Return the bins' edges, one more than there are bins: whole multiples of the step."""
    if calls.empty:
        return np.zeros(1)
    last = max(calls["ended_at_s"].max(), attempts["ended_at_s"].max() if len(attempts) else -math.inf)
    first_bin, last_bin = math.floor(calls["arrived_at_s"].min() / step), math.floor(last / step)
    return step * np.arange(first_bin, last_bin + 2, dtype=np.float64)


def _counts(times: pd.Series[float], edges: Floats, weights: Any = None) -> NDArray[Any]:
    """Return how many of the times lie in each bin, or the sum of their weights; a bin holds its beginning."""
    places = np.searchsorted(edges, times.to_numpy(dtype=np.float64), side="right") - 1
    inside = (places >= 0) & (places < len(edges) - 1)
    chosen = None if weights is None else np.asarray(weights, dtype=np.float64)[inside]
    return np.bincount(places[inside], weights=chosen, minlength=len(edges) - 1)


def _of_calls(calls: pd.DataFrame, edges: Floats, step: float) -> dict[str, Any]:
    answered = calls["answered"].to_numpy(dtype=np.bool_)
    offered = _counts(calls["arrived_at_s"], edges)
    well = _counts(calls["arrived_at_s"][answered], edges)
    made = _counts(calls["arrived_at_s"], edges, calls["attempts"])
    return {
        "time_s": edges[:-1],
        "offered": offered,
        "answered": well,
        "failed": offered - well,
        "goodput_per_s": _counts(calls["ended_at_s"][answered], edges) / step,
        "attempts_per_call": np.divide(made, offered, out=np.full(len(offered), np.nan), where=offered > 0),
    }


def _mean_open(attempts: pd.DataFrame, edges: Floats) -> Floats:
    """Return for each bin the seconds that attempts were open in it: all of them added up, exactly."""
    begun = _seconds_since(attempts["started_at_s"], edges) - _seconds_since(attempts["ended_at_s"], edges)
    return np.maximum(np.diff(begun), 0.0)  # a difference of large sums may come out a hair below 0


def _seconds_since(times: pd.Series[float], edges: Floats) -> Floats:
    """Return for each edge the sum, over the times before it, of the seconds since then."""
    ordered = np.sort(times.to_numpy(dtype=np.float64))
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    before = np.searchsorted(ordered, edges, side="right")
    return np.asarray(before * edges - sums[before], dtype=np.float64)


def _of_server(server: pd.DataFrame | None, edges: Floats, step: float) -> dict[str, Floats]:
    if server is None or server.empty or len(edges) < 2:
        return {name: np.full(len(edges) - 1, np.nan) for name in ("queue", "busy", "useful", "wasted")}
    times = server["time_s"].to_numpy(dtype=np.float64)
    return {
        "queue": _mean_level(times, server["queue"], edges) / step,
        "busy": _mean_level(times, server["busy"], edges) / step,
        "useful": np.diff(_held(times, server["done_s"], edges)) / step,
        "wasted": np.diff(_held(times, server["wasted_s"], edges)) / step,
    }


def _mean_level(times: Floats, levels: pd.Series[Any], edges: Floats) -> Floats:
    """Return for each bin the integral of a level that holds from its time to the next one's."""
    values = levels.to_numpy(dtype=np.float64)
    ends = np.append(times, max(edges[-1], times[-1]))
    area = np.concatenate([[0.0], np.cumsum(values * np.diff(ends))])
    return np.diff(np.interp(edges, ends, area))


def _held(times: Floats, totals: pd.Series[Any], edges: Floats) -> Floats:
    """Return at each edge the last total before it; 0 before the first."""
    values = np.concatenate([[0.0], totals.to_numpy(dtype=np.float64)])
    return np.asarray(values[np.searchsorted(times, edges, side="right")], dtype=np.float64)
