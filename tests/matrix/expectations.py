"""What each fault of the fault server means to a client: the expectations, and their table for the documentation."""

from typing import NamedTuple

from llmlab.backends.faults import FAULTS, FaultKind
from llmlab.core.vocabulary import REASONS, FailureReason

CLIENTS = ("LocalLLM", "OpenAILLM")
RETRIES = 2

_K, _R = FaultKind, FailureReason
HANGS = frozenset({_K.TIMEOUT, _K.CONNECT_STALL, _K.STALL, _K.SLOW_DRIP})
"""Faults that only the client's own bounds end."""
AFTER_TEXT = frozenset(
    {
        _K.STALL,
        _K.SLOW_DRIP,
        _K.CUT,
        _K.ERROR_IN_STREAM,
        _K.NO_END_MARKER,
        _K.INVALID_UTF8,
        _K.MALFORMED_CHUNK,
        _K.HUGE_LINE,
        _K.MALFORMED,
        _K.TRUNCATED,
        _K.INVALID_JSON,
        _K.WRONG_SCHEMA,
    }
)
"""Faults that come when text of the answer has been handed out: a stream ends with them, without another attempt."""
OTHERWISE = {
    # A port that is open accepts: what its owner does not answer is no failed connection to a client.
    _K.CONNECTION_ERROR: (_R.CONNECTION_LOST, "a single one is a reset: the port is open"),
    _K.CONNECT_STALL: (_R.ATTEMPT_TIMEOUT, "the port is open, so the connection stands"),
}
OLLAMA_REFUSAL = (_R.EMPTY_OUTPUT, "Ollama has no word for a content filter")


class Expected(NamedTuple):
    """What a client meets of a fault, and why that differs from the table of faults, if it does."""

    reason: FailureReason
    note: str = ""

    @property
    def retryable(self) -> bool:
        return REASONS[self.reason].retryable

    def attempts(self, retries: int, *, text_was_handed_out: bool) -> int:
        return 1 + retries if self.retryable and not text_was_handed_out else 1


def expected(kind: FaultKind, client: str) -> Expected:
    """Return what a client is to meet of a fault, where the request asks for JSON of a schema."""
    if kind is _K.REFUSAL and client == "LocalLLM":
        return Expected(*OLLAMA_REFUSAL)
    return Expected(*OTHERWISE.get(kind, (FAULTS[kind].reason,)))


def matrix() -> str:
    """Return the table, one row for each fault, two where the clients differ."""
    lines = [
        "| fault | client | it meets | retryable | attempts | attempts of a stream | |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for kind in FaultKind:
        both = [expected(kind, client) for client in CLIENTS]
        rows = [("both", both[0])] if both[0] == both[1] else list(zip(CLIENTS, both, strict=True))
        for client, meets in rows:
            attempts = meets.attempts(RETRIES, text_was_handed_out=False)
            streamed = meets.attempts(RETRIES, text_was_handed_out=kind in AFTER_TEXT)
            again = "yes" if meets.retryable else "no"
            lines.append(
                f"| `{kind}` | {client} | `{meets.reason}` | {again} | {attempts} | {streamed} | {meets.note} |"
            )
    return "\n".join(lines)


def page() -> str:
    """Return the page of the documentation."""
    return f"""# The fault matrix

What `LocalLLM` and `OpenAILLM` meet of each fault of the fault server, over a real socket on this machine, when every
attempt is befallen by it and the request asks for JSON of a schema. The attempts are those of a client with
`max_retries={RETRIES}`; with `max_retries=0` there is one. The sync and the async clients meet the same. Once text of a
stream was handed out there is no other attempt. Afterwards no connection, timer, task or thread is left.

Without a `response_format` the texts of `malformed`, `truncated`, `invalid_json` and `wrong_schema` pass for answers,
and a `slow_drip` is one that comes late, where `timeouts` and `attempt_timeout` let it.

{matrix()}

`tests/matrix` holds the clients to this table; `python -m tests.matrix` prints it.
"""
