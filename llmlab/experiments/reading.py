"""An experiment's result in one sentence: what the settings bring, and what one more retry would change.

    print(reading(Experiment(backend=MockBackend(timeout_probability=0.2))))

Every number in it is computed, with its 95% interval; the next retry is compared call by call, under the same chance
(common random numbers).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from llmlab.analysis.clusters import clusters
from llmlab.analysis.compare import Comparison, compare
from llmlab.analysis.estimates import Estimate, percentile_estimate, rate_estimate
from llmlab.analysis.slo import P95_LATENCY
from llmlab.analysis.wording import counted, share_of_calls, shown
from llmlab.backends.fault_kinds import FAULTS, FaultKind
from llmlab.backends.faults import Faults
from llmlab.backends.setting_paths import with_setting
from llmlab.core.display import card, laid_out
from llmlab.experiments.experiment import Experiment
from llmlab.experiments.workload import ClosedLoop

if TYPE_CHECKING:
    import pandas as pd

    from llmlab.experiments.sweep_result import SweepResult

_CONFIDENCE = 0.95
_MOST_FAULTS = 2  # that are named
_PLURALS = {
    FaultKind.TIMEOUT: "timeouts",
    FaultKind.CONNECTION_ERROR: "refused connections",
    FaultKind.RATE_LIMIT: "429s",
    FaultKind.OVERLOAD: "503s",
    FaultKind.SERVER_ERROR: "500s",
    FaultKind.BAD_GATEWAY: "502s",
    FaultKind.GATEWAY_TIMEOUT: "504s",
    FaultKind.EMPTY: "empty answers",
    FaultKind.MALFORMED: "malformed answers",
    FaultKind.TRUNCATED: "truncated answers",
    FaultKind.STALL: "stalled answers",
    FaultKind.CUT: "cut connections",
    FaultKind.REFUSAL: "refusals",
}
_ORDINALS = ("a first", "a second", "a third", "a fourth", "a fifth", "a sixth", "a seventh", "an eighth", "a ninth")


class Reading(NamedTuple):
    """What a result says, as numbers and (printed) as a sentence.

    Attributes:
        text: the sentence, or two.
        success: the share of calls answered.
        p95_latency: the latency that 95% of all calls stayed within, in seconds.
        one_more: what one more retry would change in the share answered, paired by call; `None` where there was
            nothing to retry, or it was not asked for.
        more_load: how many more attempts that would take, as a share of those made; NaN without `one_more`.
    """

    text: str
    success: Estimate
    p95_latency: Estimate
    one_more: Comparison | None
    more_load: float

    def __str__(self) -> str:
        """Return the sentence."""
        return self.text

    def __repr__(self) -> str:
        return laid_out("Reading", self._asdict().items())

    def _repr_html_(self) -> str:
        success, latency = self.success, self.p95_latency
        rows = [
            ("answered", f"{success.value:.4g} [{success.low:.4g}, {success.high:.4g}]"),
            ("p95 latency", f"{latency.value:.4g} s [{latency.low:.4g}, {latency.high:.4g}]"),
        ]
        return card(self.text, rows)


def reading(experiment: Experiment, result: SweepResult | None = None, *, one_more: bool | None = None) -> Reading:
    """Say in a sentence what an experiment's settings bring, and what one more retry would bring for how much load.

    Args:
        experiment: what was or is to be run.
        result: what it brought; run here if `None`.
        one_more: whether to run it once more with one more retry; `None` does so where the backend is simulated.

    Raises:
        TypeError: what was run is no experiment.
    """
    given: object = experiment
    if not isinstance(given, Experiment):
        raise TypeError(f"reading takes an Experiment, and its result after it, got a {type(given).__name__}")
    calls = (experiment.run() if result is None else result).calls
    labels = clusters(calls)
    success = rate_estimate(calls["answered"].to_numpy(), labels, _CONFIDENCE)
    latency = percentile_estimate(calls["latency_s"].to_numpy(), 0.95, labels, _CONFIDENCE)
    within = f"95% of all within {shown(P95_LATENCY, latency.value)}"
    now = f"{_weather(experiment)}, {_retries(experiment)} {share_of_calls(success)}, {within}"
    wanted = experiment.simulated if one_more is None else one_more
    if not wanted or not _could_retry(calls, experiment):
        return Reading(f"{now[0].upper()}{now[1:]}.", success, latency, None, float("nan"))
    retries = experiment.policy.retry.max_retries
    more = with_setting(experiment, "policy.retry.max_retries", retries + 1).run().calls
    difference = compare(calls, more, "answered")
    load = float(more["attempts"].sum() / calls["attempts"].sum() - 1)
    text = f"{now}; {_ordinal(retries)} {_changes(difference)} for {_more(load)}."
    return Reading(f"{text[0].upper()}{text[1:]}", success, latency, difference, load)


def _could_retry(calls: pd.DataFrame, experiment: Experiment) -> bool:
    """Whether a call failed at its last retry, so that one more could have helped it."""
    used_up = calls["attempts"] > experiment.policy.retry.max_retries
    return bool((used_up & ~calls["answered"]).any())


def _weather(experiment: Experiment) -> str:
    """Return what the server does to its clients, and their load: `with 20% timeouts and 10 users`."""
    faults = getattr(experiment.backend, "faults", None)
    given = [] if not isinstance(faults, Faults) else [(getattr(faults, kind), kind) for kind in FAULTS]
    likely = sorted([(share, kind) for share, kind in given if share > 0], key=lambda entry: -entry[0])
    named = [f"{100 * share:.3g}% {_plural(kind)}" for share, kind in likely]
    if len(named) > _MOST_FAULTS:
        others = sum(share for share, _ in likely[_MOST_FAULTS:])
        named = [*named[:_MOST_FAULTS], f"{100 * others:.3g}% other faults"]
    if isinstance(faults, Faults) and faults.schedule:
        named.append("faults that come and go")
    return f"with {_listed([*(named or ['no faults']), _load(experiment)])}"


def _plural(kind: FaultKind) -> str:
    return _PLURALS.get(kind, f"{str(kind).replace('_', ' ')} faults")


def _load(experiment: Experiment) -> str:
    workload = experiment.workload
    if isinstance(workload, ClosedLoop):
        return counted(workload.users, "user")
    if isinstance(workload.rate, int | float):
        return f"{workload.rate:.3g} calls a second"
    return "arrivals that vary"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _retries(experiment: Experiment) -> str:
    count = experiment.policy.retry.max_retries
    return {0: "single attempts answer", 1: "1 retry answers"}.get(count, f"{count} retries answer")


def _ordinal(retries: int) -> str:
    return f"{_ORDINALS[retries] if retries < len(_ORDINALS) else 'one more'} {'retry ' if retries < 1 else ''}".strip()


def _changes(difference: Comparison) -> str:
    points = f"{100 * abs(difference.difference):.2g} points"
    ends = f"{_signed(difference.low)} to {_signed(difference.high)}"
    if not difference.differs:
        return f"changes nothing that so many calls can tell ({ends} points)"
    return f"{'adds' if difference.difference > 0 else 'costs'} {points} ({ends})"


def _signed(share: float) -> str:
    return "?" if np.isnan(share) else f"{100 * share:+.2g}"


def _more(load: float) -> str:
    if abs(load) < 0.0005:
        return "no more load"
    return f"{abs(100 * load):.2g}% {'more' if load > 0 else 'less'} load"
