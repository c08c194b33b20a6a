"""A question to a server that many attempts wait for, such as which models there are: it is asked once for all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


class Question(Generic[T]):
    """A look-up that any number of tasks wait for, and that is given up when none of them waits any more."""

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._task = asyncio.get_running_loop().create_task(work)
        self._waiting = 0
        self._given_up = False

    @property
    def is_over(self) -> bool:
        """Whether it is too late to wait for it."""
        return self._given_up or self._task.done()

    async def answer(self) -> T:
        """Wait for the answer; to cancel this wait leaves the others their answer."""
        self._waiting += 1
        try:
            return await asyncio.shield(self._task)
        finally:
            self._waiting -= 1
            if not self._waiting and not self._task.done():
                self._given_up = True
                self._task.cancel()
