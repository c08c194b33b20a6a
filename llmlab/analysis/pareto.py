"""The Pareto front: the settings that nothing beats in everything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from llmlab.analysis.columns import need_columns
from llmlab.analysis.groups import column_names

if TYPE_CHECKING:
    from llmlab.analysis.groups import By


def pareto_front(table: pd.DataFrame, *, maximise: By = (), minimise: By = ()) -> pd.Series[bool]:
    """Return for each row whether it is on the Pareto front: none is as good in everything and better in something.

        table[pareto_front(table, maximise=["success_rate"], minimise=["latency_p95_s", "attempts_per_call"])]

    Rows that are equal in everything are on the front together. A row with NaN in one of the columns is not on it.

    Args:
        table: one row for each setting, such as `SweepResult.summary()` gives.
        maximise: the column, or the columns, of which more is better.
        minimise: likewise, of which less is better.

    Raises:
        KeyError: the table lacks a column.
        ValueError: no column is named.
    """
    more, less = column_names(maximise), column_names(minimise)
    names = [*more, *less]
    if not names:
        raise ValueError("pareto_front needs columns to compare by; name some in maximise and minimise")
    need_columns(table, names)
    costs = table[names].to_numpy(dtype=np.float64) * np.repeat([-1.0, 1.0], [len(more), len(less)])
    on_front = ~np.isnan(costs).any(axis=1)
    for row in np.flatnonzero(on_front):
        others = costs[on_front]  # a row that is beaten beats nothing that its better does not
        on_front[row] = not ((others <= costs[row]).all(axis=1) & (others < costs[row]).any(axis=1)).any()
    return pd.Series(on_front, index=table.index, name="on_front")
