"""Work that is asked for faster than it can be done: never queued, never twice at once, the last wish always met."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Latest:
    """Does its work again and again for as long as it is asked to in the meantime; used on its event loop only.

    A hundred wishes while it works make it work once more, with what is then the latest state.
    """

    def __init__(self, work: Callable[[], Awaitable[object]], failed: Callable[[BaseException], object]) -> None:
        """Take the work, and what is told of its errors."""
        self._work = work
        self._failed = failed
        self._wanted = False
        self._task: asyncio.Task[None] | None = None

    def ask(self) -> None:
        """Have the work done, from now or from the end of what is under way."""
        self._wanted = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._go_on())

    @property
    def is_busy(self) -> bool:
        """Whether work is under way, or wanted."""
        return self._task is not None and not self._task.done()

    async def _go_on(self) -> None:
        while self._wanted:
            self._wanted = False
            try:
                await self._work()
            except Exception as error:  # noqa: BLE001 - shown to the user, who would never see a task's exception
                self._failed(error)

    async def idle(self) -> None:
        """Wait until nothing is wanted and nothing under way."""
        while self._task is not None and not self._task.done():
            await asyncio.wait([self._task])

    async def stop(self) -> None:
        """End what is under way, and forget what was wanted."""
        self._wanted = False
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
