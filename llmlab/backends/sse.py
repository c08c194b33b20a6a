"""Server-sent events from bytes, whatever their cuts (WHATWG HTML, section 9.2.6).

Lines end with CR, LF or CRLF, a blank line ends an event, a line that begins with a colon is a comment. The one
difference from a browser's reading: an event that the end of the stream cuts short is handed over, so that whoever
reads it sees what is missing. Comments are no events, but bytes all the same: a server that sends them to keep the
connection alive is not taken for one that stalls. What events mean is for `openai_protocol.py` to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from llmlab.backends.http_answers import LONGEST_LINE, ProtocolBreach

if TYPE_CHECKING:
    from collections.abc import Iterator

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """One event: the field that held its data (`data`, or `error` of older llama.cpp), and the data."""

    field: bytes
    data: bytes


class EventParser:
    """Turns bytes into events."""

    __slots__ = ("_after_cr", "_data", "_field", "_first", "_line", "_size")

    def __init__(self) -> None:
        self._first = True
        self._after_cr = False
        self._line: list[bytes] = []  # the parts of a line that has not ended
        self._field = b"data"
        self._data: list[bytes] = []  # the data lines of an event that has not ended
        self._size = 0  # of both

    def feed(self, data: bytes) -> Iterator[Event]:
        """Take in what arrived and yield the events that end in it. The iteration must be used up.

        Raises:
            ProtocolBreach: an event is too long.
        """
        for part in data.splitlines(keepends=True):  # of bytes: at CR, LF and CRLF, as the specification has it
            if self._after_cr and part == b"\n":  # the second half of a CRLF that was cut in two
                self._after_cr = False
                continue
            self._after_cr = part.endswith(b"\r")
            self._size += len(part)
            if self._size > LONGEST_LINE:
                raise ProtocolBreach(f"an event is longer than {LONGEST_LINE} bytes")
            self._line.append(part)
            if part.endswith((b"\r", b"\n")):
                yield from self._end_line()

    def finish(self) -> Iterator[Event]:
        """Take in the end of the stream and yield the event that it cut short, if any."""
        yield from self._end_line()
        yield from self._end_event()

    def _end_line(self) -> Iterator[Event]:
        line = b"".join(self._line).rstrip(b"\r\n")
        self._size -= sum(map(len, self._line))
        self._line = []
        if self._first:
            line = line.removeprefix(_BYTE_ORDER_MARK)
            self._first = False
        if not line:
            yield from self._end_event()
            return
        field, _, value = line.partition(b":")
        if field in {b"data", b"error"}:
            self._field = field
            self._data.append(value.removeprefix(b" "))
            self._size += len(value)

    def _end_event(self) -> Iterator[Event]:
        if self._data:
            event = Event(self._field, b"\n".join(self._data))
            self._data, self._size, self._field = [], 0, b"data"
            yield event
