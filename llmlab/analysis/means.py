"""Means of a column by groups, with intervals that allow for calls that depend on each other.

The same interval as `mean_estimate` of `estimates.py`, for all groups at once: charts of millions of calls cannot sort
each group's labels. Look next at `clusters.py`, which says what depends on what.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from llmlab.analysis.clusters import clusters
from llmlab.analysis.columns import need_columns
from llmlab.analysis.groups import Groups
from llmlab.analysis.quantiles import students_t

if TYPE_CHECKING:
    import pandas as pd

    from llmlab.analysis.groups import By


def means(calls: pd.DataFrame, column: str, by: By = None, *, confidence: float = 0.95) -> pd.DataFrame:
    """Return the mean of a column of the calls for each group, with Student's interval over clusters of calls.

    Columns: those of `by`, `calls`, `mean`, `mean_low`, `mean_high` (NaN where there are fewer than two clusters).

    Raises:
        KeyError: the frame lacks a column; the message lists those there are.
    """
    need_columns(calls, [column])
    groups = Groups(calls, by)
    labels, values = clusters(calls, groups.by), calls[column].to_numpy(dtype=np.float64)
    counts = groups.counts()
    with np.errstate(invalid="ignore", divide="ignore"):  # no calls have no mean, and one cluster has no spread
        mean = np.bincount(groups.codes, weights=values, minlength=len(groups)) / counts
        sizes, sums = np.bincount(labels), np.bincount(labels, weights=values)
        group_of = np.zeros(len(sizes), dtype=np.int64)
        group_of[labels] = groups.codes
        there = sizes > 0
        deviations = (sums - sizes * mean[group_of])[there]
        number = np.bincount(group_of[there], minlength=len(groups))
        spread = np.bincount(group_of[there], weights=deviations**2, minlength=len(groups))
        error = np.sqrt(number / (number - 1) * spread) / counts
        half = students_t((1 - confidence) / 2, number - 1) * error
    return groups.frame({"calls": counts, "mean": mean, "mean_low": mean - half, "mean_high": mean + half})
