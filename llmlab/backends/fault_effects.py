"""What a client sees of a fault, and when: pure functions of an answer's timing and the client's own bounds.

A backend that knows when an answer's first token and its end would come asks `met` what the client meets instead, and
waits until then. An answer is taken to be streamed, a token at a time and evenly, as every backend reads it; so both
`timeouts.first_byte` and `timeouts.between_chunks` apply. Faults that keep an answer from coming about at all are
`met_nothing`'s.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, NamedTuple

from llmlab.backends.faults import FAULTS, FaultKind, Faults, refused, spoilt
from llmlab.core.backend import AttemptFailure, Timeouts
from llmlab.core.vocabulary import FailureReason

if TYPE_CHECKING:
    from llmlab.core.backend import Answer, Outcome
    from llmlab.core.messages import LLMRequest


class Timing(NamedTuple):
    """When an answer comes, in seconds since the attempt began.

    Attributes:
        first_token: when its first token comes.
        end: when it is complete.
        gap: the time between two tokens.
    """

    first_token: float
    end: float
    gap: float


WHOLE = Timing(0.0, 1.0, 1.0)
"""An answer of which only the shares matter."""
NO_BOUNDS = Timeouts(connect=None, between_chunks=None)
"""A client that waits for ever: what the server itself does is asked for."""


def timing(first_token: float, end: float, tokens: int | None) -> Timing:
    """Return the timing of an answer whose tokens come evenly; the last one is its end."""
    return Timing(first_token, end, (end - first_token) / max(1, (tokens or 1) - 1))


def met(
    fault: FaultKind | None, request: LLMRequest, answer: Answer, when: Timing, *, timeouts: Timeouts, faults: Faults
) -> tuple[Outcome, float]:
    """Return what the client meets of an answer, and when; `inf` means never (its attempt's timeout ends it).

    Args:
        fault: a fault of the stream or of the text, or `None`.
        request: what was asked.
        answer: what would have come.
        when: its timing without the fault.
        timeouts: the client's bounds on the phases.
        faults: the settings of the faults.
    """
    first_byte = inf if timeouts.first_byte is None else timeouts.first_byte
    if when.first_token > first_byte:
        return no_first_byte(timeouts), first_byte
    when = slowed(fault, when, faults)
    patience = inf if timeouts.between_chunks is None else timeouts.between_chunks
    stands_still = when.first_token + patience
    if fault is FaultKind.STALL:
        return stalled(timeouts), stands_still
    ends = breaks_at(fault, when)
    if when.gap > patience and stands_still < ends:
        return stalled(timeouts), stands_still
    if fault is None:
        return answer, ends
    return _BROKEN.get(fault) or spoilt(fault, request, answer), ends


def slowed(fault: FaultKind | None, when: Timing, faults: Faults) -> Timing:
    """Return the timing of an answer under this fault: that of a slow drip is slower, any other fault leaves it."""
    if fault is not FaultKind.SLOW_DRIP:
        return when
    factor = faults.slow_drip_factor
    end = when.first_token + (when.end - when.first_token) * factor
    return Timing(when.first_token, end, when.gap * factor)


def breaks_at(fault: FaultKind | None, when: Timing) -> float:
    """Return when an answer ends that this fault breaks; with any other fault, and with none, its own end."""
    if fault in _HALF_WAY:
        return (when.first_token + when.end) / 2
    return when.first_token if fault is FaultKind.WRONG_CONTENT_TYPE else when.end


def met_nothing(fault: FaultKind, timeouts: Timeouts, faults: Faults) -> tuple[AttemptFailure, float | None]:
    """Return what the client meets of a fault that keeps an answer from coming about, and when.

    The time is `None` for what is refused at once, and `inf` for what the attempt's own timeout must end.
    """
    if fault is FaultKind.TIMEOUT:
        return no_first_byte(timeouts), inf if timeouts.first_byte is None else timeouts.first_byte
    if fault is FaultKind.CONNECT_STALL:
        return _no_connection(timeouts), inf if timeouts.connect is None else timeouts.connect
    return refused(fault, faults), None


def no_first_byte(timeouts: Timeouts) -> AttemptFailure:
    """Return the failure for an answer that did not begin in time."""
    message = f"the server sent no first byte within {timeouts.first_byte} s (timeouts.first_byte)"
    return AttemptFailure(FailureReason.ATTEMPT_TIMEOUT, message)


def stalled(timeouts: Timeouts) -> AttemptFailure:
    """Return the failure for an answer that began and stood still."""
    message = f"the answer stood still for {timeouts.between_chunks} s (timeouts.between_chunks)"
    return AttemptFailure(FailureReason.ATTEMPT_TIMEOUT, message, 200)


def _no_connection(timeouts: Timeouts) -> AttemptFailure:
    message = f"injected fault: no connection within {timeouts.connect} s (timeouts.connect)"
    return AttemptFailure(FailureReason.CONNECTION_FAILED, message)


_HALF_WAY = (
    FaultKind.CUT,
    FaultKind.ERROR_IN_STREAM,
    FaultKind.INVALID_UTF8,
    FaultKind.MALFORMED_CHUNK,
    FaultKind.HUGE_LINE,
)
_BROKEN = {
    kind: AttemptFailure(FAULTS[kind].reason, f"injected fault: {said}", 200)
    for kind, said in {
        FaultKind.CUT: "the connection broke before the answer was complete",
        FaultKind.ERROR_IN_STREAM: "the server reported an error inside its answer",
        FaultKind.NO_END_MARKER: "the stream ended without its end marker",
        FaultKind.WRONG_CONTENT_TYPE: "the answer is a web page",
        FaultKind.INVALID_UTF8: "the answer is not UTF-8",
        FaultKind.MALFORMED_CHUNK: "a piece of the answer is not JSON",
        FaultKind.HUGE_LINE: "a line of the answer is too long",
    }.items()
}
