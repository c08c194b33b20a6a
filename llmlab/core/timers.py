"""The flow's two ways to meet the event loop's clock: sleep until a time, and cut off what takes too long.

Both use nothing but `call_at`, so they work the same on a real loop and on a virtual one. They exist beside
`asyncio.sleep` and `asyncio.timeout` because every simulated attempt needs both. All timeouts of one kind last equally
long, so they come due in the order in which they began: a queue and a single timer of the loop serve them all, and a
timeout that never comes costs one append instead of a timer, a context manager and that timer's cancellation.
"""

from __future__ import annotations

from asyncio import CancelledError, current_task
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future, Task, TimerHandle


def this_task(loop: AbstractEventLoop) -> Task[Any]:
    """Return the running task, which deadlines cancel.

    Raises:
        RuntimeError: no task is running.
    """
    task = current_task(loop)
    if task is None:
        raise RuntimeError("a call must run in an asyncio task; use asyncio.run() or create_task()")
    return task


async def sleep_until(loop: AbstractEventLoop, when: float) -> None:
    """Sleep until the loop's clock shows `when` (at least one turn of the loop)."""
    future = loop.create_future()
    timer = loop.call_at(when, wake, future)
    try:
        await future
    except CancelledError:
        timer.cancel()
        raise


def wake(sleeper: Future[None]) -> None:
    """End a sleep: what `sleep_until` arms its timer with."""
    if not sleeper.done():  # a deadline that came due in the same instant may have cancelled it
        sleeper.set_result(None)


class Deadline:
    """A time at which a task is cancelled, unless `task` is `None` by then. `fired`: whether that has happened."""

    __slots__ = ("fired", "task", "when")

    def __init__(self, when: float, task: Task[Any]) -> None:
        self.when = when
        self.task: Task[Any] | None = task
        self.fired = False


class Deadlines:
    """Deadlines that all lie equally far ahead when they are set, and so come due in the order in which they are set.

    Who awaits under a deadline must itself compare the clock with it afterwards: at equal times the order in which a
    deadline and an answer come says nothing.
    """

    __slots__ = ("_loop", "_queue", "_spare", "_timer")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: deque[Deadline] = deque()
        self._spare: list[Deadline] = []  # given up before they came due: nobody asks them anything any more
        self._timer: TimerHandle | None = None

    def set(self, when: float, task: Task[Any]) -> Deadline:
        """Cancel the task at `when`, until the deadline's `task` is set to `None`; it may then serve again."""
        queue, spare = self._queue, self._spare
        while queue and queue[0].task is None:
            spare.append(queue.popleft())
        if spare:  # making one costs more than all the rest of this
            deadline = spare.pop()
            deadline.when, deadline.task = when, task
        else:
            deadline = Deadline(when, task)
        queue.append(deadline)
        if self._timer is None:
            self._timer = self._loop.call_at(queue[0].when, self._fire)
        return deadline

    def _fire(self) -> None:
        now, queue = self._loop.time(), self._queue
        while queue:
            first = queue[0]
            task = first.task
            if task is not None:
                if first.when > now:
                    break
                first.fired, first.task = True, None
                task.cancel()
            queue.popleft()
        self._timer = self._loop.call_at(queue[0].when, self._fire) if queue else None

    def close(self) -> None:
        """Give the loop's timer back, unless somebody still waits under a deadline: that one must hold."""
        if any(deadline.task is not None for deadline in self._queue):
            return
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def cut_short(task: Task[Any], cancelling: int, *deadlines: Deadline | None) -> bool:
    """Whether these deadlines, and nobody else, cancelled the task; their cancellations are taken back.

    Args:
        task: the current task.
        cancelling: its `cancelling()` when the first of the deadlines was set.
        deadlines: those under which it was waiting; `None` for one that was not set.
    """
    left = task.cancelling()
    ours = False
    for deadline in deadlines:
        if deadline is not None and deadline.fired:
            deadline.fired = False
            ours = True
            left = task.uncancel()
    return ours and left <= cancelling
