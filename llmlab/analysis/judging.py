"""Settings held against an SLO: every number with its interval, a verdict, and the first reason against it.

A *cell* is one combination of swept values. A *setting* is a combination of those that are one's own to choose; where
conditions were swept too (how often the server fails), a setting has a cell under each of them, and must keep the SLO
under all. Look next at `recommend.py`, which chooses.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from llmlab.analysis.clusters import clusters
from llmlab.analysis.estimates import (
    Estimate,
    attempts_estimate,
    calls_needed_for_mean,
    calls_needed_for_rate,
    mean_estimate,
    percentile_estimate,
    rate_estimate,
)
from llmlab.analysis.groups import Groups
from llmlab.analysis.slo import AMPLIFICATION, SUCCESS
from llmlab.analysis.wording import condition_text, shown, target_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from llmlab.analysis.slo import SLO, Criterion

Verdict = Literal["chosen", "meets", "unclear", "misses"]
"""What became of a setting: recommended; kept the SLO as well; too few calls to tell; did not keep it."""


class Cell(NamedTuple):
    """The evidence of one combination of swept values.

    `within` is, for each latency that has a target, the share of the calls that kept it.
    """

    conditions: dict[str, Any]
    calls: int
    estimates: dict[Criterion, Estimate]
    within: dict[Criterion, float]


class Judgement(NamedTuple):
    """What the evidence says of one setting: `meets`, `unclear` or `misses`, and the first reason against it.

    `excess` is how far it misses what it misses by most (1 is just kept), `calls_needed` the further calls in each of
    its cells that would tell (0 where nothing is open, infinite where no number would).
    """

    verdict: Verdict
    reason: str
    excess: float
    calls_needed: float


def cells_by_setting(
    calls: pd.DataFrame,
    settings: Sequence[str],
    conditions: Sequence[str],
    criteria: Sequence[Criterion],
    *,
    slo: SLO,
    confidence: float,
) -> dict[tuple[Any, ...], list[Cell]]:
    """Return for each setting, in ascending order, its cells, each criterion with an interval at the confidence."""
    by = [*settings, *conditions]
    groups, labels = Groups(calls, by), pd.Series(clusters(calls, by))
    columns = [groups.values(column) for column in (calls["answered"], calls["latency_s"], calls["attempts"], labels)]
    keys = {name: [plain_value(value) for value in groups.keys[name].tolist()] for name in by}
    found: dict[tuple[Any, ...], list[Cell]] = {}
    for place, sample in enumerate(zip(*columns, strict=True)):
        where = {name: keys[name][place] for name in conditions}
        cell = _cell(where, _Sample(*sample), criteria, slo, confidence)
        found.setdefault(tuple(keys[name][place] for name in settings), []).append(cell)
    return found


def judge(cells: Sequence[Cell], targets: Mapping[Criterion, float], confidence: float) -> Judgement:
    """Hold one setting's cells against the targets, in the order of these; of a criterion the worst cell is named."""
    missed, still_open, needed, excess = "", "", 0.0, 0.0
    for criterion, target in targets.items():
        excesses = [_excess(criterion, cell.estimates[criterion].value, target) for cell in cells]
        excess = max(excess, *excesses)
        verdicts = [_verdict(criterion, cell.estimates[criterion], target) for cell in cells]
        if "misses" in verdicts:
            places = [place for place, verdict in enumerate(verdicts) if verdict == "misses"]
            missed = missed or _why(criterion, target, cells[max(places, key=excesses.__getitem__)])
        elif "unclear" in verdicts:
            unclear = [cell for cell, verdict in zip(cells, verdicts, strict=True) if verdict == "unclear"]
            further = [_calls_needed(criterion, target, cell, confidence) for cell in unclear]
            most = max(further)
            still_open = still_open or _open(criterion, target, unclear[further.index(most)], most)
            needed = max(needed, most)
    if missed:
        return Judgement("misses", missed, excess, 0.0)
    return Judgement("unclear" if still_open else "meets", still_open, excess, needed)


def worst(cells: Sequence[Cell], criterion: Criterion) -> Estimate:
    """Return the estimate of the cell in which the setting does worst."""
    return worst_cell(cells, criterion).estimates[criterion]


def worst_cell(cells: Sequence[Cell], criterion: Criterion) -> Cell:
    """Return the cell in which the setting does worst."""
    sign = 1.0 if criterion.more_is_better else -1.0

    def rank(cell: Cell) -> float:
        value = cell.estimates[criterion].value
        return -math.inf if math.isnan(value) else sign * value

    return min(cells, key=rank)


class _Sample(NamedTuple):
    answered: NDArray[np.bool_]
    latency_s: NDArray[np.float64]
    attempts: NDArray[np.int64]
    labels: NDArray[np.int64]


def _cell(where: dict[str, Any], sample: _Sample, criteria: Sequence[Criterion], slo: SLO, confidence: float) -> Cell:
    answered, targets = sample.answered, slo.targets()
    over = slo.counts(answered)
    latencies, labels = sample.latency_s[over], sample.labels[over]
    estimates, within = {}, {}
    for criterion in criteria:
        if criterion.quantile is not None:
            estimates[criterion] = percentile_estimate(latencies, criterion.quantile, labels, confidence)
            if criterion in targets and latencies.size:
                within[criterion] = float(np.mean(latencies <= targets[criterion]))
        elif criterion is SUCCESS:
            estimates[criterion] = rate_estimate(answered, sample.labels, confidence)
        else:  # a target of 1 asks for clients that do not retry, which no number of calls could show
            of_attempts = mean_estimate if targets.get(criterion) == 1 else attempts_estimate
            estimates[criterion] = of_attempts(sample.attempts, sample.labels, confidence)
    return Cell(where, len(answered), estimates, within)


def plain_value(value: Any) -> Any:
    """Turn "there was no such setting" back into None."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _verdict(criterion: Criterion, estimate: Estimate, target: float) -> Verdict:
    """A missing end (NaN) is on no side, so it leaves open what it would decide."""
    if criterion.more_is_better:
        return "meets" if estimate.low >= target else "misses" if estimate.high < target else "unclear"
    return "meets" if estimate.high <= target else "misses" if estimate.low > target else "unclear"


def _excess(criterion: Criterion, value: float, target: float) -> float:
    if math.isnan(value):
        return math.inf
    return (1 - value) / (1 - target) if criterion is SUCCESS else value / target


def _calls_needed(criterion: Criterion, target: float, cell: Cell, confidence: float) -> float:
    estimate = cell.estimates[criterion]
    if criterion is AMPLIFICATION:
        return calls_needed_for_mean(target, estimate)
    if criterion is SUCCESS:
        return calls_needed_for_rate(estimate.value, target, estimate, confidence)
    if criterion not in cell.within or criterion.quantile is None:
        return math.inf
    return calls_needed_for_rate(cell.within[criterion], criterion.quantile, estimate, confidence)


def _why(criterion: Criterion, target: float, cell: Cell) -> str:
    side = "below" if criterion.more_is_better else "above"
    return f"{_measured(criterion, cell)} is {side} {shown(criterion, target)}{condition_text(cell.conditions)}"


def _open(criterion: Criterion, target: float, cell: Cell, further: float) -> str:
    if math.isnan(cell.estimates[criterion].value):
        return f"no call to take {criterion.label} over{condition_text(cell.conditions)}"
    claim = f"{_measured(criterion, cell)} is {target_text(criterion, target)}{condition_text(cell.conditions)}"
    if math.isinf(further):
        return f"too near to tell whether {claim}"
    return f"too few calls to tell whether {claim}: {further:,.0f} more are needed"


def _measured(criterion: Criterion, cell: Cell) -> str:
    return f"{criterion.label} {interval_text(criterion, cell.estimates[criterion])}"


def interval_text(criterion: Criterion, estimate: Estimate) -> str:
    """Return an estimate with its interval as a text: `99.2% (98.9% to 99.5%)`."""
    low, high = (shown(criterion, end) if not math.isnan(end) else "?" for end in (estimate.low, estimate.high))
    return f"{shown(criterion, estimate.value)} ({low} to {high})"
