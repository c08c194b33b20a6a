"""Ollama's native protocol without any I/O: the body that is sent, and what the lines that come back mean.

An answer is a stream of JSON objects, one a line. Each carries a piece of text; the last has `"done": true` and the
token counts. A line may be an error instead, although the status was 200. Errors become failures in
`ollama_failures.py`; what its reader shares with others is in `http_answers.py`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from llmlab.backends.http_answers import (
    LONGEST_LINE,
    AnswerReader,
    ProtocolBreach,
    ReportedError,
    finish_reason_of,
    json_object,
    whole_number,
)
from llmlab.core.backend import Answer
from llmlab.core.messages import Usage
from llmlab.core.vocabulary import FinishReason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmlab.core.messages import LLMRequest

Endpoint = Literal["generate", "chat"]

FINISH_REASONS = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}
"""All other words are `other`; so are `load` and `unload`, the answers to a request without a prompt."""


def request_body(
    request: LLMRequest,
    *,
    endpoint: Endpoint,
    model: str,
    options: Mapping[str, Any],
    keep_alive: str | float | None,
) -> bytes:
    """Return the body to post to `/api/generate` or `/api/chat`.

    What the request says wins over the same option of the backend.
    """
    given = {
        "num_predict": request.max_tokens,
        "temperature": request.temperature,
        "stop": request.stop,
        "seed": request.seed,
    }
    body: dict[str, Any] = {
        "model": model,
        "stream": True,
        # Else Ollama drops the beginning of a prompt that is too long, and answers what is left without a word.
        "truncate": False,
        "options": {**options, **{name: value for name, value in given.items() if value is not None}},
    }
    if endpoint == "chat":
        body["messages"] = request.conversation()
    else:
        body["prompt"] = request.prompt or ""
        if request.system is not None:
            body["system"] = request.system
    wanted = request.json_schema()
    if wanted is not None:
        body["format"] = wanted
    if keep_alive is not None:
        body["keep_alive"] = keep_alive
    return json.dumps(body, separators=(",", ":"), allow_nan=False).encode("ascii")


def load_body(*, model: str, options: Mapping[str, Any], keep_alive: str | float | None) -> bytes:
    """Return the body that makes `/api/generate` load a model and write nothing: it has no prompt."""
    body: dict[str, Any] = {"model": model, "prompt": "", "stream": False, "options": dict(options)}
    if keep_alive is not None:
        body["keep_alive"] = keep_alive
    return json.dumps(body, separators=(",", ":"), allow_nan=False).encode("ascii")


class LineReader(AnswerReader):
    """Reads an answer line by line.

    Attributes:
        last: the line with `"done": true`; `None` while the answer is not complete.
    """

    __slots__ = ("_line_parts", "_line_size", "_lines", "last")

    def __init__(self) -> None:
        super().__init__()
        self.last: dict[str, Any] | None = None
        self._lines = 0
        self._line_parts: list[bytes] = []
        self._line_size = 0

    def feed(self, data: bytes) -> None:
        """Take in what arrived.

        Raises:
            ProtocolBreach: it is no Ollama answer, or too large to be one.
            ReportedError: the server reports an error.
        """
        *ends, rest = data.split(b"\n")
        for end in ends:
            self._keep(end)
            self._read_line()
        if rest:
            self._keep(rest)

    def finish(self) -> None:
        """Take in the end of the body; the last line needs no line end.

        Raises:
            ProtocolBreach: the answer is not complete.
            ReportedError: the server reports an error.
        """
        self._read_line()
        if self.last is None:
            raise ProtocolBreach(f'the stream ended after {_count(self._lines)} without "done": true')

    def answer(self, *, model: str, time_to_first_token: float | None) -> Answer:
        """Return the complete answer; `model` is the name to give where the server gave none."""
        last = self.last or {}
        named = last.get("model")
        return Answer(
            text=self.text,
            model=named if isinstance(named, str) and named else model,
            usage=Usage(whole_number(last.get("prompt_eval_count")), whole_number(last.get("eval_count"))),
            finish_reason=finish_reason_of(last.get("done_reason"), FINISH_REASONS),
            time_to_first_token=time_to_first_token,
        )

    def _keep(self, part: bytes) -> None:
        self._line_size += len(part)
        if self._line_size > LONGEST_LINE:
            raise ProtocolBreach(f"a line is longer than {LONGEST_LINE} bytes")
        self._line_parts.append(part)

    def _read_line(self) -> None:
        line = b"".join(self._line_parts)
        self._line_parts, self._line_size = [], 0
        if self.is_complete or not line.strip():
            return
        self._lines += 1
        value = json_object(line, self._this_line())
        error = value.get("error")
        if error:
            raise ReportedError(error)
        done = value.get("done", False)
        if not isinstance(done, bool):
            raise self._breach('has a "done" that is neither true nor false')
        self._take_text(value, done=done)
        if done:
            self.last = value
            self.is_complete = True

    def _take_text(self, value: dict[str, Any], *, done: bool) -> None:
        """Keep the line's text: `response` from generate, `message.content` from chat."""
        holder, name = (value["message"], "content") if "message" in value else (value, "response")
        if not isinstance(holder, dict):
            raise self._breach('has a "message" that is not an object')
        piece = holder.get(name, "" if done or holder is not value else None)
        if not isinstance(piece, str):
            raise self._breach(f'has no text in "{name}"')
        if piece:
            self.take(piece, self._this_line())
        else:
            self.has_token = self.has_token or bool(holder.get("thinking"))

    def _this_line(self) -> str:
        return f"line {self._lines} of the answer"

    def _breach(self, what: str) -> ProtocolBreach:
        return ProtocolBreach(f"{self._this_line()} {what}")


def _count(lines: int) -> str:
    return "1 line" if lines == 1 else f"{lines} lines"
