"""Recordings as files: written one whole line at a time, and read as what a stranger may have made.

A recording is read with bounds on its lines and their number, nothing in it is executed, and what a crash tore off at
its end is passed over with a notice. The records themselves stand in `recording.py`.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from llmlab.conduct.recording import VERSION, BodyDigest, Header, Outcome, Record, Recording
from llmlab.core.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import BinaryIO, Self

MAX_LINE_BYTES = 1024 * 1024
"""The longest line that is read: the weather in a header may have a long schedule."""
MAX_RECORDS = 1_000_000
"""The most records that are read."""

_HOW = "make one with `llmlab serve --record FILE`"
_TIMES = ("started_at", "ended_at")
_TIME: TypeAdapter[float] = TypeAdapter(Annotated[float, Field(allow_inf_nan=False)])
_TABLE: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])
_RECORD: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="record")])


class RecordingWriter:
    """Writes a recording: each record is one line, written in one piece when it is called with it.

        with RecordingWriter("trial.jsonl", Header(seed=7)) as write:
            write(ConnectionOpened(connection=0, at_s=0.1))

    `digest` is the recording's own `BodyDigest`, under a random key.

    Raises:
        SettingsError: the file cannot be made, or there is one of this name: a recording is never added to.
    """

    def __init__(self, path: str | os.PathLike[str], header: Header) -> None:
        self.path = Path(path)
        self.digest = BodyDigest(secrets.token_bytes(32))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
        try:
            self._file: int | None = os.open(self.path, flags, 0o644)
        except FileExistsError:
            raise SettingsError(f"'{self.path}' exists, and a recording is not added to; name another file") from None
        except OSError as error:
            raise SettingsError(f"cannot record into '{self.path}' ({error.strerror}); name another file") from None
        self(header)

    def __call__(self, record: Record) -> None:
        """Write a record.

        Raises:
            ValueError: the writer is closed.
            OSError: the line cannot be written.
        """
        if self._file is None:
            raise ValueError(f"the recording '{self.path}' is closed")
        line = record.model_dump_json(exclude_none=True).encode() + b"\n"
        while line:
            line = line[os.write(self._file, line) :]

    def close(self) -> None:
        """Close the file; it is complete if its last record was an `End`."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"RecordingWriter({str(self.path)!r})"


def read_recording(path: str | os.PathLike[str]) -> Recording:
    """Read a recording of the fault server.

    A last line that was torn off by a crash is passed over, and said in `Recording.notices`.

    Raises:
        SettingsError: the file cannot be read, or is no recording that this version can read; the message names file
            and line and says what to do.
    """
    file = Path(path)
    notices: list[str] = []
    try:
        with file.open("rb") as lines:
            return Recording.of(_records(file, lines, notices), notices=notices)
    except OSError as error:
        raise SettingsError(f"cannot read '{file}' ({error.strerror}); name a recording, or {_HOW}") from None
    except SettingsError:
        raise
    except ValueError as error:
        raise SettingsError(f"{file}: {error}") from None


def read_outcomes(path: str | os.PathLike[str], header: Header) -> tuple[Outcome, ...]:
    """Read what a client reports of its calls: JSON lines, one a call.

        {"outcome": "answered", "started_at": 1764043200.01, "ended_at": 1764043201.5}

    `outcome` is `answered` or `failed`, the times are seconds since 1970; `call` may give the number that the client
    sent in `x-llmlab-attempt`, `error` a name. They are brought to the clock of the recording with this header.

    Raises:
        SettingsError: the file cannot be read, or a line is no outcome; the message names file and line.
    """
    file = Path(path)
    try:
        with file.open("rb") as lines:
            return tuple(_outcome(file, number, line, header) for number, line in _lines(file, lines) if line.strip())
    except OSError as error:
        raise SettingsError(f"cannot read '{file}' ({error.strerror}); name a file of outcomes") from None


def _outcome(file: Path, number: int, line: bytes, header: Header) -> Outcome:
    try:
        said: dict[str, Any] = _TABLE.validate_json(line)
        times = {f"{name}_s": _TIME.validate_python(said.pop(name, None)) - header.started_at for name in _TIMES}
        return Outcome(**{**said, **times})
    except ValidationError as error:
        what = _first(error)
    except SettingsError as error:
        what = _one_word(error)
    example = '{"outcome": "answered" or "failed", "started_at": SECONDS, "ended_at": SECONDS}'
    raise SettingsError(f"{file}, line {number}: is no outcome ({what}); a line is {example}, times since 1970")


def _lines(file: Path, lines: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield each line with its number, from 1, within the bounds on both.

    Raises:
        SettingsError: a bound is exceeded.
    """
    number = 0
    while line := lines.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise SettingsError(
                f"{file}, line {number}: is longer than {MAX_LINE_BYTES:,} bytes; a recording has no such"
            )
        if number > MAX_RECORDS:
            raise SettingsError(f"{file}: has more than {MAX_RECORDS:,} records; record for a shorter time")
        yield number, line


def _records(file: Path, file_lines: BinaryIO, notices: list[str]) -> Iterator[Record]:
    lines = _lines(file, file_lines)
    _, first = next(lines, (1, b""))
    yield _header(file, first)
    for number, line in lines:
        if not line.endswith(b"\n"):
            notices.append(f"line {number} was torn off in writing and is left out")
            return
        try:
            record = _RECORD.validate_json(line)
        except ValidationError as error:
            raise SettingsError(
                f"{file}, line {number}: is no record ({_first(error)}); was the file changed?"
            ) from None
        if isinstance(record, Header):
            raise SettingsError(
                f"{file}, line {number}: a second header; these are several recordings, judge each alone"
            )
        yield record


def _header(file: Path, line: bytes) -> Header:
    """Return the first record.

    Raises:
        SettingsError: the line is no header of this version; the message says which of the two.
    """
    try:
        head = _TABLE.validate_json(line)
    except ValidationError:
        head = {}
    if head.get("format") != "llmlab-conduct":
        what = "holds events, not a recording" if "event" in head else "is no recording of a fault server"
        raise SettingsError(f"'{file}' {what}; {_HOW}")
    if head.get("version") != VERSION:
        made = _one_word(head.get("version"))
        raise SettingsError(
            f"'{file}' is of version {made}, this llmlab reads version {VERSION}; record again, or read it with the "
            "llmlab that made it"
        )
    try:
        return Header.model_validate_json(line)
    except ValidationError as error:
        raise SettingsError(f"{file}, line 1: is no header ({_first(error)}); was the file changed?") from None


def _first(error: ValidationError) -> str:
    """Say the first thing that is wrong, without the value: it may be anything."""
    detail = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(str(part) for part in detail["loc"])
    message = detail["ctx"]["error"] if detail["type"] == "value_error" else detail["msg"]
    return _one_word(f"{place}: {message}" if place else message)


def _one_word(value: object) -> str:
    """Show something from the file in a line, cut and without control characters."""
    return "".join(c if c.isprintable() else "?" for c in str(value)[:100])
