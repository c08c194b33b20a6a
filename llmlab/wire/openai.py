"""OpenAI's chat completions as the simulated server speaks them: `/v1/chat/completions`.

Shapes and headers are those recorded from Ollama's `/v1`; an error inside a stream, a content filter and the rest that
Ollama does not have are as OpenAI documents them.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any, Literal

from llmlab.core.messages import LLMRequest, Message
from llmlab.core.vocabulary import FinishReason
from llmlab.wire.dialect import Asked, Body, Rejected, compact
from llmlab.wire.ollama import BUSY
from llmlab.wire.reading import field, parsed, role_of, stop_words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmlab.backends.server_limits import Standing
    from llmlab.backends.visit import Phases
    from llmlab.core.backend import Answer

JSON = "application/json"
_REQUEST = "ChatCompletionRequest"
_ROLES = {"developer": "system", "function": "tool"}
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def asked(body: bytes, number: int, clock: Callable[[], float]) -> Asked:
    """Return what a request for a chat completion asks for; `number` goes into the answer's id.

    Raises:
        Rejected: the server would not accept it.
    """
    given = parsed(body)
    model = field(given, "model", str, "string", of=_REQUEST, default="")
    streamed = field(given, "stream", bool, "bool", of=_REQUEST, default=False)
    turns = field(given, "messages", list, "[]openai.Message", of=_REQUEST, default=[])
    if not turns:
        raise Rejected(400, "[] is too short - 'messages'")
    limit = given.get("max_completion_tokens") or given.get("max_tokens")
    temperature = field(given, "temperature", int | float, "float64", of=_REQUEST)
    seed = field(given, "seed", int, "int", of=_REQUEST)
    request = LLMRequest(
        messages=[_message(turn) for turn in turns],
        model=model or None,
        max_tokens=limit if isinstance(limit, int) and limit >= 1 else None,
        temperature=temperature if temperature is not None and temperature >= 0 else None,
        stop=stop_words(given.get("stop")),
        response_format=_format(given.get("response_format")),
        seed=seed,
    )
    options = field(given, "stream_options", dict, "openai.StreamOptions", of=_REQUEST, default={})
    words = OpenAIWords(model, number, clock, include_usage=bool(options.get("include_usage")))
    return Asked(request, model, streamed, words)


class OpenAIWords:
    """The words of one chat completion."""

    loads: Literal["", "load", "unload"] = ""
    stream_type = "text/event-stream"
    whole_type = JSON
    line_end = b"\n\n"

    def __init__(self, model: str, number: int, clock: Callable[[], float], *, include_usage: bool) -> None:
        self._common = {
            "id": f"chatcmpl-{number}",
            "object": "chat.completion.chunk",
            "created": int(clock()),
            "model": model,
            "system_fingerprint": "fp_llmlab",
        }
        self._include_usage = include_usage
        self._begun = False

    def piece(self, text: str) -> bytes:
        """Return an event with a piece of the text; the first one says whose text it is."""
        delta = {"content": text} if self._begun else {"role": "assistant", "content": text}
        self._begun = True
        return _event({**self._common, "choices": [_choice(delta=delta)]})

    def last(self, answer: Answer, phases: Phases) -> bytes:
        """Return the last events: why the text ends, the tokens if they were asked for, and `[DONE]`."""
        del phases
        end = _event({**self._common, "choices": [_choice(delta={}, finish_reason=_finish(answer))]})
        usage = _event({**self._common, "choices": [], "usage": _usage(answer)}) if self._include_usage else b""
        return end + usage + b"data: [DONE]\n\n"

    def whole(self, answer: Answer, phases: Phases, *, complete: bool = True) -> bytes:
        """Return the whole answer; without its end marker (why the text ends) if it is not complete."""
        del phases
        message = {"role": "assistant", "content": answer.text}
        choice = _choice(message=message, finish_reason=_finish(answer) if complete else None)
        usage = {"usage": _usage(answer)} if complete else {}
        return compact({**self._common, "object": "chat.completion", "choices": [choice], **usage}) + b"\n"

    def loaded(self) -> Body:
        """Return nothing: chat completions always have something to answer."""
        return Body(JSON, b"")

    def broken(self, message: str) -> bytes:
        """Return the event that reports an error in the middle of a stream."""
        return _event(_error(500, message))

    def error(self, status: int, message: str) -> Body:
        """Return the body of an error answer."""
        return error(status, message)


def limit_headers(limits: Mapping[str, Standing]) -> tuple[tuple[str, str], ...]:
    """Return the headers that say how the rate limits stand, as OpenAI sends them with every answer."""
    return tuple(
        (f"x-ratelimit-{what}-{name}", value)
        for name, standing in limits.items()
        for what, value in (
            ("limit", str(round(standing.limit))),
            ("remaining", str(int(standing.remaining))),
            ("reset", f"{ceil(standing.reset * 1000) / 1000:g}s"),
        )
    )


def error(status: int, message: str) -> Body:
    """Return the body of an error answer."""
    return Body(JSON, compact(_error(status, message)) + b"\n")


def _error(status: int, message: str) -> dict[str, Any]:
    kind = _ERROR_TYPES.get(status, "api_error")
    code = "rate_limit_exceeded" if status == 429 else None
    said = BUSY if status == 503 else message
    return {"error": {"message": said, "type": kind, "param": None, "code": code}}


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + compact(value) + b"\n\n"


def _choice(*, finish_reason: str | None = None, **content: Any) -> dict[str, Any]:
    return {"index": 0, **content, "finish_reason": finish_reason}


def _finish(answer: Answer) -> str:
    return "stop" if answer.finish_reason is FinishReason.OTHER else str(answer.finish_reason)


def _usage(answer: Answer) -> dict[str, int]:
    read, written = (count or 0 for count in answer.usage)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _message(turn: object) -> Message:
    if not isinstance(turn, dict):
        raise Rejected(400, "json: cannot unmarshal into Go struct field ChatCompletionRequest.messages")
    role = str(turn.get("role"))
    role = _ROLES.get(role, role)
    content = turn.get("content")
    if isinstance(content, list):  # parts: the texts among them
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return Message(role=role_of(role), content=content if isinstance(content, str) else "")


def _format(wanted: object) -> Any:
    if not isinstance(wanted, dict):
        return None
    if wanted.get("type") == "json_schema":
        named = wanted.get("json_schema")
        schema = named.get("schema") if isinstance(named, dict) else None
        return schema if isinstance(schema, dict) else "json"
    return "json" if wanted.get("type") == "json_object" else None
