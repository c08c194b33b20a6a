"""Files that are there whole or not at all, whatever instant the process is killed at.

A file is written under another name, forced to the disk, and renamed: a rename is atomic. A line that is appended
carries its own checksum, so that a torn one is known as such. Nothing here knows what is in the files.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEMPORARY = r"\.[0-9a-f]{8}\.tmp"
"""What a file's name ends in, as a pattern, while it is being written."""
_CHECK = "check"
_CHUNK = 2**20


def write_whole(path: Path, content: memoryview | bytes) -> str:
    """Write a file atomically and return its digest.

    Raises:
        OSError: it cannot be written; nothing of it is left behind.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:  # Ctrl-C, too
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_directory(path.parent)
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def sync_directory(path: Path) -> None:
    """Force a directory's entries to the disk; where the system cannot, it does so by itself."""
    if os.name == "nt":  # no such thing there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest_of(path: Path) -> str:
    """Return a file's digest, as `write_whole` does."""
    hasher = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()


def append_line(path: Path, value: dict[str, Any]) -> None:
    """Append a value to a file that is this process's own; when this returns, it is on the disk.

    Raises:
        OSError: it could not be written; the value counts as not written.
    """
    with path.open("ab", buffering=0) as file:
        end = file.tell()
        rest = memoryview(checked_line(value))
        try:
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(end)  # or the next line would be part of this one
            raise
    if not end:
        sync_directory(path.parent)


def checked_line(value: dict[str, Any]) -> bytes:
    """Return a value as a line of JSON that carries its checksum."""
    return json.dumps({**value, _CHECK: _checksum(value)}).encode() + b"\n"


def checked_lines(content: bytes) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Yield each line's number and value, `None` where it is damaged. A last line that is not complete is left out."""
    *lines, _ = content.split(b"\n")
    for number, line in enumerate(lines, 1):
        if line:
            yield number, _checked_value(line)


def _checked_value(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    check = value.pop(_CHECK, None)
    return value if check == _checksum(value) else None


def _checksum(value: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=8).hexdigest()
