"""Built-in observers: events into a file, events into logging; `core/event_log.py` keeps them in memory.

Neither holds prompts or outputs, since events do not.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlab.core.events import ATTEMPT_COLUMNS, CALL_COLUMNS, VOCABULARIES, AttemptEvent, CallEvent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from llmlab.core.events import Column, Observer  # noqa: F401 - what both classes are

logger = logging.getLogger("llmlab")

MAX_LINE_BYTES = 1024 * 1024
"""The longest line of events that is read."""
_MOST_NAMES = 10_000


class JsonLinesObserver:
    """Append every event to a file, one JSON object a line, written in one piece when it happens.

    A line is either whole or, after a crash in mid-write, the last one: `read_json_lines` skips that. Each object has
    `"event": "attempt"` or `"call"`; nothing is `null`. Safe to use from several threads and processes on one machine.

    Args:
        path: the file; it and its folder are made if missing, and an existing file is continued.

    Raises:
        OSError: the file cannot be opened for appending.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file: int | None = os.open(
            self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644
        )
        self._lock = threading.Lock()
        self._end_torn_line()

    def _end_torn_line(self) -> None:
        """Close a line that a crash left open, so that the first new event starts on its own."""
        with self.path.open("rb") as file:
            if file.seek(0, os.SEEK_END) and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                self._write(b"\n")

    def on_attempt(self, event: AttemptEvent) -> None:
        """Append an attempt."""
        self._append("attempt", event)

    def on_call(self, event: CallEvent) -> None:
        """Append a call."""
        self._append("call", event)

    def _append(self, kind: str, event: AttemptEvent | CallEvent) -> None:
        fields = {name: _plain(value) for name, value in zip(event._fields, event, strict=True)}
        self._write(json.dumps({"event": kind, **fields}, separators=(",", ":"), allow_nan=False).encode() + b"\n")

    def _write(self, line: bytes) -> None:
        with self._lock:
            if self._file is None:
                raise ValueError(f"the observer of {self.path} is closed")
            while line:
                line = line[os.write(self._file, line) :]

    def close(self) -> None:
        """Close the file; later events raise."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_file", None) is not None:
            self.close()

    def __repr__(self) -> str:
        return f"JsonLinesObserver({str(self.path)!r})"


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json_lines(path: str | os.PathLike[str]) -> Iterator[AttemptEvent | CallEvent]:
    """Read back what a `JsonLinesObserver` wrote, in order; a line torn by a crash is passed over.

    Raises:
        ValueError: a whole line is no event, or a line is longer than any event; the message names file and line.
    """
    names: set[str | None] = set()
    with Path(path).open("rb") as file:
        for number in itertools.count(1):
            line = file.readline(MAX_LINE_BYTES + 1)
            if not line:
                return
            where = f"{path}, line {number}"
            if len(line) > MAX_LINE_BYTES:
                raise ValueError(f"{where}: is longer than {MAX_LINE_BYTES:,} bytes; no event is")
            try:
                fields = json.loads(line)
            except (ValueError, RecursionError):
                continue  # torn
            event = _event(fields, where)
            names.add(event.layer)
            if isinstance(event, AttemptEvent):
                names.add(event.backend)
            if len(names) > _MOST_NAMES:
                raise ValueError(f"{where}: more than {_MOST_NAMES:,} names of layers and backends, which nobody has")
            yield event


def _event(fields: Any, where: str) -> AttemptEvent | CallEvent:
    """Return the event that a line holds.

    Raises:
        ValueError: it holds none; what is in it may come from anywhere.
    """
    named = fields.pop("event", None) if isinstance(fields, dict) else None
    kind, columns = _KINDS.get(named, (None, ())) if isinstance(named, str) else (None, ())
    if kind is None or set(fields) != set(kind._fields):
        raise ValueError(f"{where}: no event of llmlab")
    for column in columns:
        value = fields[column.name]
        if value is None and column.name in _MAY_BE_NAN:
            fields[column.name] = math.nan
        elif not _fits(value, column):
            wanted = f"one of {', '.join(column.words)}" if column.words else _WANTED[column.kind]
            raise ValueError(f"{where}: no event of llmlab: {column.name} must be {wanted}")
        elif column.words and value is not None:
            fields[column.name] = VOCABULARIES[column.name][value]
    return kind(**fields)


_KINDS: dict[str, tuple[type[AttemptEvent | CallEvent], tuple[Column, ...]]] = {
    "attempt": (AttemptEvent, ATTEMPT_COLUMNS),
    "call": (CallEvent, CALL_COLUMNS),
}
_MAY_BE_NAN = frozenset({"time_to_first_token_s", "retry_after_s", "input_tokens", "output_tokens", "backoff_s"})
_WANTED = {"float": "a finite number", "int": "a whole number of 64 bits", "bool": "true or false", "word": "a text"}


def _fits(value: Any, column: Column) -> bool:
    if column.kind == "word":
        return value is None or (isinstance(value, str) and (not column.words or value in column.words))
    if column.kind == "bool":
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if column.kind == "int":
        return isinstance(value, int) and -(2**63) <= value < 2**63
    return abs(value) < 1e300  # also of a whole number, which may have thousands of digits


class LoggingObserver:
    """Events into the standard logger `llmlab`; you decide on handlers and levels, none is installed.

    | event | level |
    | --- | --- |
    | attempt answered | DEBUG |
    | attempt failed | INFO |
    | call answered | DEBUG |
    | call not answered | WARNING |
    """

    def on_attempt(self, event: AttemptEvent) -> None:
        """Log an attempt."""
        took = event.ended_at_s - event.started_at_s
        if event.reason is None:
            logger.debug("call %d attempt %d on %s answered in %.3f s", event.call, event.attempt, event.backend, took)
            return
        then = "" if math.isnan(event.backoff_s) else f"; next in {event.backoff_s:.3f} s ({event.backoff_source})"
        logger.info(
            "call %d attempt %d on %s failed after %.3f s: %s%s",
            event.call,
            event.attempt,
            event.backend,
            took,
            event.reason,
            then,
        )

    def on_call(self, event: CallEvent) -> None:
        """Log a call."""
        took = event.ended_at_s - event.started_at_s
        if event.reason is None:
            logger.debug("call %d answered in %.3f s, attempts: %d", event.call, took, event.attempts)
        else:
            logger.warning(
                "call %d not answered in %.3f s: %s (%s), attempts: %d",
                event.call,
                took,
                event.reason,
                event.fate,
                event.attempts,
            )
