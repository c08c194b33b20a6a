"""Calls that stand or fall together: pieces of runs as clusters, and what they cost in certainty.

Calls of one run are not independent: an outage or a long queue hits neighbours alike. Runs of different replicates are.
So runs are cut into pieces of consecutive calls ("batch means"): pieces long enough are nearly independent, and the
spread between them shows how much the calls within them depend on each other. Source: B. Schmeiser, "Batch size effects
in the analysis of simulation output", Operations Research 30 (1982), who finds 10 to 30 pieces enough for any run.
Look next at `estimates.py`, whose intervals allow for it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from llmlab.analysis.frames import parameter_columns
from llmlab.analysis.groups import Groups
from llmlab.analysis.quantiles import students_t

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

PIECES = 30
"""How many clusters the calls of one setting are cut into, where they come from fewer runs than that."""


def clusters(calls: pd.DataFrame, by: list[str] | None = None, *, pieces: int = PIECES) -> NDArray[np.int64]:
    """Return the number of the cluster that each call belongs to: its run, or a piece of consecutive calls of it.

    Args:
        calls: calls, one a row. All columns that are not events' own tell runs apart.
        by: the columns that tell settings apart. The runs of a setting are cut into at least `pieces` together, each
            run into as many; with as many runs as that, each run is one cluster.
        pieces: how many clusters a setting should have at least.
    """
    runs, settings = Groups(calls, parameter_columns(calls)), Groups(calls, by)
    sizes = runs.counts()
    setting_of_run = np.zeros(len(runs), dtype=np.int64)
    setting_of_run[runs.codes] = settings.codes
    runs_of_setting = np.bincount(setting_of_run, minlength=len(settings))
    pieces_of_run = -(-pieces // np.maximum(runs_of_setting, 1))[setting_of_run]
    order = np.lexsort((calls["call"].to_numpy(), runs.codes))
    places = np.empty(len(calls), dtype=np.int64)  # of each call in its run, by its number
    places[order] = np.arange(len(calls)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    piece = places * pieces_of_run[runs.codes] // sizes[runs.codes]
    return np.asarray(runs.codes * (int(pieces_of_run.max(initial=1)) + 1) + piece, dtype=np.int64)


def effective_size(values: NDArray[Any], labels: NDArray[np.int64], confidence: float = 0.95) -> float:
    """Return how many independent values say as much about the mean as these clustered ones; never more than there are.

    Computed from the spread between clusters (the design effect), with a correction for how few they are. Source:
    E. L. Korn and B. I. Graubard, "Confidence intervals for proportions with small expected number of positive counts
    estimated from survey data", Survey Methodology 24 (1998).
    """
    n = len(values)
    spread = float(np.var(values)) if n else 0.0
    sums, sizes = cluster_sums(values, labels)
    count = len(sizes)
    if count < 2 or spread == 0.0:
        return float(n)
    deviations = sums - sizes * values.mean()
    between = count / (count - 1) * float(np.sum(deviations**2)) / n**2
    if between == 0.0:
        return float(n)
    tail = (1 - confidence) / 2
    few = (students_t(tail, n - 1) / students_t(tail, count - 1)) ** 2
    return min(float(n), max(1.0, spread / between * few)) if math.isfinite(few) else float(n)


def cluster_sums(values: NDArray[Any], labels: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sum of the values in each cluster that occurs, and how many values it has."""
    _, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    sums = np.bincount(codes, weights=values, minlength=len(sizes))
    return np.asarray(sums, dtype=np.float64), sizes.astype(np.float64)
