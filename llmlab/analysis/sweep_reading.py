"""A sweep's result in a sentence or two: where most calls are answered, where fewest, and what cannot be told apart.

    print(sweep_reading(Sweep(Experiment(), {"policy.retry.max_retries": [0, 1, 2]}).run()))

Every number in it is computed. The intervals of all settings hold together (Bonferroni), for the best of many is partly
the luckiest; settings are compared with the best call by call, under the same chance, with Holm's correction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from llmlab.analysis.clusters import clusters
from llmlab.analysis.compare import compare_all
from llmlab.analysis.estimates import Estimate, rate_estimate
from llmlab.analysis.groups import Groups
from llmlab.analysis.judging import plain_value
from llmlab.analysis.recommend import calls_of, check_result, policy_settings
from llmlab.analysis.wording import counted, percent, settings_in_words, share_of_calls
from llmlab.core.display import card, laid_out
from llmlab.core.settings import SettingsError

if TYPE_CHECKING:
    from llmlab.analysis.recommend import SweptCalls


class SweptPoint(NamedTuple):
    """One setting of a sweep.

    Attributes:
        settings: the swept parameters' values, by path.
        success: the share of its calls answered, with its interval.
        amplification: attempts per call.
    """

    settings: dict[str, Any]
    success: Estimate
    amplification: float


class SweepReading(NamedTuple):
    """What a sweep says, as numbers and (printed) as a sentence or two.

    Attributes:
        text: the sentences.
        where: the conditions where it holds: of those swept beside settings of the policy the hardest, where
            fewest calls are answered; empty where only settings, or only conditions, were swept.
        best: where most calls are answered; of several such settings the one with the fewest attempts per call.
        worst: where fewest are answered.
        like_the_best: the settings that so many calls cannot tell from the best, the fewest attempts per call first.
    """

    text: str
    where: dict[str, Any]
    best: SweptPoint
    worst: SweptPoint
    like_the_best: list[SweptPoint]

    def __str__(self) -> str:
        """Return the sentences."""
        return self.text

    def __repr__(self) -> str:
        return laid_out("SweepReading", self._asdict().items())

    def _repr_html_(self) -> str:
        return card(self.text, [("best", _said(self.best)), ("worst", _said(self.worst))])


def sweep_reading(result: SweptCalls, *, confidence: float = 0.95) -> SweepReading:
    """Say in a sentence or two at which settings of a sweep most calls are answered, and at which fewest.

    What is not the policy's is a condition, such as how often the server fails. Where both were swept, the settings are
    compared under the hardest conditions, for the mildest would win whatever the settings are.

    Args:
        result: what a sweep brought.
        confidence: of all intervals together, and of all comparisons.

    Raises:
        SettingsError: the result is no sweep's, or holds no calls, or the confidence is not strictly between 0 and 1.
        ValueError: its settings share no seeds, so that their calls cannot be paired.
    """
    check_result(result, confidence)
    if not result.parameters:
        raise SettingsError("nothing was swept over in this result; `reading` says what a single setting brings")
    calls = calls_of(result)
    chosen = policy_settings(result.parameters)
    conditions = [name for name in result.parameters if name not in chosen]
    where: dict[str, Any] = {}
    if chosen and conditions:
        where, calls = _hardest(calls, conditions)
    points = _points(calls, chosen or conditions, confidence)
    order = sorted(points, key=lambda point: (-point.success.value, point.amplification))
    best, worst = order[0], order[-1]
    against = compare_all(calls, chosen or conditions, best.settings, "answered")
    told = (against["p_adjusted"] < 1 - confidence).tolist()
    others = [point for point in points if point is not best]  # in the order of the comparisons
    alike = [point for point, differs in zip(others, told, strict=True) if not differs]
    alike.sort(key=lambda point: point.amplification)
    text = _text(len(points), best, worst, alike)
    if where:
        text = f"Where the fewest calls are answered, at {settings_in_words(where)}: {text[0].lower()}{text[1:]}"
    return SweepReading(text, where, best, worst, alike)


def _hardest(calls: pd.DataFrame, conditions: list[str]) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the conditions under which the fewest calls are answered, and the calls made under them."""
    groups = Groups(calls, conditions)
    hardest = int(np.argmin(groups.sums(calls["answered"]) / groups.counts()))
    return _settings(groups)[hardest], calls[groups.codes == hardest]


def _points(calls: pd.DataFrame, by: list[str], confidence: float) -> list[SweptPoint]:
    groups, labels = Groups(calls, by), pd.Series(clusters(calls, by))
    each = 1 - (1 - confidence) / len(groups)
    columns = [groups.values(column) for column in (calls["answered"], calls["attempts"], labels)]
    return [
        SweptPoint(settings, rate_estimate(answered, of_each, each), float(np.mean(attempts)))
        for settings, answered, attempts, of_each in zip(_settings(groups), *columns, strict=True)
    ]


def _settings(groups: Groups) -> list[dict[str, Any]]:
    """Return the settings of each group by name."""
    rows = groups.keys.itertuples(index=False, name=None)
    return [{name: plain_value(value) for name, value in zip(groups.by, row, strict=True)} for row in rows]


def _text(count: int, best: SweptPoint, worst: SweptPoint, alike: list[SweptPoint]) -> str:
    if count == 1:
        return f"At {_said(best)}, with {best.amplification:.2f} attempts each."
    begin = f"Of {counted(count, 'setting')}"
    if len(alike) == count - 1:
        shares = {percent(point.success.value): None for point in (worst, best)}
        return f"{begin} none can be told from the best by so many calls: {' to '.join(shares)} are answered."
    most = f"most calls are answered at {_said(best)}, with {best.amplification:.2f} attempts each"
    text = f"{begin}, {most}; fewest at {_said(worst)}."
    if not alike:
        return text
    few = "one more" if len(alike) == 1 else f"{len(alike)} more"
    frugal, attempts = settings_in_words(alike[0].settings), alike[0].amplification
    less = f"; {frugal} makes only {attempts:.2f} attempts each" if attempts < best.amplification else ""
    return f"{text} So many calls cannot tell {few} from the best{less}."


def _said(point: SweptPoint) -> str:
    return f"{settings_in_words(point.settings)}: {share_of_calls(point.success)}"
