"""What a dialect of HTTP is to the simulated server: how requests are read in it, and how answers are worded.

Two are spoken: Ollama's native one (`ollama.py`) and OpenAI's chat completions (`openai.py`). `answering.py` says when
each word comes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from llmlab.wire.exchange import Head

if TYPE_CHECKING:
    from llmlab.backends.visit import Phases
    from llmlab.core.backend import Answer
    from llmlab.core.messages import LLMRequest


class Body(NamedTuple):
    """A whole body with its type."""

    content_type: str
    data: bytes


class Asked(NamedTuple):
    """What a request asks for, once read.

    Attributes:
        request: the question.
        model: the model's name as it was given.
        streamed: whether the answer is wanted piece by piece.
        words: how the answer is worded.
    """

    request: LLMRequest
    model: str
    streamed: bool
    words: Words


@dataclass
class Rejected(Exception):
    """The server does not accept a request: the status, and what it says."""

    status: int
    message: str


class Words(Protocol):
    """The words of one answer. The types of a stream and of a whole answer are `content_type`s."""

    loads: Literal["", "load", "unload"]
    """Not "" where there is nothing to answer: only a model is to be loaded, or unloaded."""
    stream_type: str
    whole_type: str
    line_end: bytes
    """What ends a line (Ollama) or an event (OpenAI) of the stream."""

    def piece(self, text: str) -> bytes:
        """Return a piece of the text."""
        ...

    def last(self, answer: Answer, phases: Phases) -> bytes:
        """Return what ends the stream: the end marker."""
        ...

    def whole(self, answer: Answer, phases: Phases, *, complete: bool = True) -> bytes:
        """Return the whole answer; without its end marker if it is not complete."""
        ...

    def loaded(self) -> Body:
        """Return the answer to a request that only `loads`."""
        ...

    def broken(self, message: str) -> bytes:
        """Return what reports an error in the middle of a stream."""
        ...

    def error(self, status: int, message: str) -> Body:
        """Return the body of an error answer."""
        ...


def compact(value: Any) -> bytes:
    """Return JSON without spaces and with its characters as they are, as servers send it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def whole_answer(status: int, body: Body, headers: tuple[tuple[str, str], ...] = ()) -> tuple[Head, bytes]:
    """Return the steps of an answer whose body is known as a whole."""
    kind, data = body
    return Head(status, (("content-type", kind), *headers, ("content-length", str(len(data))))), data
