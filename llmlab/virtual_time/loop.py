"""The event loop whose clock jumps.

`VirtualLoop` is asyncio's loop without the waiting: callbacks that are ready run, and when none is, the clock jumps to
the next timer. It has no selector, because nothing can arrive from outside, and so the same program makes the same
steps at the same times in every run. Its order is that of asyncio's own loop, made exact:

- one *iteration* moves every timer that is due behind the callbacks that are ready, then runs those; what they make
  ready belongs to the next iteration, so all timers of one instant fire before the tasks they wake go on;
- timers of equal time fire in the order in which they were armed (asyncio's own heap leaves that open);
- the clock moves only when nothing is ready, to the very float that the next timer was armed for, and never back.

`runner.py` has the entry point for most programs, `driving.py` starting and stopping, `refusals.py` what a virtual loop
does not do and why, `tasks.py` the tasks whose sets have an order.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import sys
import threading
from asyncio import events
from collections import deque
from contextvars import Context, copy_context
from types import BuiltinMethodType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

from llmlab.virtual_time import refusals
from llmlab.virtual_time.driving import Drivable
from llmlab.virtual_time.errors import (
    NotInVirtualTime,
    VirtualDeadlock,
    VirtualLivelock,
    VirtualStepLimit,
    VirtualTimeLimit,
)
from llmlab.virtual_time.handles import VirtualHandle, cancelled, describe_callback
from llmlab.virtual_time.reporting import ReportsExceptions
from llmlab.virtual_time.tasks import VirtualTask
from llmlab.virtual_time.waiting import waiting_tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

T = TypeVar("T")

_FEW_TIMERS = 4096  # below this, sweeping cancelled timers out of the heap costs more than it frees
_NEVER = sys.float_info.max  # a timer later than this is one at infinity


class VirtualLoop(refusals.NoOutsideWorld, ReportsExceptions, Drivable):
    """An asyncio event loop on virtual time, which starts at `start` seconds.

    `executor="inline"` runs what is given to `asyncio.to_thread` and `run_in_executor` at once, on the loop's own
    thread and in no virtual time; the default forbids both. `max_time` (virtual seconds) and `max_steps` (callbacks)
    bound all that the loop does, `livelock_after` the iterations it makes at one instant; `None` is no bound.

    One thread at a time drives it, as often as it likes. For use inside a running loop (Jupyter) see `run()`.
    """

    def __init__(
        self,
        start: float = 0.0,
        *,
        executor: Literal["forbid", "inline"] = "forbid",
        max_time: float | None = None,
        max_steps: int | None = None,
        livelock_after: int | None = 1_000_000,
    ) -> None:
        if executor not in ("forbid", "inline"):
            raise ValueError(f'executor must be "forbid" or "inline", got {executor!r}')
        super().__init__()
        self.task_numbers = itertools.count(1)
        self._now = float(start)
        self._ready: deque[VirtualHandle] = deque()
        self._timers: list[VirtualHandle] = []
        self._timers_armed = 0
        self._sweep_above = _FEW_TIMERS
        self._steps = 0
        self._max_time, self._max_steps = max_time, max_steps
        self._max_idle = sys.maxsize if livelock_after is None else livelock_after
        self._grant_limits()
        self._executor = executor
        self._task_factory: Callable[..., Any] | None = None
        self._make_task: Callable[..., Any] = VirtualTask

    # --- the clock and its callbacks -------------------------------------------------------------------------------

    def time(self) -> float:
        """The virtual time, in seconds."""
        return self._now

    def call_soon(self, *call: Any, context: Context | None = None) -> VirtualHandle:  # type: ignore[override]
        """Run `callback(*args)` in the next iteration."""
        # `call` is (callback, *args) as it arrives: taking that apart and together again would cost two tuples.
        self._check_closed()
        handle = VirtualHandle((self._now, 0, (copy_context() if context is None else context).run, call))
        self._ready.append(handle)
        return handle

    def call_at(self, when: float, *call: Any, context: Context | None = None) -> VirtualHandle:  # type: ignore[override]
        """Run `callback(*args)` at the virtual time `when`, or in the next iteration if that is past."""
        if type(when) is not float or not when >= self._now:
            when = _as_time(when)
        self._timers_armed = number = self._timers_armed + 1
        callback = call[0]
        if type(callback) is BuiltinMethodType and type(callback.__self__) is asyncio.Future:
            # `call_at(t, future.set_result, value)`, the cheapest way to sleep, runs no code that could see a context.
            handle = VirtualHandle((when, number, callback, call[1:]))
        else:
            handle = VirtualHandle((when, number, (copy_context() if context is None else context).run, call))
        heapq.heappush(self._timers, handle)
        if len(self._timers) > self._sweep_above:
            self._sweep()
        return handle

    def call_later(self, delay: float, *call: Any, context: Context | None = None) -> VirtualHandle:  # type: ignore[override]
        """Run `callback(*args)` after `delay` virtual seconds; a positive delay always moves the clock."""
        when = self._now + delay
        if when == self._now and delay > 0:
            # Lost in rounding, as 1e-9 s are after 30 years: who polls with it would poll at one instant for ever.
            when = math.nextafter(when, math.inf)
        return self.call_at(when, *call, context=context)

    def call_soon_threadsafe(self, *call: Any, context: Context | None = None) -> VirtualHandle:  # type: ignore[override]
        """`call_soon`, from the loop's own thread or while the loop is not running; refused from any other thread."""
        if self._thread not in (None, threading.get_ident()):
            self.refuse("loop.call_soon_threadsafe() from another thread", refusals.THREAD)
        return self.call_soon(*call, context=context)

    def cancel_main_from_another_thread(self) -> None:
        """For Ctrl-C in the thread that waits for this loop's thread: cancel what `run_until_complete` runs."""
        if (main := self._main) is not None:
            self._ready.append(VirtualHandle((self._now, 0, main.cancel, ())))  # appending is atomic

    def _sweep(self) -> None:
        """Drop cancelled timers. The bound doubles with the live ones, so sweeping costs a constant per timer."""
        self._timers[:] = [timer for timer in self._timers if timer[2] is not cancelled]
        heapq.heapify(self._timers)
        self._sweep_above = max(_FEW_TIMERS, 2 * len(self._timers))

    def _iterate(self) -> None:
        """Make iterations until `stop()`."""
        ready, timers = self._ready, self._timers
        take, make_ready, pop = ready.popleft, ready.append, heapq.heappop
        idle = 0  # iterations since the clock last moved
        while True:
            if not ready and not self._stopping:
                while timers and timers[0][2] is cancelled:
                    pop(timers)
                when = timers[0][0] if timers else math.inf
                if when > self._now:
                    if when > self._latest:
                        self._give_up_waiting(when)
                    self._now = when
                    idle = 0
            while timers and timers[0][0] <= self._now:
                make_ready(pop(timers))
            todo = len(ready)
            for _ in range(todo):
                _, _, run, args = handle = take()
                try:
                    run(*args)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:
                    self._report_callback(handle, error)
            self._steps += todo
            idle += 1
            if self._stopping:
                return
            if self._steps >= self._last_step or idle > self._max_idle:
                self._give_up_running()

    def _report_callback(self, handle: VirtualHandle, error: BaseException) -> None:
        message = f"Exception in callback {describe_callback(handle)}"
        self.call_exception_handler({"message": message, "exception": error, "handle": handle})

    def close(self) -> None:
        """Forget every callback; the loop cannot run again."""
        super().close()
        self._ready.clear()
        self._timers.clear()

    # --- giving up -------------------------------------------------------------------------------------------------

    def _grant_limits(self) -> None:
        """Allow `max_time` and `max_steps` from here on; granted anew after a limit, so that cleanup can run."""
        self._latest = _NEVER if self._max_time is None else min(_NEVER, self._now + self._max_time)
        self._last_step = sys.maxsize if self._max_steps is None else self._steps + self._max_steps

    def _give_up_waiting(self, when: float) -> NoReturn:
        waiting = waiting_tasks(asyncio.all_tasks(self))
        if when > _NEVER:
            raise VirtualDeadlock(
                f"Deadlock at {self._now} s of virtual time: nothing is ready and no timer is armed, so nothing can "
                "happen any more. Unfinished tasks:",
                waiting=waiting,
            )
        self._grant_limits()
        raise VirtualTimeLimit(
            f"max_time={self._max_time} s of virtual time is over at {self._now} s; the next timer is due at {when} s. "
            "Unfinished tasks:",
            waiting=waiting,
        )

    def _give_up_running(self) -> NoReturn:
        waiting = waiting_tasks(asyncio.all_tasks(self))
        if self._steps >= self._last_step:
            self._grant_limits()
            raise VirtualStepLimit(
                f"max_steps={self._max_steps} callbacks have run, at {self._now} s of virtual time. Unfinished tasks:",
                waiting=waiting,
            )
        raise VirtualLivelock(
            f"Livelock at {self._now} s of virtual time: {self._max_idle} iterations, and the clock does not move. "
            "Something polls with sleep(0), or re-arms a timer for now; wait for an event or a time instead, or set a "
            "higher livelock_after. Unfinished tasks:",
            waiting=waiting,
        )

    def refuse(self, call: str, instead: str) -> NoReturn:
        """Raise `NotInVirtualTime` here and, inside a run, again at its end, whoever swallows it here."""
        try:
            super().refuse(call, instead)
        except NotInVirtualTime as refusal:
            if self.is_running():
                self._failure = self._failure or refusal
                self._stopping = True
            raise

    # --- futures, tasks, executors ---------------------------------------------------------------------------------

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self,
        coro: Coroutine[Any, Any, T] | Generator[Any, None, T],
        *,
        name: str | None = None,
        context: Context | None = None,
        **options: Any,
    ) -> asyncio.Task[T]:
        """Schedule a coroutine; its task hashes to its creation number (see `tasks.py`)."""
        self._check_closed()
        if self._task_factory is None:
            return VirtualTask(coro, loop=self, name=name, context=context, **options)
        if context is not None:  # a factory need not know about contexts unless one is asked for
            options["context"] = context
        task: asyncio.Task[T] = self._make_task(self, coro, **options)
        if name is not None:
            task.set_name(name)
        return task

    def set_task_factory(self, factory: Callable[..., Any] | None) -> None:
        """Make tasks with `factory(loop, coro, **options)` from now on; `None` restores the default."""
        if factory is not None and not callable(factory):
            raise TypeError("task factory must be a callable or None")
        self._task_factory = self._make_task = factory
        if sys.version_info >= (3, 12) and factory is asyncio.eager_task_factory:
            self._make_task = asyncio.create_eager_task_factory(VirtualTask)  # the same, in a stable order

    def get_task_factory(self) -> Callable[..., Any] | None:
        """The task factory in use, or `None` for the default one."""
        return self._task_factory

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Call `func(*args)` at once if the loop has `executor="inline"`, in no virtual time; refused otherwise."""
        self._check_closed()
        if self._executor == "forbid":
            self.refuse("loop.run_in_executor(), which asyncio.to_thread() uses,", refusals.EXECUTOR)
        future: asyncio.Future[T] = self.create_future()
        running = events._get_running_loop()
        events._set_running_loop(None)  # `func` believes to be in a thread of its own, where no loop runs
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        finally:
            events._set_running_loop(running)
        return future

    def set_default_executor(self, executor: Any) -> None:
        """Accepted, and of no effect, if the loop has `executor="inline"`; refused otherwise."""
        if self._executor == "forbid":
            self.refuse("loop.set_default_executor()", refusals.EXECUTOR)

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Nothing to shut down: there is no executor."""


def _as_time(when: Any) -> float:
    """Any real number as the plain float that the heap compares fastest; NaN, which has no order, would corrupt it."""
    time = float(when)
    if math.isnan(time):
        raise ValueError("a timer's time must be a number, got NaN")
    return time
