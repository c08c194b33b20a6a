"""Ollama's native protocol without any I/O: the body that is sent, and what the lines that come back mean.

An answer is a stream of JSON objects, one a line. Each carries a piece of text; the last has `"done": true` and the
token counts. A line may be an error instead, although the status was 200. The reader is strict, for a stream that
merely ends is no answer, and bounded, for the other side may send anything. Errors become failures in
`ollama_failures.py`.
"""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Any, Literal

from llmlab.core.backend import Answer
from llmlab.core.messages import Usage
from llmlab.core.vocabulary import FinishReason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmlab.core.messages import LLMRequest

Endpoint = Literal["generate", "chat"]

LONGEST_LINE = 16 * 1024 * 1024
"""Bytes. The longest honest line is the last one, which holds a number of up to seven digits for every token."""
LONGEST_ANSWER = 64 * 1024 * 1024
"""Characters of text in one answer."""

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


class ProtocolBreach(Exception):
    """The bytes are no Ollama answer. The message says why and quotes none of them."""


class ErrorLine(Exception):
    """The server reports an error in the middle of its stream; `error` is what the line's `error` holds."""

    def __init__(self, error: object) -> None:
        super().__init__("an error line")
        self.error = error


class AnswerReader:
    """Turns the bytes of an answer into pieces of text, whatever their cuts.

    Attributes:
        pieces: the pieces not yet taken; also those that came before a `ProtocolBreach` or an `ErrorLine`.
        has_token: whether the model wrote anything yet, be it thought or text.
        last: the line with `"done": true`; `None` while the answer is not complete. What follows it is not read.
    """

    __slots__ = ("_length", "_line_parts", "_line_size", "_lines", "_text", "has_token", "last", "pieces")

    def __init__(self) -> None:
        self.pieces: deque[str] = deque()
        self.has_token = False
        self.last: dict[str, Any] | None = None
        self._text: list[str] = []
        self._length = 0
        self._lines = 0
        self._line_parts: list[bytes] = []
        self._line_size = 0

    def feed(self, data: bytes) -> None:
        """Take in what arrived.

        Raises:
            ProtocolBreach: it is no Ollama answer, or too large to be one.
            ErrorLine: the server reports an error.
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
            ErrorLine: the server reports an error.
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
            usage=Usage(_tokens(last.get("prompt_eval_count")), _tokens(last.get("eval_count"))),
            finish_reason=FINISH_REASONS.get(str(last.get("done_reason")), FinishReason.OTHER),
            time_to_first_token=time_to_first_token,
        )

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._text)

    def _keep(self, part: bytes) -> None:
        self._line_size += len(part)
        if self._line_size > LONGEST_LINE:
            raise ProtocolBreach(f"a line is longer than {LONGEST_LINE} bytes")
        self._line_parts.append(part)

    def _read_line(self) -> None:
        line = b"".join(self._line_parts)
        self._line_parts, self._line_size = [], 0
        if self.last is not None or not line.strip():
            return
        self._lines += 1
        value = self._parsed(line)
        error = value.get("error")
        if error:
            raise ErrorLine(error)
        done = value.get("done", False)
        if not isinstance(done, bool):
            raise self._breach('has a "done" that is neither true nor false')
        self._take_text(value, done=done)
        if done:
            self.last = value

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            value = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError:
            raise self._breach("is not UTF-8") from None
        except (ValueError, RecursionError):  # no `from error`: it holds the line
            raise self._breach("is not JSON") from None
        if not isinstance(value, dict):
            raise self._breach("is JSON, but not an object")
        return value

    def _take_text(self, value: dict[str, Any], *, done: bool) -> None:
        """Keep the line's text: `response` from generate, `message.content` from chat."""
        holder, name = (value["message"], "content") if "message" in value else (value, "response")
        if not isinstance(holder, dict):
            raise self._breach('has a "message" that is not an object')
        piece = holder.get(name, "" if done or holder is not value else None)
        if not isinstance(piece, str):
            raise self._breach(f'has no text in "{name}"')
        if not piece:
            self.has_token = self.has_token or bool(holder.get("thinking"))
            return
        if not piece.isascii() and any("\ud800" <= character <= "\udfff" for character in piece):
            raise self._breach("holds text that is not Unicode (half a surrogate pair)")
        self._length += len(piece)
        if self._length > LONGEST_ANSWER:
            raise ProtocolBreach(f"the answer is longer than {LONGEST_ANSWER} characters")
        self.has_token = True
        self._text.append(piece)
        self.pieces.append(piece)

    def _breach(self, what: str) -> ProtocolBreach:
        return ProtocolBreach(f"line {self._lines} of the answer {what}")


def first_model(body: bytes) -> str | None:
    """Return the model that `/api/tags` lists first (the one changed last) among those that write text, or `None`.

    Raises:
        ProtocolBreach: the body is no list of models.
    """
    try:
        models = json.loads(body.decode("utf-8"))["models"] or []
        # Embedding models are listed too; servers before the `capabilities` do not say which they are.
        able = [model["name"] for model in models if "completion" in model.get("capabilities", ["completion"])]
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        raise ProtocolBreach("/api/tags is no list of models") from None
    if not able:
        return None
    if not isinstance(able[0], str):
        raise ProtocolBreach("/api/tags has a model whose name is not a text")
    return able[0]


def _tokens(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _count(lines: int) -> str:
    return "1 line" if lines == 1 else f"{lines} lines"
