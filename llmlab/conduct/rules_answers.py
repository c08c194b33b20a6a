"""The rule on what a client takes for an answer: half a stream is none.

Only the client knows what it made of an answer. Where it does not report it (`Outcome`), its coming back shows that it
noticed; its staying away shows nothing, since not to retry a stream that has begun is right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.backends.fault_kinds import FaultKind
from llmlab.conduct.calls import went_wrong
from llmlab.conduct.verdict import Finding

if TYPE_CHECKING:
    from llmlab.conduct.calls import Call, Trial
    from llmlab.conduct.recording import Request
    from llmlab.conduct.standards import Standards

_LACKS_ITS_END = frozenset({FaultKind.CUT, FaultKind.NO_END_MARKER, FaultKind.ERROR_IN_STREAM, FaultKind.STALL})
"""Faults that leave an answer without its end. For membership only: it has no order."""


def accepted_truncated(trial: Trial, _standards: Standards) -> Finding:
    """Whether it took an answer without its end for a whole one."""
    met = [call for call in trial.calls if any(map(_lacks_its_end, call.requests))]
    if not met:
        return Finding(
            rule="accepted_truncated",
            ruling="unknown",
            sentence="No answer lacked its end: let the server send some (cut, no_end_marker, error_in_stream).",
        )
    # A call of which another request, a hedge, was answered in full has taken that one.
    last = [(call, call.requests[-1]) for call in met if all(map(went_wrong, call.requests))]
    last = [(call, request) for call, request in last if _lacks_its_end(request)]
    accepted = [request for call, request in last if call.outcome is not None and call.outcome.outcome == "answered"]
    if accepted:
        kinds = sorted({str(request.fault) for request in accepted})
        return Finding(
            rule="accepted_truncated",
            ruling="guilty",
            sentence=f"It took {len(accepted)} of {len(met)} answers without an end for whole ({', '.join(kinds)}).",
            requests=tuple(request.request for request in accepted),
        )
    silent = [request for call, request in last if call.outcome is None]
    if not silent:
        return Finding(
            rule="accepted_truncated",
            ruling="innocent",
            sentence=f"It noticed all {len(met)} answers that lacked their end: it reported failure or asked again.",
        )
    retries = " although it retries other faults" if any(map(_retries_other_faults, trial.calls)) else ""
    return Finding(
        rule="accepted_truncated",
        ruling="unknown",
        sentence=f"It did not come back after {len(silent)} of {len(met)} answers without an end{retries}: it took "
        "them for whole, or failed as it should. Only its reports of outcomes would tell.",
        requests=tuple(request.request for request in silent),
    )


def _lacks_its_end(request: Request) -> bool:
    """Whether a client was given an answer without its end; an answer in one piece has no marker to lack."""
    if request.fault not in _LACKS_ITS_END or (request.status or 0) >= 400:
        return False
    return request.fault != FaultKind.NO_END_MARKER or request.streaming is not False


def _retries_other_faults(call: Call) -> bool:
    return any(went_wrong(retry.before) and not _lacks_its_end(retry.before) for retry in call.retries)
