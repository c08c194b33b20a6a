"""Rules on when a client asks again: not what is final, not before it was told to, not at once, not all together."""

from __future__ import annotations

from statistics import fmean, median, pstdev
from typing import TYPE_CHECKING, NamedTuple

from llmlab.backends.fault_kinds import FaultKind
from llmlab.conduct.calls import told_at, went_wrong
from llmlab.conduct.verdict import Finding

if TYPE_CHECKING:
    from llmlab.conduct.calls import Trial
    from llmlab.conduct.recording import Request
    from llmlab.conduct.standards import Standards
    from llmlab.conduct.verdict import RuleName

MAY_PASS = frozenset({408, 409, 425, 429})
"""The 4xx that may be gone at the next try: a timeout, a conflict, too early, too many."""

_AT_ONCE = 0.02
"""Seconds: a client that reads a refusal and asks again needs milliseconds; even full jitter mostly waits longer."""
_ENOUGH_AT_ONCE = 5
_ENOUGH_WAITS = 8
_SAME = 0.02
"""The spread of waits without jitter, as a share of their median. Eight draws from a quarter of the wait, the least
jitter of real clients, stay within it once in ten thousand times."""


def is_final(request: Request) -> bool:
    """Whether the same request can only get the same answer: it is wrong, or a content filter withheld the text."""
    status = request.status or 0
    # Ollama's own API has no word for what a filter withheld: its client sees an empty text.
    withheld = request.fault == FaultKind.REFUSAL and request.endpoint.startswith("/v1/")
    return (400 <= status < 500 and status not in MAY_PASS) or status == 501 or withheld


def retried_final_answer(trial: Trial, _standards: Standards) -> Finding:
    """Whether it asked again what it had been told for good."""
    final = [request for call in trial.calls for request in call.requests if is_final(request)]
    if not final:
        return Finding(
            rule="retried_final_answer",
            ruling="unknown",
            sentence="No answer was final (400, 401, 404, 422 and the like, or a content filter's): ask for something "
            "wrong, such as a model that is not there.",
        )
    retried = [retry.before for call in trial.calls for retry in call.retries if is_final(retry.before)]
    if not retried:
        sentence = f"It left it at the {len(final)} answers that were final." if len(final) > 1 else _LEFT_AT_ONE
        return Finding(rule="retried_final_answer", ruling="innocent", sentence=sentence)
    kinds = sorted({str(request.status) if request.status != 200 else "content filter" for request in retried})
    return Finding(
        rule="retried_final_answer",
        ruling="guilty",
        sentence=f"It asked again after {len(retried)} of {len(final)} answers that were final ({', '.join(kinds)}): "
        f"the same request gets the same answer.{_by_body(trial, retried)}",
        requests=tuple(request.request for request in retried),
    )


_LEFT_AT_ONE = "It left it at the one answer that was final."


def ignored_retry_after(trial: Trial, standards: Standards) -> Finding:
    """Whether it came back before the time that the server named."""
    told = [request for call in trial.calls for request in call.requests if request.retry_after_s]
    if not told:
        return Finding(
            rule="ignored_retry_after",
            ruling="unknown",
            sentence="It was never told when to come back: let the server refuse with a Retry-After.",
        )
    returns = [
        (before, after.arrived_at_s - told_at(before))
        for call in trial.calls
        for _, before, after in call.retries
        if before.retry_after_s
    ]
    early = [
        (before, waited)
        for before, waited in returns
        if waited < (before.retry_after_s or 0.0) - standards.retry_after_tolerance
    ]
    if early:
        worst, waited = min(early, key=lambda pair: pair[1] - (pair[0].retry_after_s or 0.0))
        return Finding(
            rule="ignored_retry_after",
            ruling="guilty",
            sentence=f"Of the {len(returns)} times that it came back after a Retry-After, {len(early)} were too early: "
            f"at the worst after {waited:.2f} s where {worst.retry_after_s:g} s were asked for (tolerance "
            f"{standards.retry_after_tolerance:g} s).{_by_body(trial, [before for before, _ in early])}",
            requests=tuple(before.request for before, _ in early),
        )
    kept = f"waited as told {_times(len(returns))}" if returns else "did not come back"
    return Finding(
        rule="ignored_retry_after",
        ruling="innocent",
        sentence=f"It was told {_times(len(told))} when to come back, and {kept}.",
    )


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def amplified(trial: Trial, standards: Standards) -> Finding:
    """Whether calls that met faults made more requests than is allowed."""
    met = [call for call in trial.calls if any(went_wrong(request) for request in call.requests)]
    if not met:
        return Finding(rule="amplified", ruling="unknown", sentence="No call met a fault: let the server misbehave.")
    sizes = [len(call.requests) for call in met]
    mean, allowed = fmean(sizes), standards.max_amplification
    guilty = mean > allowed
    return Finding(
        rule="amplified",
        ruling="guilty" if guilty else "innocent",
        sentence=f"Calls that met a fault made {mean:.1f} requests in the mean and {max(sizes)} at the most "
        f"({len(met)} of {len(trial.calls)} calls; {allowed:g} are allowed in the mean).",
        requests=tuple(request.request for call in met if len(call.requests) > allowed for request in call.requests)
        if guilty
        else (),
    )


class _Wait(NamedTuple):
    """How long a client waited after a refusal that named no time."""

    retry: int
    seconds: float
    request: int


def _waits(trial: Trial) -> list[_Wait]:
    return [
        _Wait(number, after.arrived_at_s - told_at(before), after.request)
        for call in trial.calls
        for number, before, after in call.retries
        if (before.status or 0) >= 400 and not is_final(before) and not before.retry_after_s
    ]


def no_backoff(trial: Trial, _standards: Standards) -> Finding:
    """Whether it asked again at once, where a server had refused."""
    waits = _waits(trial)
    if len(waits) < _ENOUGH_AT_ONCE:
        return _too_few("no_backoff", len(waits), _ENOUGH_AT_ONCE)
    typical = median(wait.seconds for wait in waits)
    if typical >= _AT_ONCE:
        return Finding(
            rule="no_backoff",
            ruling="innocent",
            sentence=f"It waited {typical:.2f} s (median of {len(waits)}) before it asked a server again that had "
            "refused.",
        )
    hasty = [wait for wait in waits if wait.seconds < _AT_ONCE]
    return Finding(
        rule="no_backoff",
        ruling="guilty",
        sentence=f"It asked a server again at once that had refused, {len(hasty)} of {len(waits)} times (median wait "
        f"{1000 * typical:.0f} ms): in an outage that is a storm.",
        requests=tuple(wait.request for wait in hasty),
    )


def no_jitter(trial: Trial, _standards: Standards) -> Finding:
    """Whether all calls waited equally long, so that those that fail together come back together."""
    waits = _waits(trial)
    groups: dict[int, list[_Wait]] = {}
    for wait in waits:
        groups.setdefault(wait.retry, []).append(wait)
    told = {retry: group for retry, group in groups.items() if len(group) >= _ENOUGH_WAITS}
    if not told:
        return _too_few("no_jitter", max(map(len, groups.values()), default=0), _ENOUGH_WAITS)
    spreads = {retry: _spread(group) for retry, group in told.items()}
    even = [retry for retry, spread in spreads.items() if spread < _SAME]
    if not even:
        least = min(spreads.values())
        return Finding(
            rule="no_jitter",
            ruling="innocent",
            sentence=f"Its waits before a retry differ from call to call, by {least:.0%} or more of their median.",
        )
    first = told[even[0]]
    return Finding(
        rule="no_jitter",
        ruling="guilty",
        sentence=f"Its waits before retry {even[0]} are all {median(w.seconds for w in first):.2f} s ({len(first)} "
        f"waits, spread {spreads[even[0]]:.1%}): calls that fail together come back together.",
        requests=tuple(wait.request for retry in even for wait in told[retry]),
    )


def _spread(waits: list[_Wait]) -> float:
    """Return the standard deviation as a share of the median; waits that are none have nothing to spread."""
    seconds = [wait.seconds for wait in waits]
    typical = median(seconds)
    return pstdev(seconds) / typical if typical > _AT_ONCE else 1.0


def _too_few(rule: RuleName, found: int, wanted: int) -> Finding:
    retry = "retries" if rule == "no_backoff" else "calls that retry"
    return Finding(
        rule=rule,
        ruling="unknown",
        sentence=f"It takes {wanted} {retry} after a refusal without Retry-After to tell; there were {found}.",
    )


def _by_body(trial: Trial, offending: list[Request]) -> str:
    """Say of a guilty finding that it rests on a guess, where it does."""
    numbers = {request.request for request in offending}
    guessed = any(
        call.linked_by == "body" and any(request.request in numbers for request in call.requests)
        for call in trial.calls
    )
    return " Retries were told by their equal bodies." if guessed else ""
