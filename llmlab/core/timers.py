"""The flow's two ways to meet the event loop's clock: sleep until a time, and cut off what takes too long.

Both use nothing but `call_at`, so they work the same on a real loop and on a virtual one. They exist beside
`asyncio.sleep` and `asyncio.timeout` because every simulated attempt needs both: a `Watch` is used again by the next
call, and arming it usually costs two attribute writes instead of a timer, a context manager and a cancellation of that
timer.
"""

from __future__ import annotations

import math
from asyncio import CancelledError, current_task
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task, TimerHandle


async def sleep_until(loop: AbstractEventLoop, when: float) -> None:
    """Sleep until the loop's clock shows `when` (at least one turn of the loop)."""
    future = loop.create_future()
    timer = loop.call_at(when, future.set_result, None)
    try:
        await future
    except CancelledError:
        timer.cancel()
        raise


class Watch:
    """Cancels the current task at a time that may be moved, and knows its own cancellations from others'.

    Lazy: a time that is moved to later leaves the loop's timer where it is; when that fires too early, it is set anew.
        So at equal
    times the order of firing says nothing, and whoever awaits under a watch must itself compare the clock with the
    time it set.
    """

    __slots__ = ("_armed_for", "_cancelling", "_fired", "_loop", "_task", "_timer", "_when")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._task: Task[Any] | None = None
        self._timer: TimerHandle | None = None
        self._when = math.inf
        self._armed_for = math.inf
        self._fired = False
        self._cancelling = 0

    def begin(self) -> None:
        """Watch over the current task from now on; nothing is set yet."""
        task = current_task(self._loop)
        if task is None:
            raise RuntimeError("a call must run in an asyncio task; use asyncio.run() or create_task()")
        self._task = task
        self._cancelling = task.cancelling()

    def set(self, when: float) -> None:
        """Cancel the task at `when`; `math.inf` means never."""
        self._when = when
        if when < self._armed_for:
            if self._timer is not None:
                self._timer.cancel()
            self._armed_for = when
            self._timer = self._loop.call_at(when, self._fire)

    def clear(self) -> None:
        """Cancel nothing until the next `set`."""
        self._when = math.inf

    def _fire(self) -> None:
        self._timer, self._armed_for = None, math.inf
        when = self._when
        if when == math.inf:
            return
        if when > self._loop.time():
            self.set(when)
        else:
            self._when, self._fired = math.inf, True
            if self._task is not None:
                self._task.cancel()

    def expired(self) -> bool:
        """Whether this watch, and nobody else, cancelled the task; asked once per cancellation, which it takes back."""
        self._when = math.inf
        if not self._fired or self._task is None:
            return False
        self._fired = False
        return self._task.uncancel() <= self._cancelling

    def end(self) -> None:
        """Stop watching; the watch may begin again on another task."""
        self._when = math.inf
        if self._fired:
            self.expired()
        self._task = None

    def close(self) -> None:
        """Give the loop's timer back."""
        self.end()
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._armed_for = None, math.inf
