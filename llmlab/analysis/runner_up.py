"""The recommended setting against the next best, call by call: is it better, or was it luck?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from llmlab.analysis.compare import Comparison, compare
from llmlab.analysis.slo import AMPLIFICATION, SUCCESS
from llmlab.analysis.wording import settings_text, shown
from llmlab.core.display import grid

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from llmlab.analysis.slo import SLO, Criterion


class RunnerUp(NamedTuple):
    """The next best of the settings that keep the SLO, and how much more of what is minimised it has.

    `comparison` is over calls that met the same chance, at 95%; a is the recommended setting, b this one.
    """

    settings: dict[str, Any]
    criterion: Criterion
    comparison: Comparison

    def __str__(self) -> str:
        """Say it in a sentence."""
        found, named = self.comparison, settings_text(self.settings)
        if not found.differs:
            return f"In {self.criterion.label} it cannot be told apart from the next best, {named}."
        low, high = sorted((abs(found.low), abs(found.high)))
        size, ends = shown(self.criterion, abs(found.difference)), [shown(self.criterion, end) for end in (low, high)]
        side = "higher" if found.difference > 0 else "lower"
        return f"Next best is {named}, whose {self.criterion.label} is {side} by {size} ({ends[0]} to {ends[1]})."

    def _repr_html_(self) -> str:
        return grid(str(self), self.comparison._fields, [self.comparison])


def runner_up(
    calls: pd.DataFrame,
    best: Mapping[str, Any],
    other: dict[str, Any],
    *,
    conditions: Mapping[str, Any],
    criterion: Criterion,
    slo: SLO,
) -> RunnerUp | None:
    """Compare two settings by a criterion under given conditions; `None` where their calls cannot be paired."""
    under = _rows(calls, conditions)
    a, b = _rows(under, best), _rows(under, other)
    if criterion.quantile is not None:
        a, b = (rows[slo.counts(rows["answered"].to_numpy())] for rows in (a, b))
    value = {SUCCESS: "answered", AMPLIFICATION: "attempts"}.get(criterion, "latency_s")
    try:
        found = compare(a, b, value, statistic=criterion.quantile or "mean")
    except ValueError:  # runs of different seeds have no pairs
        return None
    return RunnerUp(other, criterion, found)


def _rows(calls: pd.DataFrame, values: Mapping[str, Any]) -> pd.DataFrame:
    for name, value in values.items():
        column = calls[name]
        calls = calls[column.isna() if value is None else column == value]
    return calls
