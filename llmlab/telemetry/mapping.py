"""What becomes of each field of an event in OpenTelemetry: the one table, from which spans and documentation are made.

Names are those of the semantic conventions for generative AI (repository `open-telemetry/semantic-conventions-genai`,
status "development", read in November 2026) and for HTTP wherever they have one; everything else is `llmlab.` and the
field's own name, times in seconds. A call is the operation that the conventions speak of, so its span alone has
`gen_ai.operation.name` and `gen_ai.usage.*`: tools that add up the tokens of spans would else count an answer twice.
Prompts and answers cannot get in, since events do not hold them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from llmlab.core.events import AttemptEvent, CallEvent

AttributeValue = str | bool | int | float | tuple[str, ...]

_FINISH_REASONS = "gen_ai.response.finish_reasons"


class Mapped(NamedTuple):
    """What becomes of one field: the span's attribute ("" for none), and what else, or why it is left out.

    `nothing` is the value that means that there is none, beside `None` and NaN.
    """

    field: str
    attribute: str
    remark: str = ""
    nothing: object = None


CALL_MAPPING: tuple[Mapped, ...] = (
    Mapped("layer", "llmlab.layer"),
    Mapped("call", "llmlab.call"),
    Mapped("parent_call", "llmlab.parent_call", "the span's parent is that attempt's span", -1),
    Mapped("parent_attempt", "llmlab.parent_attempt", "the span's parent is that attempt's span", 0),
    Mapped("arrived_at_s", "", "`llmlab.late_start_s`: how much later than it was meant to the call started"),
    Mapped("started_at_s", "", "the span's start"),
    Mapped("ended_at_s", "", "the span's end; with its start `gen_ai.client.operation.duration`"),
    Mapped("fate", "llmlab.fate"),
    Mapped("reason", "error.type", "the span's status is then `ERROR`, except for `cancelled`"),
    Mapped("last_reason", "llmlab.last_reason"),
    Mapped("attempts", "llmlab.attempts"),
    Mapped("slot_wait_s", "llmlab.slot_wait_s"),
    Mapped("rate_wait_s", "llmlab.rate_wait_s"),
    Mapped("server_s", "llmlab.server_s"),
    Mapped("backoff_s", "llmlab.backoff_s"),
    Mapped(
        "time_to_first_token_s",
        "",
        "`gen_ai.response.time_to_first_chunk` and `gen_ai.client.operation.time_to_first_chunk`, which count from the "
        "span's start",
    ),
    Mapped("input_tokens", "gen_ai.usage.input_tokens"),
    Mapped("output_tokens", "gen_ai.usage.output_tokens"),
    Mapped("finish_reason", _FINISH_REASONS, "a list of one"),
)
"""For every field of a `CallEvent`, in order."""
_TOKENS_REMARK = (
    "`gen_ai.client.token.usage`, also where the attempt failed; `gen_ai.usage.{kind}_tokens` stands at the call's span"
)

ATTEMPT_MAPPING: tuple[Mapped, ...] = (
    Mapped("layer", "llmlab.layer"),
    Mapped("call", "llmlab.call"),
    Mapped("attempt", "llmlab.attempt", "from the second on `http.request.resend_count`, which is one less"),
    Mapped("backend", "gen_ai.provider.name", "the call's span has that of its last attempt"),
    Mapped("hedge", "llmlab.hedge"),
    Mapped("queued_at_s", "", "left out: the span's start less the two waits"),
    Mapped("slot_wait_s", "llmlab.slot_wait_s"),
    Mapped("rate_wait_s", "llmlab.rate_wait_s"),
    Mapped("started_at_s", "", "the span's start"),
    Mapped("ended_at_s", "", "the span's end; with its start `llmlab.client.attempt.duration`"),
    Mapped("time_to_first_token_s", "llmlab.time_to_first_token_s"),
    Mapped("reason", "error.type", "the span's status is then `ERROR`, except for `cancelled`"),
    Mapped("status_code", "http.response.status_code", "", 0),
    Mapped("retry_after_s", "llmlab.retry_after_s"),
    Mapped("input_tokens", "llmlab.input_tokens", _TOKENS_REMARK.format(kind="input")),
    Mapped("output_tokens", "llmlab.output_tokens", _TOKENS_REMARK.format(kind="output")),
    Mapped("finish_reason", "llmlab.finish_reason", "`gen_ai.response.finish_reasons` stands at the call's span"),
    Mapped("backoff_s", "llmlab.backoff_s"),
    Mapped("backoff_source", "llmlab.backoff_source"),
)
"""For every field of an `AttemptEvent`, in order."""


class Metric(NamedTuple):
    """A histogram: its name, unit, meaning, and the bounds of its buckets as the conventions recommend them."""

    name: str
    unit: str
    meaning: str
    bounds: tuple[float, ...]


_SECONDS = tuple(0.01 * 2**power for power in range(14))
_TOKENS = tuple(4**power for power in range(14))

OPERATION_DURATION = Metric("gen_ai.client.operation.duration", "s", "GenAI operation duration.", _SECONDS)
TIME_TO_FIRST_CHUNK = Metric(
    "gen_ai.client.operation.time_to_first_chunk",
    "s",
    "Time to receive the first chunk, measured from when the client issues the generation request to when the first "
    "chunk is received in the response stream.",
    _SECONDS,
)
TOKEN_USAGE = Metric("gen_ai.client.token.usage", "{token}", "Number of input and output tokens used.", _TOKENS)
ATTEMPT_DURATION = Metric("llmlab.client.attempt.duration", "s", "Duration of one attempt of a call.", _SECONDS)
METRICS: tuple[Metric, ...] = (OPERATION_DURATION, TIME_TO_FIRST_CHUNK, TOKEN_USAGE, ATTEMPT_DURATION)
"""Of stacked clients calls are counted of the outermost, attempts and tokens of the innermost: nothing counts twice."""

_WHOLE = frozenset({"input_tokens", "output_tokens"})
"""Numbers that events hold as floats, because they may be NaN, and OpenTelemetry as whole numbers."""


def attributes(event: AttemptEvent | CallEvent, mapping: tuple[Mapped, ...]) -> dict[str, AttributeValue]:
    """Return the attributes of an event's span; what there is none of is left out."""
    found: dict[str, AttributeValue] = {}
    for (field, attribute, _, nothing), value in zip(mapping, event, strict=True):
        if attribute and value is not None and value == value and value != nothing:  # noqa: PLR0124 - NaN
            found[attribute] = _as_attribute(field, attribute, value)
    return found


def _as_attribute(field: str, attribute: str, value: Any) -> AttributeValue:
    if field in _WHOLE:
        return int(value)
    if isinstance(value, str):  # also a word of a vocabulary, which is to be a plain text
        return (str(value),) if attribute == _FINISH_REASONS else str(value)
    kept: AttributeValue = value
    return kept


def mapping_table() -> str:
    """Return the mapping as a Markdown table, the one that stands in the documentation."""
    lines = ["| field | of | attribute of its span | remark |", "| --- | --- | --- | --- |"]
    for of, mapping in (("call", CALL_MAPPING), ("attempt", ATTEMPT_MAPPING)):
        for field, attribute, remark, _ in mapping:
            lines.append(f"| `{field}` | {of} | {f'`{attribute}`' if attribute else ''} | {remark} |")
    return "\n".join(lines)
