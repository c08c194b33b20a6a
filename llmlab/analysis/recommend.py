"""From a sweep to a decision: which settings keep an SLO, how sure that is, and why the others lost.

    recommend(result, slo=SLO(success_rate=0.99, p95_latency_s=5, max_amplification=1.3), minimise="p95_latency_s")

A setting is recommended only where the intervals of all its numbers lie on the right side. All intervals hold together
at the confidence given: each is made at 1 - (1 - confidence) / (their number), so that the best of many settings is not
just the luckiest (Bonferroni). They allow for calls that depend on each other (`clusters.py`). Look next at
`judging.py`, and at `recommendation.py`, which says it in words.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

from llmlab.analysis.groups import Groups
from llmlab.analysis.judging import Judgement, cells_by_setting, interval_text, judge, worst, worst_cell
from llmlab.analysis.pareto import pareto_front
from llmlab.analysis.recommendation import Recommendation
from llmlab.analysis.runner_up import runner_up
from llmlab.analysis.slo import AMPLIFICATION, P95_LATENCY, SUCCESS, checked_slo, minimised
from llmlab.analysis.wording import condition_text
from llmlab.core.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmlab.analysis.estimates import Estimate
    from llmlab.analysis.judging import Cell, Verdict
    from llmlab.analysis.slo import SLO, Criterion


class SweptCalls(Protocol):
    """What a recommendation is made from: a `SweepResult`, or anything with its `parameters` and `calls`."""

    parameters: list[str]

    @property
    def calls(self) -> pd.DataFrame:
        """One row per call, the swept settings as columns."""
        ...


def recommend(
    result: SweptCalls,
    slo: SLO,
    minimise: str = "p95_latency_s",
    *,
    settings: str | Sequence[str] | None = None,
    confidence: float = 0.95,
) -> Recommendation:
    """Return the settings to use: of those that keep the SLO, the one with the least of what is to be minimised.

    Where none keeps it for certain, the recommendation says so, and names the nearest, or how many calls would tell.

    Args:
        result: what a sweep brought.
        slo: what has to be kept.
        minimise: what there should be least of among the settings that keep it: `amplification`, `failure_rate`,
            `p50_latency_s`, `p90_latency_s`, `p95_latency_s` or `p99_latency_s`.
        settings: the swept parameters that are yours to choose; by default those of the policy. The others are
            conditions (how often the server fails, how many users there are): the SLO must be kept under each of their
            values, and what is shown is the worst.
        confidence: of all intervals together.

    Raises:
        SettingsError: `minimise` or a setting is not one there is, nothing swept is a setting, or there are no calls.
    """
    least, slo = minimised(minimise), checked_slo(slo)
    check_result(result, confidence)
    chosen, conditions = _settings_and_conditions(list(result.parameters), settings)
    calls, targets = calls_of(result), slo.targets()
    criteria = criteria_of(least, list(targets))
    each = 1 - (1 - confidence) / (len(Groups(calls, [*chosen, *conditions])) * len(targets))
    by_setting = cells_by_setting(calls, chosen, conditions, criteria, slo=slo, confidence=each)
    cells, settings_of = list(by_setting.values()), [dict(zip(chosen, key, strict=True)) for key in by_setting]
    judgements = _judged_where_all_are(cells, [judge(of_one, targets, each) for of_one in cells])
    minimum = [worst(of_one, least) for of_one in cells]
    costs = [_cost(estimate, least) for estimate in minimum]
    place = _place(judgements, costs)
    points = _points(cells, settings_of, criteria)
    points["verdict"], points["reason"] = _verdicts(judgements, minimum, place, least)
    points["calls_needed"] = [judgement.calls_needed for judgement in judgements]
    rivals = [rival for rival, verdict in enumerate(points["verdict"]) if verdict == "meets"]
    second = None
    if rivals:
        other, where = settings_of[min(rivals, key=costs.__getitem__)], worst_cell(cells[place], least).conditions
        second = runner_up(calls, settings_of[place], other, conditions=where, criterion=least, slo=slo)
    return Recommendation(
        settings=_originals(result, settings_of[place]),
        place=place,
        slo=slo,
        minimise=minimise,
        confidence=confidence,
        conditions=tuple(conditions),
        points=points,
        runner_up=second and second._replace(settings=_originals(result, second.settings)),
    )


def check_result(result: object, confidence: float) -> None:
    """Check what is to be judged.

    Raises:
        SettingsError: it is not what a sweep brought, or the confidence is not strictly between 0 and 1.
    """
    if not hasattr(result, "parameters"):
        raise SettingsError(f"result must be what a sweep brought, a SweepResult, got a {type(result).__name__}")
    if not 0 < confidence < 1:
        raise SettingsError(f"confidence must lie strictly between 0 and 1 (0.95 is usual), got {confidence}")


def calls_of(result: SweptCalls) -> pd.DataFrame:
    """Return a result's calls.

    Raises:
        SettingsError: there are none.
    """
    if result.calls.empty:
        raise SettingsError("the result holds no calls; run the sweep first")
    return result.calls


def policy_settings(parameters: Sequence[str]) -> list[str]:
    """Return the swept parameters that are the policy's; the others are conditions, which one does not choose."""
    return [name for name in parameters if name == "policy" or name.startswith("policy.")]


def _settings_and_conditions(
    parameters: list[str], settings: str | Sequence[str] | None
) -> tuple[list[str], list[str]]:
    named = [settings] if isinstance(settings, str) else settings
    chosen = policy_settings(parameters) if named is None else list(named)
    unknown = [name for name in chosen if name not in parameters]
    if unknown:
        raise SettingsError(f"settings: {unknown} were not swept; swept: {', '.join(parameters) or 'nothing'}")
    if parameters and not chosen:
        raise SettingsError(
            f"what was swept is not of the policy: {', '.join(parameters)}; "
            "name in settings=[...] what is yours to choose"
        )
    return chosen, [name for name in parameters if name not in chosen]


def criteria_of(least: Criterion, asked: list[Criterion]) -> list[Criterion]:
    """Return what is estimated: what is asked for and minimised, and in any case a success rate, a latency, a load.

    The latency that comes first is the front's.
    """
    latency = next(one for one in (least, *asked, P95_LATENCY) if one.quantile is not None)
    return list(dict.fromkeys([SUCCESS, latency, *asked, least, AMPLIFICATION]))


def _judged_where_all_are(cells: list[list[Cell]], judgements: list[Judgement]) -> list[Judgement]:
    """Leave open what was not measured under a condition that others were measured under (a sweep that was ended)."""
    everywhere = list({tuple(cell.conditions.items()): cell.conditions for of_one in cells for cell in of_one}.values())
    found = []
    for of_one, judgement in zip(cells, judgements, strict=True):
        missing = [where for where in everywhere if where not in [cell.conditions for cell in of_one]]
        if not missing or judgement.verdict == "misses":
            found.append(judgement)
            continue
        needed = float(max(cell.calls for cell in of_one))
        found.append(Judgement("unclear", f"not measured{condition_text(missing[0])}", judgement.excess, needed))
    return found


def _points(cells: list[list[Cell]], settings_of: list[dict[str, Any]], criteria: list[Criterion]) -> pd.DataFrame:
    """Return the table of settings: values, calls, every criterion at its worst with its interval, and the front."""
    points = pd.DataFrame(settings_of, index=range(len(settings_of)))
    points["calls"] = [sum(cell.calls for cell in of_one) for of_one in cells]
    for one in criteria:
        estimates = [worst(of_one, one) for of_one in cells]
        for end, suffix in (("value", ""), ("low", "_low"), ("high", "_high")):
            points[f"{one.column}{suffix}"] = [getattr(estimate, end) for estimate in estimates]
    latency = next(one for one in criteria if one.quantile is not None)
    load = AMPLIFICATION.column
    points["on_front"] = pareto_front(points, maximise=[SUCCESS.column], minimise=[latency.column, load])
    return points


def _place(judgements: list[Judgement], costs: list[float]) -> int:
    """Return the place of the setting to name: the best that keeps the SLO, else the likeliest, else the nearest."""
    verdicts = {judgement.verdict for judgement in judgements}

    def rank(place: int) -> tuple[float, ...]:
        judgement = judgements[place]
        if "meets" in verdicts:
            return judgement.verdict != "meets", costs[place]
        if "unclear" in verdicts:
            return judgement.verdict != "unclear", judgement.excess > 1, judgement.calls_needed, costs[place]
        return judgement.excess, costs[place]

    return min(range(len(judgements)), key=rank)


def _cost(estimate: Estimate, least: Criterion) -> float:
    if math.isnan(estimate.value):
        return math.inf
    return 1 - estimate.value if least.more_is_better else estimate.value


def _verdicts(
    judgements: list[Judgement], least: list[Estimate], place: int, criterion: Criterion
) -> tuple[list[Verdict], list[str]]:
    verdicts, reasons = [judgement.verdict for judgement in judgements], [judgement.reason for judgement in judgements]
    best = least[place]
    for other, verdict in enumerate(verdicts):
        if verdict == "meets" and other != place:
            reasons[other] = (
                f"keeps the SLO as well, but its {criterion.label} {interval_text(criterion, least[other])} is not "
                f"{'above' if criterion.more_is_better else 'below'} the recommended one's "
                f"{interval_text(criterion, best)}"
            )
    if verdicts[place] == "meets":
        verdicts[place] = "chosen"
    return verdicts, reasons


def _originals(result: SweptCalls, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings as they were swept: a frame holds what is neither number nor boolean as its text."""
    runs = getattr(result, "runs", [])
    found = {}
    for name, value in settings.items():
        swept = [run.settings[name] for run in runs if isinstance(value, str) and str(run.settings[name]) == value]
        found[name] = swept[0] if swept else value
    return found
