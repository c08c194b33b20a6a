"""Ollama's native API as the simulated server speaks it: `/api/generate` and `/api/chat`.

Shapes, headers and errors are those recorded from Ollama 0.32.15 (`tests/data/ollama`). What a model alone could give
(the `context` of tokens) is left out.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING, Any, Literal

from llmlab.core.messages import LLMRequest, Message
from llmlab.core.vocabulary import FinishReason
from llmlab.wire.dialect import Asked, Body, Rejected, compact
from llmlab.wire.reading import field, parsed, role_of, stop_words

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlab.backends.visit import Phases
    from llmlab.core.backend import Answer

JSON = "application/json; charset=utf-8"
BUSY = "server busy, please try again.  maximum pending requests exceeded"
_DIED = "an error was encountered while running the model: unexpected EOF"
_NAME = re.compile(r"[\w.-]+(?:[/:][\w.-]+){0,4}", re.ASCII)
_OPTIONS = {"temperature": "float32", "num_predict": "integer", "seed": "integer"}
_DURATION = re.compile(r"[-+]?(?:\d+\.?\d*(?:ns|us|µs|ms|s|m|h))+|[-+]?0", re.ASCII)


def asked(body: bytes, endpoint: Literal["generate", "chat"], clock: Callable[[], float]) -> Asked:
    """Return what a request to an endpoint asks for.

    Raises:
        Rejected: Ollama would not accept it.
    """
    given = parsed(body)
    of = "GenerateRequest" if endpoint == "generate" else "ChatRequest"
    model = field(given, "model", str, "string", of=of, default="")
    streamed = field(given, "stream", bool, "bool", of=of, default=True)
    options = field(given, "options", dict, "map[string]interface {}", of=of, default={})
    if endpoint == "generate":
        prompt = field(given, "prompt", str, "string", of=of, default="")
        question = {"prompt": prompt, "system": field(given, "system", str, "string", of=of)}
        empty = not prompt
    else:
        turns = field(given, "messages", list, "[]api.Message", of=of, default=[])
        question = {"messages": [_message(turn) for turn in turns]}
        empty = not turns
    _check_name(model)
    _check_keep_alive(given.get("keep_alive"))
    wanted = _settings(options)
    request = LLMRequest(model=model or None, response_format=_format(given.get("format")), **question, **wanted)
    words = OllamaWords(endpoint, model, clock)
    if empty:
        words.loads = "unload" if given.get("keep_alive") in _NOW else "load"
    return Asked(request, model, streamed, words)


class OllamaWords:
    """The words of one answer of Ollama's."""

    stream_type = "application/x-ndjson"
    whole_type = JSON
    line_end = b"\n"

    def __init__(self, endpoint: Literal["generate", "chat"], model: str, clock: Callable[[], float]) -> None:
        self.loads: Literal["", "load", "unload"] = ""
        self._endpoint = endpoint
        self._model = model
        self._clock = clock

    def piece(self, text: str) -> bytes:
        """Return a line with a piece of the text."""
        return compact({**self._line(text), "done": False}) + b"\n"

    def last(self, answer: Answer, phases: Phases) -> bytes:
        """Return the last line."""
        return compact({**self._line(""), **_done(answer, phases)}) + b"\n"

    def whole(self, answer: Answer, phases: Phases, *, complete: bool = True) -> bytes:
        """Return the whole answer; without its end marker if it is not complete."""
        return compact({**self._line(answer.text), **(_done(answer, phases) if complete else {"done": False})})

    def loaded(self) -> Body:
        """Return the answer to a request without a question."""
        return Body(JSON, compact({**self._line(""), "done": True, "done_reason": self.loads}))

    def broken(self, message: str) -> bytes:
        """Return the line that reports an error in the middle of a stream."""
        del message  # the recorded words are as good as any
        return compact({"error": _DIED}) + b"\n"

    def error(self, status: int, message: str) -> Body:
        """Return the body of an error answer."""
        return error(status, message)

    def _line(self, text: str) -> dict[str, Any]:
        content = (
            {"response": text} if self._endpoint == "generate" else {"message": {"role": "assistant", "content": text}}
        )
        return {"model": self._model, "created_at": timestamp(self._clock()), **content}


def error(status: int, message: str) -> Body:
    """Return the body of an error answer."""
    return Body(JSON, compact({"error": BUSY if status == 503 else message}))


def timestamp(seconds: float) -> str:
    """Return a time since 1970 as Go writes it, to the microsecond."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond:06}".rstrip("0").rstrip(".") + "Z"


def _done(answer: Answer, phases: Phases) -> dict[str, Any]:
    reason = "length" if answer.finish_reason is FinishReason.LENGTH else "stop"
    nanoseconds = {name: round(value * 1e9) for name, value in phases._asdict().items()}
    return {
        "done": True,
        "done_reason": reason,
        "total_duration": nanoseconds["total"],
        "load_duration": nanoseconds["load"],
        "prompt_eval_count": answer.usage.input_tokens or 0,
        "prompt_eval_duration": nanoseconds["prompt"],
        "eval_count": answer.usage.output_tokens or 0,
        "eval_duration": nanoseconds["decode"],
    }


_NOW = (0, "0", "0s", "0m")


def _message(turn: object) -> Message:
    if not isinstance(turn, dict):
        raise Rejected(400, "json: cannot unmarshal into Go struct field ChatRequest.messages of type api.Message")
    content = field(turn, "content", str, "string", of="Alias", default="")
    return Message(role=role_of(turn.get("role")), content=content)


def _check_name(model: str) -> None:
    if model and not _NAME.fullmatch(model):
        raise Rejected(400, "invalid model name")


def _check_keep_alive(value: object) -> None:
    if isinstance(value, str) and not _DURATION.fullmatch(value):
        raise Rejected(400, f'time: invalid duration "{value}"')


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    for name, word in _OPTIONS.items():
        value = options.get(name)
        number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) != inf
        if value is not None and not number:
            raise Rejected(500, f'option "{name}" must be of type {word}')
    limit, temperature, seed = options.get("num_predict"), options.get("temperature"), options.get("seed")
    found = {
        "max_tokens": int(limit) if limit is not None and limit >= 1 else None,  # 0 and less are no limit
        "temperature": temperature if temperature is not None and temperature >= 0 else None,
        "stop": stop_words(options.get("stop")),
        "seed": int(seed) if seed is not None else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _format(wanted: object) -> Any:
    if wanted in (None, ""):
        return None
    if wanted == "json" or isinstance(wanted, dict):
        return wanted
    quoted = compact(wanted).decode().replace('"', '\\"')
    raise Rejected(500, f'invalid format: "{quoted}"; expected "json" or a valid JSON Schema object')
