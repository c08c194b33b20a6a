"""Built-in observers: events into a file, events into logging; `core/event_log.py` keeps them in memory.

Neither holds prompts or outputs, since events do not.
"""

from __future__ import annotations

import json
import logging
import math
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlab.core.events import AttemptEvent, CallEvent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from llmlab.core.events import Observer  # noqa: F401 - what both classes are

logger = logging.getLogger("llmlab")


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
        ValueError: a whole line is no event; the message names file and line.
    """
    kinds: dict[str, type[AttemptEvent | CallEvent]] = {"attempt": AttemptEvent, "call": CallEvent}
    with Path(path).open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                fields = json.loads(line)
            except ValueError:
                continue  # torn
            kind = kinds.get(fields.pop("event", "")) if isinstance(fields, dict) else None
            if kind is None or set(fields) != set(kind._fields):
                raise ValueError(f"{path}, line {number}: no event of llmlab")
            yield kind(**{name: _number_again(name, value) for name, value in fields.items()})


_MAY_BE_NAN = frozenset({"time_to_first_token_s", "retry_after_s", "input_tokens", "output_tokens", "backoff_s"})


def _number_again(name: str, value: Any) -> Any:
    return math.nan if value is None and name in _MAY_BE_NAN else value


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
