"""Warm-up: how much of a run's beginning to leave out, so that an average speaks of the steady state.

A simulated server starts empty, so its first calls find no queue and are faster than those that follow. MSER-5 cuts off
as much as makes the standard error of the remaining mean smallest. Sources: K. P. White, "An effective truncation
heuristic for bias reduction in simulation output", Simulation 69 (1997); K. Hoad, S. Robinson and R. Davies,
"Automating warm-up length estimation", Journal of the Operational Research Society 61 (2010): the best of many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from llmlab.analysis.columns import need_columns
from llmlab.analysis.frames import parameter_columns
from llmlab.analysis.groups import Groups

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_BATCH = 5
_FEWEST = 50


class WarmUp(NamedTuple):
    """How many values to leave out at the beginning; `settled` is false where no steady state was found in them."""

    values: int
    settled: bool


def mser5(values: ArrayLike) -> WarmUp:
    """Return how many values at the beginning of a series are its warm-up, by MSER-5.

    At most half of a series can be: where the best cut would be later, or there are fewer than 50 values, it has not
    settled, and the answer is that half (or nothing): run for longer.

    Raises:
        ValueError: a value is NaN.
    """
    series = np.asarray(values, dtype=np.float64)
    if np.isnan(series).any():
        raise ValueError("the values hold NaN; leave out the rows that have no value, and say so")
    if series.size < _FEWEST:
        return WarmUp(0, settled=False)
    count = series.size // _BATCH
    means = series[: count * _BATCH].reshape(count, _BATCH).mean(axis=1)
    centred = means - means.mean()  # for the sums' accuracy; it changes no variance
    left = count - np.arange(count)
    sums, squares = np.cumsum(centred[::-1])[::-1], np.cumsum(centred[::-1] ** 2)[::-1]
    errors = (squares - sums**2 / left) / left**2
    last = count - _BATCH  # of fewer batches than that, the error says nothing
    cut = int(np.argmin(errors[: last + 1]))
    return WarmUp(min(cut, count // 2) * _BATCH, settled=cut <= count // 2)


def warm_up(calls: pd.DataFrame, value: str = "latency_s") -> pd.DataFrame:
    """Return the warm-up of each run: its number of calls, those of its warm-up, when that ends, whether it settled.

    Columns: those that tell runs apart (swept settings, replicates), `calls`, `warm_up_calls`, `warm_up_s` (the arrival
    of the first call after it, in seconds), `settled`.

    Args:
        calls: calls, one a row, of any number of runs.
        value: the column that has to become steady.

    Raises:
        KeyError: the frame lacks the column; the message lists those there are.
        ValueError: a value is NaN.
    """
    groups, order = _in_order(calls, value)
    series = groups.values(order[value])
    found = [mser5(sample) for sample in series]
    arrived = groups.values(order["arrived_at_s"])
    ends = [times[each.values] for times, each in zip(arrived, found, strict=True)]
    columns: dict[str, Any] = {
        "calls": groups.counts(),
        "warm_up_calls": np.array([each.values for each in found], dtype=np.int64),
        "warm_up_s": np.array(ends, dtype=np.float64),
        "settled": np.array([each.settled for each in found], dtype=np.bool_),
    }
    return groups.frame(columns)


def without_warm_up(calls: pd.DataFrame, value: str = "latency_s") -> pd.DataFrame:
    """Return the calls that arrived after their run's warm-up; see `warm_up`."""
    groups, order = _in_order(calls, value)
    cuts = np.array([mser5(sample).values for sample in groups.values(order[value])], dtype=np.int64)
    places = pd.Series(groups.codes).groupby(groups.codes).cumcount().to_numpy()
    return order[places >= cuts[groups.codes]].sort_index()


def _in_order(calls: pd.DataFrame, value: str) -> tuple[Groups, pd.DataFrame]:
    need_columns(calls, ["arrived_at_s", value])
    order = calls.sort_values("arrived_at_s", kind="stable")
    return Groups(order, parameter_columns(order)), order
