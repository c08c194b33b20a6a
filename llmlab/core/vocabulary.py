"""The closed vocabularies: why something failed, how a call ended, why a text stopped.

Every event, result and chart uses these words and no others, so two failures can always be told apart.
`REASONS` is the one table that says what each reason means; the table of the documentation is made from it.

A *reason* says what went wrong, a *fate* says how the call ended. The reason of a failed call is what ended it:
the last attempt's own reason where the client had no retry left or would not retry, and a reason of the client's
own (deadline, limit, circuit, budget, cancelled) where the client ended the call itself; `LLMFailure.last_reason`
then still names what the last attempt met.

`retryable` is a property of the failure and not of the client's patience: it says that the very same request, sent
again later as a new call, may well be answered. It therefore stays true when the retries are exhausted.

Look next at `messages.py` (the values that carry these words) and `retry.py` (who decides by them).
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class _Word(StrEnum):
    """A text of a closed vocabulary. It hashes as a text, in C: words are looked up for every event."""

    __hash__ = str.__hash__


class FailureReason(_Word):
    """What went wrong, in one word with one meaning each; see `REASONS` for the meanings."""

    ATTEMPT_TIMEOUT = "attempt_timeout"
    TOTAL_DEADLINE_EXCEEDED = "total_deadline_exceeded"
    CONNECTION_FAILED = "connection_failed"
    CONNECTION_LOST = "connection_lost"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    SERVER_ERROR = "server_error"
    INVALID_REQUEST = "invalid_request"
    EMPTY_PROMPT = "empty_prompt"
    CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"
    MODEL_NOT_FOUND = "model_not_found"
    NOT_AUTHORISED = "not_authorised"
    EMPTY_OUTPUT = "empty_output"
    MALFORMED_OUTPUT = "malformed_output"
    MALFORMED_RESPONSE = "malformed_response"
    TRUNCATED_OUTPUT = "truncated_output"
    REFUSED = "refused"
    REJECTED_BY_LIMIT = "rejected_by_limit"
    CIRCUIT_OPEN = "circuit_open"
    BUDGET_EXHAUSTED = "budget_exhausted"
    CANCELLED = "cancelled"
    CRASHED = "crashed"


class Fate(_Word):
    """How a call ended; the fates are mutually exclusive, so their counts add up to the calls."""

    ANSWERED = "answered"
    NOT_RETRYABLE = "not_retryable"
    RETRIES_EXHAUSTED = "retries_exhausted"
    DEADLINE = "deadline"
    BUDGET_EXHAUSTED = "budget_exhausted"
    CIRCUIT_OPEN = "circuit_open"
    REJECTED_BY_LIMIT = "rejected_by_limit"
    CANCELLED = "cancelled"
    CRASHED = "crashed"


class FinishReason(_Word):
    """Why the model stopped writing."""

    STOP = "stop"
    LENGTH = "length"
    CONTENT_FILTER = "content_filter"
    TOOL_CALLS = "tool_calls"
    OTHER = "other"


class BackoffSource(_Word):
    """Why the wait before the next attempt is as long as it is."""

    BACKOFF = "backoff"
    RETRY_AFTER = "retry_after"


class ReasonMeaning(NamedTuple):
    """One row of the table: what a reason means, whether it is retryable, and with which fates a call can carry it."""

    meaning: str
    retryable: bool
    fates: tuple[Fate, ...]


_WIRE = (Fate.RETRIES_EXHAUSTED,)
_FINAL = (Fate.NOT_RETRYABLE,)
_R = FailureReason

REASONS: dict[FailureReason, ReasonMeaning] = {
    _R.ATTEMPT_TIMEOUT: ReasonMeaning("one attempt ran out of its time (whole, or one of its phases)", True, _WIRE),
    _R.TOTAL_DEADLINE_EXCEEDED: ReasonMeaning(
        "the call's total time ran out, or the next wait would have outlasted it", True, (Fate.DEADLINE,)
    ),
    _R.CONNECTION_FAILED: ReasonMeaning("no connection to the server came about", True, _WIRE),
    _R.CONNECTION_LOST: ReasonMeaning("the connection broke before the answer was complete", True, _WIRE),
    _R.RATE_LIMITED: ReasonMeaning("the server refused: too many requests or tokens (429)", True, _WIRE),
    _R.OVERLOADED: ReasonMeaning("the server refused: busy or starting (503, 529)", True, _WIRE),
    _R.SERVER_ERROR: ReasonMeaning("the server failed inside (other 5xx, or an error in its stream)", True, _WIRE),
    _R.INVALID_REQUEST: ReasonMeaning("the server does not accept this request (400, 422)", False, _FINAL),
    _R.EMPTY_PROMPT: ReasonMeaning("the prompt is empty or blank; nothing was sent", False, _FINAL),
    _R.CONTEXT_LENGTH_EXCEEDED: ReasonMeaning("the prompt is longer than the model's context", False, _FINAL),
    _R.MODEL_NOT_FOUND: ReasonMeaning("the server does not have this model", False, _FINAL),
    _R.NOT_AUTHORISED: ReasonMeaning("the server wants other credentials (401, 403)", False, _FINAL),
    _R.EMPTY_OUTPUT: ReasonMeaning("the protocol was kept, but the text is empty or blank", True, _WIRE),
    _R.MALFORMED_OUTPUT: ReasonMeaning("the text does not fit the request's response_format", True, _WIRE),
    _R.MALFORMED_RESPONSE: ReasonMeaning("the answer breaks the protocol (no JSON, no end marker, ...)", True, _WIRE),
    _R.TRUNCATED_OUTPUT: ReasonMeaning(
        "the text was cut at max_tokens, and so no longer fits the response_format", False, _FINAL
    ),
    _R.REFUSED: ReasonMeaning("the model or a filter declined to answer", False, _FINAL),
    _R.REJECTED_BY_LIMIT: ReasonMeaning(
        "the client's own limit turned the call away: its queue is full or the wait in it too long",
        True,
        (Fate.REJECTED_BY_LIMIT,),
    ),
    _R.CIRCUIT_OPEN: ReasonMeaning(
        "the client's circuit breaker is open; nothing was sent", True, (Fate.CIRCUIT_OPEN,)
    ),
    _R.BUDGET_EXHAUSTED: ReasonMeaning("the client's retry budget is spent", True, (Fate.BUDGET_EXHAUSTED,)),
    _R.CANCELLED: ReasonMeaning("the caller cancelled the call", False, (Fate.CANCELLED,)),
    _R.CRASHED: ReasonMeaning(
        "the backend raised an exception: a bug, which the caller gets as that exception", False, (Fate.CRASHED,)
    ),
}
"""Every reason with its meaning, whether it is retryable, and the fates it can come with.

A retryable reason of the wire ends a call with `retries_exhausted`; where the policy's `retry_on` leaves it out, or
text of a stream had been handed out, with `not_retryable`."""

RETRYABLE: frozenset[FailureReason] = frozenset(reason for reason, row in REASONS.items() if row.retryable)
"""The reasons for which the same request may succeed later."""


def reasons_table() -> str:
    """Return the table of reasons as Markdown, the one that stands in the documentation."""
    lines = ["| reason | retryable | a call ends with the fate | meaning |", "| --- | --- | --- | --- |"]
    for reason, row in REASONS.items():
        fates = ", ".join(f"`{fate}`" for fate in row.fates)
        lines.append(f"| `{reason}` | {'yes' if row.retryable else 'no'} | {fates} | {row.meaning} |")
    return "\n".join(lines)
