"""Reading chat completions without any I/O: what the events that come back mean.

An answer is a stream of server-sent events (`sse.py`). Each carries a piece of text as a `delta`; one of the last has
the `finish_reason`, a later one the token counts, and the very last is `[DONE]`. An event may be an error instead,
although the status was 200, and some servers answer with one JSON object although a stream was asked for: that is read
too. Errors become failures in `openai_failures.py`; what is sent is in `openai_request.py`.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from llmlab.backends.http_answers import (
    LONGEST_LINE,
    AnswerReader,
    ProtocolBreach,
    ReportedError,
    finish_reason_of,
    json_object,
    whole_number,
)
from llmlab.backends.sse import EventParser
from llmlab.core.backend import Answer, AttemptFailure
from llmlab.core.messages import Usage
from llmlab.core.vocabulary import FailureReason, FinishReason

if TYPE_CHECKING:
    from llmlab.backends.sse import Event
    from llmlab.core.backend import Outcome

FINISH_REASONS = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
}
"""All other words are `other`, but for `error`, with which OpenRouter says that the model behind it failed."""

_THOUGHTS = (
    "reasoning_content",
    "reasoning",
)  # vLLM, llama.cpp and DeepSeek say the first, OpenRouter and Ollama the second
_TOOLS = ("tool_calls", "function_call")


class _ChatReader(AnswerReader):
    """What reading a stream and reading one object have in common: what an object holds."""

    __slots__ = ("_called_tool", "_finish_reason", "_model", "_refused", "_usage")

    def __init__(self) -> None:
        super().__init__()
        self._finish_reason: FinishReason | None = None
        self._model = ""
        self._usage = Usage()
        self._refused = False
        self._called_tool = False

    def answer(self, *, model: str, time_to_first_token: float | None) -> Outcome:
        """Return the complete answer, or a failure where the model called a tool and wrote nothing.

        `model` is the name to give where the server gave none.
        """
        text = self.text
        if self._called_tool and not text:
            message = "the model called a tool and wrote no text, and only text is handed over; send it no tools"
            return AttemptFailure(FailureReason.EMPTY_OUTPUT, message, status_code=200, retryable=False)
        reason = self._finish_reason or FinishReason.OTHER
        return Answer(
            text=text,
            model=self._model or model,
            usage=self._usage,
            finish_reason=FinishReason.CONTENT_FILTER if self._refused else reason,
            time_to_first_token=time_to_first_token,
        )

    @abstractmethod
    def _this(self) -> str:
        """What is being read: for errors."""

    def _read(self, value: dict[str, Any], holder: str) -> None:
        """Take in an object; what a choice wrote stands under `holder`."""
        if value.get("error"):
            raise ReportedError(value["error"])
        kind = value.get("object")
        if isinstance(kind, str) and kind.lower() == "error":  # older vLLM, Mistral
            raise ReportedError(value)
        model, usage = value.get("model"), value.get("usage")
        if isinstance(model, str) and model:
            self._model = model
        if isinstance(usage, dict):
            self._usage = Usage(whole_number(usage.get("prompt_tokens")), whole_number(usage.get("completion_tokens")))
        choices = value.get("choices") or ()  # none in the event with the token counts; some servers have null there
        if not isinstance(choices, list | tuple):
            raise self._breach('has "choices" that are not a list')
        for choice in choices:
            if not isinstance(choice, dict):
                raise self._breach("has a choice that is not an object")
            if not choice.get("index"):  # the others were asked for with n, in the backend's options
                self._read_choice(choice, holder)

    def _read_choice(self, choice: dict[str, Any], holder: str) -> None:
        if choice.get("error"):
            raise ReportedError(choice["error"])
        message = choice.get(holder) or {}
        if not isinstance(message, dict):
            raise self._breach(f'has a "{holder}" that is not an object')
        self._read_message(message)
        reason = choice.get("finish_reason")
        if reason == "error":
            raise ReportedError("the model behind it failed")
        if reason is not None:
            self._finish_reason = finish_reason_of(reason, FINISH_REASONS)

    def _read_message(self, message: dict[str, Any]) -> None:
        piece = message.get("content")
        if piece is not None and not isinstance(piece, str):
            raise self._breach('has a "content" that is no text')
        if piece:
            self.take(piece, self._this())
        self._refused = self._refused or bool(message.get("refusal"))
        self._called_tool = self._called_tool or any(message.get(name) for name in _TOOLS)
        self.has_token = self.has_token or self._called_tool or any(message.get(name) for name in _THOUGHTS)

    def _breach(self, what: str) -> ProtocolBreach:
        return ProtocolBreach(f"{self._this()} {what}")


class StreamReader(_ChatReader):
    """Reads an answer that comes in events.

    Args:
        strict_end: whether it takes both a `finish_reason` and `[DONE]` to make an answer complete, or either of them.
    """

    __slots__ = ("_events", "_parser", "_strict_end")

    def __init__(self, *, strict_end: bool = True) -> None:
        super().__init__()
        self._strict_end = strict_end
        self._parser = EventParser()
        self._events = 0

    def feed(self, data: bytes) -> None:
        """Take in what arrived.

        Raises:
            ProtocolBreach: it is no chat completion, or too large to be one.
            ReportedError: the server reports an error.
        """
        if not self.is_complete:
            for event in self._parser.feed(data):
                self._read_event(event)

    def finish(self) -> None:
        """Take in the end of the body; the last event needs no blank line.

        Raises:
            ProtocolBreach: the answer is not complete.
            ReportedError: the server reports an error.
        """
        for event in self._parser.finish():
            self._read_event(event)
        if self.is_complete:
            return
        if self._finish_reason is None:
            raise ProtocolBreach(f"the stream ended after {_count(self._events)} without [DONE]")
        if self._strict_end:
            raise ProtocolBreach(
                "the stream ended with a finish_reason, but without [DONE]; "
                "if that is this server's way, set strict_end=False"
            )
        self.is_complete = True

    def _read_event(self, event: Event) -> None:
        if self.is_complete:
            return
        self._events += 1
        if event.field == b"error":
            raise ReportedError(json_object(event.data, self._this()))
        if event.data.strip() != b"[DONE]":
            self._read(json_object(event.data, self._this()), "delta")
        elif self._finish_reason is None and self._strict_end:
            raise ProtocolBreach(
                "the stream ended with [DONE], but without a finish_reason, so the answer may be cut; "
                "if that is this server's way, set strict_end=False"
            )
        else:
            self.is_complete = True

    def _this(self) -> str:
        return f"event {self._events} of the answer"


class WholeReader(_ChatReader):
    """Reads an answer that is one object, for servers that do not stream. Nobody knows when its first token came."""

    __slots__ = ("_body",)

    def __init__(self) -> None:
        super().__init__()
        self._body = bytearray()

    def feed(self, data: bytes) -> None:
        """Take in what arrived.

        Raises:
            ProtocolBreach: it is too large to be an answer.
        """
        self._body += data
        if len(self._body) > LONGEST_LINE:
            raise ProtocolBreach(f"the answer is longer than {LONGEST_LINE} bytes")

    def finish(self) -> None:
        """Read the body.

        Raises:
            ProtocolBreach: it is no chat completion.
            ReportedError: the server reports an error.
        """
        value = json_object(bytes(self._body), self._this())
        self._read(value, "message")
        if not value.get("choices"):
            raise self._breach("has no choices")
        self.is_complete = True

    def answer(self, *, model: str, time_to_first_token: float | None) -> Outcome:
        """Return the answer, without a time to the first token."""
        del time_to_first_token
        return super().answer(model=model, time_to_first_token=None)

    def _this(self) -> str:
        return "the answer"


def models_of(body: bytes) -> list[str]:
    """Return the names of the models that `/models` lists.

    Raises:
        ProtocolBreach: the body is no list of models.
    """
    try:
        listed = json.loads(body.decode("utf-8"))["data"] or []
        names = [model["id"] for model in listed]
    except (ValueError, RecursionError, LookupError, TypeError):
        raise ProtocolBreach("/models is no list of models") from None
    if not all(isinstance(name, str) for name in names):
        raise ProtocolBreach("/models has a model whose id is not a text")
    return names


def _count(events: int) -> str:
    return "1 event" if events == 1 else f"{events} events"
