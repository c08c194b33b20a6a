"""Metrics that need more than events: an SLO (goodput), a price (money), an outage (how long until all is well again).

Data frames in, a tidy data frame out, as in `metrics.py`; each column declares over which calls it is taken.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field

from llmlab.analysis.frames import dtype_of, parameter_columns
from llmlab.analysis.groups import Groups
from llmlab.analysis.metrics import rate_columns, ratio
from llmlab.analysis.summaries import durations
from llmlab.core.events import Column
from llmlab.core.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from llmlab.analysis.groups import By

_ALL, _ATTEMPTS = "all calls", "all attempts"
_NO_CALLS, _NEVER = "no call arrived before the outage", "not recovered by the end of the run"

GOODPUT_COLUMNS: tuple[Column, ...] = (
    Column("calls", "int", "calls", "calls in the group", over=_ALL),
    Column("good", "int", "calls", "calls that were answered within the time given", over=_ALL),
    Column("good_share", "float", "", "good / calls", over=_ALL),
    Column("good_share_low", "float", "", "its lower end (95% Wilson interval)", over=_ALL),
    Column("good_share_high", "float", "", "its upper end (95% Wilson interval)", over=_ALL),
    Column("goodput_per_s", "float", "calls/s", "good / the seconds from the first arrival to the last end", over=_ALL),
)
"""The columns of `goodput` after those of `by`."""

COST_COLUMNS: tuple[Column, ...] = (
    Column("attempts", "int", "attempts", "attempts in the group", over=_ATTEMPTS),
    Column("uncounted", "int", "attempts", "attempts whose tokens are not known, taken as free", over=_ATTEMPTS),
    Column("input_tokens", "float", "tokens", "tokens read", over=_ATTEMPTS),
    Column("output_tokens", "float", "tokens", "tokens written", over=_ATTEMPTS),
    Column("cost", "float", "money", "what they cost, in the currency of the price", over=_ATTEMPTS),
    Column("wasted_cost", "float", "money", "of this, what failed attempts cost", over="failed attempts"),
    Column("cost_per_answer", "float", "money", "cost / answered calls", over=_ALL),
)
"""The columns of `costs` after those of `by`."""

RECOVERY_COLUMNS: tuple[Column, ...] = (
    Column("before", "float", "", "share of calls served well before the outage", over="calls that arrived before it"),
    Column("recovery_s", "float", "s", "from the outage's end until service is well again; NaN: never", over=_ALL),
    Column(
        "note", "word", "", "why there is no number; nothing where there is one", words=(_NO_CALLS, _NEVER), over=_ALL
    ),
)
"""The columns of `recovery_time` after those that tell runs apart."""


class TokenPrice(Settings):
    """What tokens cost, per million, in a currency of your own choosing."""

    input_per_million: float = Field(ge=0)
    output_per_million: float = Field(ge=0)


def goodput(calls: pd.DataFrame, by: By = None, *, within_s: float, runs: Sequence[str] | None = None) -> pd.DataFrame:
    """Return how many calls per second were answered in time: later answers are of no use to those who asked.

    Columns: those of `by`, then `GOODPUT_COLUMNS`.

    Args:
        calls: calls, one a row.
        by: the column or columns to group by.
        within_s: the longest latency of a good answer, in seconds.
        runs: the columns that tell one run from another, as in `summary`.

    Raises:
        ValueError: the time is not positive.
    """
    _check_time(within_s)
    groups = Groups(calls, by)
    counts, good = groups.counts(), groups.sums(_good(calls, within_s))
    seconds = durations(calls, groups, parameter_columns(calls) if runs is None else list(runs))
    columns = {
        "calls": counts,
        "good": good,
        **rate_columns("good_share", good, counts),
        "goodput_per_s": ratio(good, seconds),
    }
    return groups.frame(columns)


def costs(calls: pd.DataFrame, attempts: pd.DataFrame, by: By = None, *, price: TokenPrice) -> pd.DataFrame:
    """Return what the tokens of all attempts cost, and how much of that bought no answer.

    Columns: those of `by`, then `COST_COLUMNS`. An attempt that timed out may be charged all the same; its tokens are
    not known to the client, so `cost` is then a lower bound, and `uncounted` says of how many attempts.
    """
    groups = Groups(calls, by)
    codes = groups.codes_of(attempts)
    own, attempts = codes[codes >= 0], attempts[codes >= 0]
    read, written = attempts["input_tokens"].to_numpy(), attempts["output_tokens"].to_numpy()
    money = (np.nan_to_num(read) * price.input_per_million + np.nan_to_num(written) * price.output_per_million) / 1e6

    def total(weights: Any = None) -> NDArray[Any]:
        return np.bincount(own, weights=weights, minlength=len(groups))

    cost = total(money)
    columns = {
        "attempts": total(),
        "uncounted": total(np.isnan(read) & np.isnan(written)).astype(np.int64),
        "input_tokens": total(np.nan_to_num(read)),
        "output_tokens": total(np.nan_to_num(written)),
        "cost": cost,
        "wasted_cost": total(money * ~attempts["answered"].to_numpy()),
        "cost_per_answer": ratio(cost, groups.sums(calls["answered"])),
    }
    return groups.frame(columns)


def recovery_time(
    calls: pd.DataFrame,
    *,
    outage: tuple[float, float],
    within_s: float = math.inf,
    level: float = 0.95,
    step: float = 5.0,
    hold: int = 3,
) -> pd.DataFrame:
    """Return how long after an outage's end each run took until its calls were served as well as before.

    Served well is answered within `within_s`. Calls are counted by their arrival in bins of `step` seconds; a run has
    recovered at the first bin, from the outage's end on, from which `hold` bins with calls in a row have at least
    `level` times the share that was served well before the outage.

    Columns: those that tell runs apart (swept settings, replicates), then `RECOVERY_COLUMNS`.

    Args:
        calls: calls, one a row, of any number of runs.
        outage: its beginning and end, in seconds on the run's clock.
        within_s: the longest latency of a call that is served well.
        level: the share of the level before, from 0 to 1.
        step: how long a bin is, in seconds.
        hold: how many bins in a row.

    Raises:
        ValueError: an argument is out of its range.
    """
    begin, end = outage
    if not begin < end:
        raise ValueError(f"outage must be (beginning, end) in seconds with the beginning first, got {outage}")
    if not (0 < level <= 1 and 0 < step < math.inf and hold >= 1):
        raise ValueError(
            "level must lie in (0, 1], step be positive and hold 1 or more; "
            f"got level={level}, step={step}, hold={hold}"
        )
    _check_time(within_s)
    groups = Groups(calls, parameter_columns(calls))
    samples = zip(groups.values(calls["arrived_at_s"]), groups.values(_good(calls, within_s)), strict=True)
    found = [_recovered(*sample, _Outage(begin, end), level, (step, hold)) for sample in samples]
    notes: Any = dtype_of(RECOVERY_COLUMNS[-1])
    columns: dict[str, Any] = {
        "before": np.array([row.before for row in found], dtype=np.float64),
        "recovery_s": np.array([row.recovery_s for row in found], dtype=np.float64),
        "note": pd.Categorical([row.note for row in found], dtype=notes),
    }
    return groups.frame(columns)


class _Outage(NamedTuple):
    begin: float
    end: float


class _Recovery(NamedTuple):
    before: float
    recovery_s: float
    note: str | None


def _recovered(
    arrived: NDArray[np.float64], good: NDArray[np.bool_], outage: _Outage, level: float, bins: tuple[float, int]
) -> _Recovery:
    earlier = arrived < outage.begin
    if not earlier.any():
        return _Recovery(math.nan, math.nan, _NO_CALLS)
    before, (step, hold) = float(good[earlier].mean()), bins
    later = arrived >= outage.end
    places = ((arrived[later] - outage.end) // step).astype(np.int64)
    counts = np.bincount(places)
    busy = np.flatnonzero(counts)  # a bin without calls says nothing
    shares = np.bincount(places, weights=good[later])[busy] / counts[busy]
    well = shares >= level * before
    for first in range(len(busy) - hold + 1):
        if well[first : first + hold].all():
            return _Recovery(before, float(busy[first] * step), None)
    return _Recovery(before, math.nan, _NEVER)


def _good(calls: pd.DataFrame, within_s: float) -> pd.Series[bool]:
    return calls["answered"] & (calls["latency_s"] <= within_s)


def _check_time(within_s: float) -> None:
    if not within_s > 0:
        raise ValueError(f"within_s must be more than 0 seconds, got {within_s}")
