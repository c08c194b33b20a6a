"""The fault vocabulary: what can go wrong with one attempt, each kind with its probability.

One vocabulary for the simulated server (`mock.py`) and for any backend (`WithFaults` in `with_faults.py`). At most one
fault befalls an attempt; which one is decided by a single keyed draw, so raising one probability leaves the other
attempts' fate as it was wherever it can.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from pydantic import Field

from llmlab.core.backend import Answer, AttemptFailure
from llmlab.core.settings import Settings
from llmlab.core.vocabulary import FailureReason, FinishReason

if TYPE_CHECKING:
    from llmlab.core.messages import LLMRequest


class FaultKind(StrEnum):
    """What goes wrong; the order is the one in which the draw is divided up."""

    TIMEOUT = "timeout"
    CONNECTION_ERROR = "connection_error"
    RATE_LIMIT = "rate_limit"
    OVERLOAD = "overload"
    SERVER_ERROR = "server_error"
    EMPTY = "empty"
    MALFORMED = "malformed"
    TRUNCATED = "truncated"


SPOILS_THE_ANSWER = frozenset({FaultKind.EMPTY, FaultKind.MALFORMED, FaultKind.TRUNCATED})
"""Faults of an answer that was given; the others keep it from being given at all."""

FAULT_SHORTHANDS: dict[str, str] = {f"{kind}_probability": str(kind) for kind in FaultKind}
"""`timeout_probability` and its like: how backends take the probabilities as plain settings."""


def _probability(meaning: str) -> Any:
    return Field(default=0.0, ge=0, le=1, description=meaning)


class Faults(Settings):
    """How probable each fault is, per attempt, from 0 to 1; together 1 at the most.

    `retry_after` is the Retry-After, in seconds, that comes with `rate_limit` and `overload`; `None` sends none.
    """

    timeout: float = _probability("the server never answers")
    connection_error: float = _probability("the connection is refused")
    rate_limit: float = _probability("429")
    overload: float = _probability("503")
    server_error: float = _probability("500")
    empty: float = _probability("an answer without text")
    malformed: float = _probability("a text that is not what was asked for (no valid JSON where JSON was)")
    truncated: float = _probability("a text cut off in the middle, finish reason `length`")
    retry_after: float | None = Field(default=None, ge=0)

    def model_post_init(self, _context: Any) -> None:
        """Refuse probabilities that add up to more than 1."""
        total = sum(getattr(self, kind) for kind in FaultKind)
        if total > 1 + 1e-12:
            raise ValueError(f"the fault probabilities must add up to 1 or less, got {total:g}")

    def thresholds(self) -> tuple[tuple[float, FaultKind], ...]:
        """Return the division of (0, 1): the first threshold above a draw names the fault; beyond the last, none."""
        likely = [(getattr(self, kind), kind) for kind in FaultKind if getattr(self, kind)]
        return tuple(zip(accumulate(p for p, _ in likely), (kind for _, kind in likely), strict=True))


def drawn(thresholds: tuple[tuple[float, FaultKind], ...], u: float) -> FaultKind | None:
    """Return the fault that a uniform draw from (0, 1) means, if any."""
    for threshold, kind in thresholds:
        if u < threshold:
            return kind
    return None


_REFUSALS = {
    FaultKind.CONNECTION_ERROR: AttemptFailure(FailureReason.CONNECTION_FAILED, "injected fault: connection refused"),
    FaultKind.SERVER_ERROR: AttemptFailure(FailureReason.SERVER_ERROR, "injected fault: internal server error", 500),
    FaultKind.RATE_LIMIT: AttemptFailure(FailureReason.RATE_LIMITED, "injected fault: too many requests", 429),
    FaultKind.OVERLOAD: AttemptFailure(FailureReason.OVERLOADED, "injected fault: server busy", 503),
}


def refused(kind: FaultKind, retry_after: float | None) -> AttemptFailure:
    """Return what an attempt meets that this fault refuses (every kind but a timeout and a spoilt answer)."""
    failure = _REFUSALS[kind]
    return failure if failure.status_code not in {429, 503} else failure._replace(retry_after=retry_after)


def spoilt(kind: FaultKind, request: LLMRequest, answer: Answer) -> Answer | AttemptFailure:
    """Return an answer as this fault leaves it.

    Malformed text can only be told by a `response_format`; where the request has none, it is reported as what it is.
    """
    if kind is FaultKind.EMPTY:
        return answer._replace(text="")
    half = answer.text[: len(answer.text) // 2]
    if kind is FaultKind.TRUNCATED:
        return answer._replace(text=half or "...", finish_reason=FinishReason.LENGTH)
    if request.response_format is None:
        return AttemptFailure(FailureReason.MALFORMED_OUTPUT, "injected fault: the text is not what was asked for")
    return answer._replace(text=half + "\x00}{")
