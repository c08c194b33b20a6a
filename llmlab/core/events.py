"""Every attempt and every call as one event, and the catalogue of their columns.

Two grains: an `AttemptEvent` says what happened on the wire, a `CallEvent` what the caller saw. Counts conserve: a
call has as many attempt events as `attempts` says; calls = answered + failed + cancelled + crashed. Along a call's
critical path `slot_wait_s + rate_wait_s + server_s + backoff_s` add up to `ended_at_s - started_at_s` (hedged attempts
overlap, and say so).

Events are named tuples, because one is made for every attempt of a simulation: 0.3 microseconds instead of 8 for a
pydantic model. They hold no prompt and no output. `ATTEMPT_COLUMNS` and `CALL_COLUMNS` declare each field's type, unit,
meaning and OpenTelemetry name as data; frames, Parquet files and the documentation are made from them.
Times are seconds on the event loop's clock. Look next at `event_log.py` and `observers.py`, which receive events.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol

from llmlab.core.vocabulary import BackoffSource, FailureReason, Fate, FinishReason

NAN = float("nan")


class AttemptEvent(NamedTuple):
    """One attempt, as `ATTEMPT_COLUMNS` declares it; NaN and `None` mean that there was no such thing."""

    layer: str
    call: int
    attempt: int
    backend: str
    hedge: bool
    queued_at_s: float
    slot_wait_s: float
    rate_wait_s: float
    started_at_s: float
    ended_at_s: float
    time_to_first_token_s: float
    reason: FailureReason | None
    status_code: int
    retry_after_s: float
    input_tokens: float
    output_tokens: float
    finish_reason: FinishReason | None
    backoff_s: float
    backoff_source: BackoffSource | None


class CallEvent(NamedTuple):
    """One call, as `CALL_COLUMNS` declares it; NaN and `None` mean that there was no such thing."""

    layer: str
    call: int
    parent_call: int
    parent_attempt: int
    arrived_at_s: float
    started_at_s: float
    ended_at_s: float
    fate: Fate
    reason: FailureReason | None
    last_reason: FailureReason | None
    attempts: int
    slot_wait_s: float
    rate_wait_s: float
    server_s: float
    backoff_s: float
    time_to_first_token_s: float
    input_tokens: float
    output_tokens: float
    finish_reason: FinishReason | None


class Observer(Protocol):
    """Anything that receives events, on the thread of the event loop that the call runs on.

    What it raises breaks no call; it is reported once, on the logger `llmlab`.
    """

    def on_attempt(self, event: AttemptEvent) -> None:
        """Receive one attempt, at its end."""
        ...

    def on_call(self, event: CallEvent) -> None:
        """Receive one call, at its end, after its attempts."""
        ...


class Column(NamedTuple):
    """One column: its name, type, unit, meaning, and its name in OpenTelemetry's conventions where there is one.

    `kind` is `float` (64 bits, NaN for nothing), `int` (64 bits), `bool`, or `word` (a text from a small vocabulary,
    `None` for nothing; where it is closed `words` lists it, as members of its enumeration if it has one). `over` says
    over which rows a metric is taken; a column of events has nothing there.
    """

    name: str
    kind: Literal["float", "int", "bool", "word"]
    unit: str
    meaning: str
    otel: str = ""
    words: tuple[str, ...] = ()
    over: str = ""


_REASONS, _FATES, _FINISH = tuple(FailureReason), tuple(Fate), tuple(FinishReason)
_LAYER = Column("layer", "word", "", "which client, where clients are stacked")
_CALL = Column("call", "int", "", "number of the call in its layer, from 0")
_INPUT = Column(
    "input_tokens", "float", "tokens", "tokens read, as the server counted them", "gen_ai.usage.input_tokens"
)
_OUTPUT = Column(
    "output_tokens", "float", "tokens", "tokens written, as the server counted them", "gen_ai.usage.output_tokens"
)
_FINISH_REASON = Column(
    "finish_reason", "word", "", "why the model stopped writing", "gen_ai.response.finish_reasons", _FINISH
)

ATTEMPT_COLUMNS: tuple[Column, ...] = (
    _LAYER,
    _CALL,
    Column("attempt", "int", "", "number of the attempt in its call, from 1"),
    Column("backend", "word", "", "what the attempt was sent to", "gen_ai.provider.name"),
    Column("hedge", "bool", "", "whether it ran beside an earlier attempt of the same call that was still open"),
    Column("queued_at_s", "float", "s", "when it began to wait for a slot"),
    Column("slot_wait_s", "float", "s", "wait for a slot of the concurrency limit"),
    Column("rate_wait_s", "float", "s", "wait for the rate limit, holding the slot"),
    Column("started_at_s", "float", "s", "when it was handed to the backend"),
    Column("ended_at_s", "float", "s", "when the backend had answered or failed, or the attempt was given up"),
    Column("time_to_first_token_s", "float", "s", "from its start to the first token"),
    Column("reason", "word", "", "why it failed; nothing if it was answered", "error.type", _REASONS),
    Column("status_code", "int", "", "HTTP status; 0 where there was none", "http.response.status_code"),
    Column("retry_after_s", "float", "s", "wait that the server asked for"),
    _INPUT,
    _OUTPUT,
    _FINISH_REASON,
    Column("backoff_s", "float", "s", "wait chosen before the next attempt; nothing after the last"),
    Column(
        "backoff_source",
        "word",
        "",
        "what chose that wait: the policy's backoff, or the server's Retry-After",
        words=tuple(BackoffSource),
    ),
)
"""The columns of the attempts, in the order of `AttemptEvent`."""

CALL_COLUMNS: tuple[Column, ...] = (
    _LAYER,
    _CALL,
    Column("parent_call", "int", "", "call of the outer client that made this one; -1 where there is none"),
    Column("parent_attempt", "int", "", "attempt of the outer client that made this call; 0 where there is none"),
    Column(
        "arrived_at_s",
        "float",
        "s",
        "when it was meant to start (an open workload's schedule); latency counts from here",
    ),
    Column("started_at_s", "float", "s", "when the client was called"),
    Column("ended_at_s", "float", "s", "when the client returned"),
    Column("fate", "word", "", "how it ended", words=_FATES),
    Column("reason", "word", "", "what ended it; nothing if it was answered", "error.type", _REASONS),
    Column("last_reason", "word", "", "why the last attempt failed; nothing if it was answered", words=_REASONS),
    Column("attempts", "int", "", "attempts made, hedges included"),
    Column("slot_wait_s", "float", "s", "all waits for a slot"),
    Column("rate_wait_s", "float", "s", "all waits for the rate limit"),
    Column("server_s", "float", "s", "time in attempts, along the critical path"),
    Column("backoff_s", "float", "s", "time spent in backoff"),
    Column(
        "time_to_first_token_s",
        "float",
        "s",
        "from `arrived_at_s` to the first token of the answer",
        "gen_ai.client.operation.time_to_first_chunk",
    ),
    _INPUT,
    _OUTPUT,
    _FINISH_REASON,
)
"""The columns of the calls, in the order of `CallEvent`. Tokens are those of the answering attempt."""

VOCABULARIES: dict[str, dict[str, Any]] = {
    column.name: {word: word for word in column.words} for column in (*ATTEMPT_COLUMNS, *CALL_COLUMNS) if column.words
}
"""For each column whose words are of an enumeration, its members by their texts."""


def columns_table(columns: tuple[Column, ...]) -> str:
    """Return the catalogue as a Markdown table, the one that stands in the documentation."""
    lines = ["| column | unit | meaning | OpenTelemetry |", "| --- | --- | --- | --- |"]
    lines += [f"| `{c.name}` | {c.unit} | {c.meaning} | {f'`{c.otel}`' if c.otel else ''} |" for c in columns]
    return "\n".join(lines)
