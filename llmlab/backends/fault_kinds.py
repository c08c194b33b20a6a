"""Every word for what can go wrong with one attempt, and what a client meets of it: `FAULTS` is the one table.

The simulated server, `WithFaults` and whatever speaks HTTP with faults in it use these words and no others. How
probable each is says `faults.py`, when it happens `fault_schedule.py`, what it does to an answer `fault_effects.py`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal, NamedTuple

from llmlab.core.settings import nearest
from llmlab.core.vocabulary import FailureReason


class FaultKind(StrEnum):
    """What goes wrong; the order is the one in which the draw is divided up, so new kinds come last."""

    TIMEOUT = "timeout"
    CONNECTION_ERROR = "connection_error"
    RATE_LIMIT = "rate_limit"
    OVERLOAD = "overload"
    SERVER_ERROR = "server_error"
    EMPTY = "empty"
    MALFORMED = "malformed"
    TRUNCATED = "truncated"
    CONNECT_STALL = "connect_stall"
    BAD_GATEWAY = "bad_gateway"
    GATEWAY_TIMEOUT = "gateway_timeout"
    ERROR_IN_STREAM = "error_in_stream"
    STALL = "stall"
    SLOW_DRIP = "slow_drip"
    CUT = "cut"
    NO_END_MARKER = "no_end_marker"
    INVALID_JSON = "invalid_json"
    WRONG_SCHEMA = "wrong_schema"
    REFUSAL = "refusal"
    RESET = "reset"
    WRONG_CONTENT_TYPE = "wrong_content_type"
    INVALID_UTF8 = "invalid_utf8"
    MALFORMED_CHUNK = "malformed_chunk"
    HUGE_LINE = "huge_line"


Place = Literal["connection", "refusal", "stream", "text"]
"""Where a fault acts: no answer comes about (`connection`: the server is not reached or says nothing; `refusal`: it
sends a status instead), or one does and is spoilt on the way (`stream`) or in itself (`text`)."""


class FaultMeaning(NamedTuple):
    """One row of the table.

    Attributes:
        meaning: what happens on the wire.
        place: where it acts.
        reason: what the client meets; with `otherwise`, only sometimes.
        status_code: the HTTP status of a refusal, else `None`.
        otherwise: when the client meets something else, and what; "" where it never does.
    """

    meaning: str
    place: Place
    reason: FailureReason
    status_code: int | None = None
    otherwise: str = ""


_K, _R = FaultKind, FailureReason
_JSON_ONLY = "answered where the request has no response_format that could tell"

FAULTS: dict[FaultKind, FaultMeaning] = {
    _K.TIMEOUT: FaultMeaning("the connection stands, and no answer ever comes", "connection", _R.ATTEMPT_TIMEOUT),
    _K.CONNECTION_ERROR: FaultMeaning("the connection is refused", "connection", _R.CONNECTION_FAILED),
    _K.RATE_LIMIT: FaultMeaning("429 Too Many Requests", "refusal", _R.RATE_LIMITED, 429),
    _K.OVERLOAD: FaultMeaning("503 Service Unavailable", "refusal", _R.OVERLOADED, 503),
    _K.SERVER_ERROR: FaultMeaning("500 Internal Server Error", "refusal", _R.SERVER_ERROR, 500),
    _K.EMPTY: FaultMeaning("an answer without text", "text", _R.EMPTY_OUTPUT),
    _K.MALFORMED: FaultMeaning(
        "a text that is not what was asked for (no valid JSON where JSON was)", "text", _R.MALFORMED_OUTPUT
    ),
    _K.TRUNCATED: FaultMeaning(
        "a text cut off in the middle, finish reason `length`", "text", _R.TRUNCATED_OUTPUT, otherwise=_JSON_ONLY
    ),
    _K.CONNECT_STALL: FaultMeaning(
        "the connection neither stands nor is refused, until `timeouts.connect` is over",
        "connection",
        _R.CONNECTION_FAILED,
        otherwise="`attempt_timeout` where `timeouts.connect` is None or longer than the attempt may take",
    ),
    _K.BAD_GATEWAY: FaultMeaning("502 Bad Gateway", "refusal", _R.SERVER_ERROR, 502),
    _K.GATEWAY_TIMEOUT: FaultMeaning("504 Gateway Timeout", "refusal", _R.SERVER_ERROR, 504),
    _K.ERROR_IN_STREAM: FaultMeaning("200, and half-way an error instead of the rest", "stream", _R.SERVER_ERROR, 200),
    _K.STALL: FaultMeaning("200, the first token, and then nothing", "stream", _R.ATTEMPT_TIMEOUT),
    _K.SLOW_DRIP: FaultMeaning(
        "200, and everything after the first token `slow_drip_factor` times as slow",
        "stream",
        _R.ATTEMPT_TIMEOUT,
        otherwise="answered, late, where the client's timeouts let it",
    ),
    _K.CUT: FaultMeaning("200, and half-way the connection is cut", "stream", _R.CONNECTION_LOST),
    _K.NO_END_MARKER: FaultMeaning(
        "200, and the stream ends properly, but without its end marker", "stream", _R.MALFORMED_RESPONSE, 200
    ),
    _K.INVALID_JSON: FaultMeaning(
        "JSON as models write it unasked: in a code fence, with words around it",
        "text",
        _R.MALFORMED_OUTPUT,
        otherwise=_JSON_ONLY,
    ),
    _K.WRONG_SCHEMA: FaultMeaning(
        "valid JSON of another shape than was asked for", "text", _R.MALFORMED_OUTPUT, otherwise=_JSON_ONLY
    ),
    _K.REFUSAL: FaultMeaning("a content filter withholds the text", "text", _R.REFUSED),
    _K.RESET: FaultMeaning("the connection is reset instead of an answer", "connection", _R.CONNECTION_LOST),
    _K.WRONG_CONTENT_TYPE: FaultMeaning(
        "200, and a web page instead of the answer", "stream", _R.MALFORMED_RESPONSE, 200
    ),
    _K.INVALID_UTF8: FaultMeaning("200, and half-way bytes that are not UTF-8", "stream", _R.MALFORMED_RESPONSE, 200),
    _K.MALFORMED_CHUNK: FaultMeaning(
        "200, and half-way a piece that is not JSON", "stream", _R.MALFORMED_RESPONSE, 200
    ),
    _K.HUGE_LINE: FaultMeaning("200, and half-way a line of over 16 MiB", "stream", _R.MALFORMED_RESPONSE, 200),
}
"""Every kind with its meaning and what a client meets."""

FAULT_SHORTHANDS: dict[str, str] = {f"{kind}_probability": str(kind) for kind in FaultKind}
"""`timeout_probability` and its like: how backends take the probabilities as plain settings."""

SPOILS_THE_ANSWER = frozenset(kind for kind, row in FAULTS.items() if row.place in {"stream", "text"})
"""Faults of an answer that is given; the others keep it from being given at all. Membership only: it has no order."""


def fault_kind(value: Any) -> Any:
    """Return the kind that a text names; a wrong name is answered with the nearest one.

    Raises:
        ValueError: there is no such kind.
    """
    if isinstance(value, str) and value not in FAULTS:
        raise ValueError(f"'{value}' is no kind of fault; {nearest(value, FaultKind)}")
    return value


def faults_table() -> str:
    """Return the table of faults as Markdown, the one that stands in the documentation."""
    lines = ["| fault | what happens | the client meets | otherwise |", "| --- | --- | --- | --- |"]
    for kind, row in FAULTS.items():
        lines.append(f"| `{kind}` | {row.meaning} | `{row.reason}` | {row.otherwise} |")
    return "\n".join(lines)
