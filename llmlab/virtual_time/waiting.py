"""Where tasks wait, for error messages: *which task, at which line, inside what*.

A suspended coroutine holds the one it awaits (`cr_await`), and so on down to the future; the last frame of that chain
is where the task really waits. The last frame outside asyncio is the one its author can do something about, so a
`WaitingTask` names both.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType

_ASYNCIO = str(Path(asyncio.__file__).parent) + os.sep
_CHAINS = (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom"), ("ag_frame", "ag_await"))


@dataclass(frozen=True, slots=True)
class WaitingTask:
    """One unfinished task: its name, the line it waits at, and the asyncio function it waits in (if any)."""

    name: str
    where: str
    inside: str | None = None

    def __str__(self) -> str:
        inside = f", in {self.inside}" if self.inside else ""
        return f"{self.name} waits at {self.where}{inside}"


def waiting_tasks(tasks: Iterable[asyncio.Task[Any]]) -> list[WaitingTask]:
    """Where each of these tasks waits, in the order in which they were created."""
    return [_waiting(task) for task in sorted(tasks, key=hash)]


def _waiting(task: asyncio.Task[Any]) -> WaitingTask:
    frames = list(_frames(task.get_coro()))
    if not frames:
        return WaitingTask(task.get_name(), f"an unknown line of {task.get_coro()!r}")
    own = [frame for frame in frames if not frame.f_code.co_filename.startswith(_ASYNCIO)]
    place = (own or frames)[-1]
    inside = frames[-1].f_code.co_qualname if own and frames[-1] is not place else None
    return WaitingTask(task.get_name(), _line(place), inside)


def _line(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} ({frame.f_code.co_qualname})"


def _frames(awaited: Any) -> Iterator[FrameType]:
    """The suspended frames, from the task's coroutine inwards to what waits for the future."""
    while awaited is not None:
        # A coroutine, a generator or an async generator: their attributes differ in the prefix.
        names = next((names for names in _CHAINS if hasattr(awaited, names[0])), None)
        if names is None:
            return
        frame, inner = names
        if (suspended := getattr(awaited, frame)) is not None:
            yield suspended
        awaited = getattr(awaited, inner)
