"""Tasks that iterate in the same order everywhere.

asyncio keeps tasks in sets: `TaskGroup` aborts its children, `asyncio.wait` returns its done-set and `Runner` cancels
what is left in set order, and a set of ordinary tasks is ordered by their addresses, which differ from run to run.
These tasks hash to their creation number instead.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from llmlab.virtual_time.loop import VirtualLoop

T = TypeVar("T")


class VirtualTask(asyncio.Task[T]):
    """A C task whose hash, and default name, is its creation number on its loop.

    Give it to `asyncio.create_eager_task_factory` for deterministic eager tasks (`VirtualLoop` does so by itself for
    `asyncio.eager_task_factory`).
    """

    __slots__ = ("_number",)

    def __init__(
        self, coro: Coroutine[Any, Any, T], *, loop: VirtualLoop, name: str | None = None, **options: Any
    ) -> None:
        # Before asyncio's own `__init__`, which already puts the task into a set.
        self._number = number = next(loop.task_numbers)
        super().__init__(coro, loop=loop, name=f"Task-{number}" if name is None else name, **options)

    def __hash__(self) -> int:
        return self._number
