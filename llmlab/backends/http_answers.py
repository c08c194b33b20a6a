"""What all readers of streamed answers share: how large an answer may be, its text so far, and how reading one ends.

A reader is pure: bytes in, pieces of text out, whatever their cuts. It is strict, for a stream that merely ends is no
answer, and bounded, for the other side may send anything. The readers are in `ollama_protocol.py` and its likes, the
attempts that feed them in `http_stream.py`.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Any

from llmlab.core.vocabulary import FinishReason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmlab.core.backend import Outcome

LONGEST_LINE = 16 * 1024 * 1024
"""Bytes. The longest honest line is Ollama's last one, which holds a number of up to seven digits for every token."""
LONGEST_ANSWER = 64 * 1024 * 1024
"""Characters of text in one answer."""
_PIECES_KEPT = 1024
"""Pieces of text that are kept apart: a piece of one character takes as much memory as one of twenty."""


class ProtocolBreach(Exception):
    """The bytes are no answer of such a server. The message says why and quotes none of them."""


class ReportedError(Exception):
    """The server reports an error in the middle of its stream; `error` is what it says there."""

    def __init__(self, error: object) -> None:
        super().__init__("an error in the answer")
        self.error = error


class AnswerReader(ABC):
    """Turns the bytes of an answer into pieces of text.

    Attributes:
        pieces: the pieces not yet taken; also those that came before a `ProtocolBreach` or a `ReportedError`.
        has_token: whether the model wrote anything yet, be it thought or text.
        is_complete: whether the answer has ended. What follows is not read.
    """

    __slots__ = ("_length", "_text", "_whole", "has_token", "is_complete", "pieces")

    def __init__(self) -> None:
        self.pieces: deque[str] = deque()
        self.has_token = False
        self.is_complete = False
        self._whole: list[str] = []
        self._text: list[str] = []
        self._length = 0

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._whole) + "".join(self._text)

    @abstractmethod
    def feed(self, data: bytes) -> None:
        """Take in what arrived.

        Raises:
            ProtocolBreach: it is no answer, or too large to be one.
            ReportedError: the server reports an error.
        """

    @abstractmethod
    def finish(self) -> None:
        """Take in the end of the body.

        Raises:
            ProtocolBreach: the answer is not complete.
            ReportedError: the server reports an error.
        """

    @abstractmethod
    def answer(self, *, model: str, time_to_first_token: float | None) -> Outcome:
        """Return what the complete answer comes to; `model` is the name to give where the server gave none."""

    def take(self, piece: str, what: str) -> None:
        """Keep the next piece of text, which is not empty; `what` held it, for the error.

        Raises:
            ProtocolBreach: it is no Unicode, or makes the answer too long.
        """
        if not piece.isascii() and any("\ud800" <= character <= "\udfff" for character in piece):
            raise ProtocolBreach(f"{what} holds text that is not Unicode (half a surrogate pair)")
        self._length += len(piece)
        if self._length > LONGEST_ANSWER:
            raise ProtocolBreach(f"the answer is longer than {LONGEST_ANSWER} characters")
        self.has_token = True
        if len(self._text) >= _PIECES_KEPT:
            self._whole.append("".join(self._text))
            self._text.clear()
        self._text.append(piece)
        self.pieces.append(piece)


def json_object(data: bytes, what: str) -> dict[str, Any]:
    """Return the JSON object that bytes hold.

    Args:
        data: the bytes.
        what: what they are, for the error.

    Raises:
        ProtocolBreach: they hold none.
    """
    try:
        value = json.loads(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise ProtocolBreach(f"{what} is not UTF-8") from None
    except (ValueError, RecursionError):  # no `from error`: it holds the data
        raise ProtocolBreach(f"{what} is not JSON") from None
    if not isinstance(value, dict):
        raise ProtocolBreach(f"{what} is JSON, but not an object")
    return value


def whole_number(value: object) -> int | None:
    """Return what a server gives as a count or a size; `None` where it is none, or more than a float can count."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None


def finish_reason_of(value: object, words: Mapping[str, FinishReason]) -> FinishReason:
    """Return why a model stopped, of a server's words for it; anything else is `other`."""
    return words.get(value, FinishReason.OTHER) if isinstance(value, str) else FinishReason.OTHER
