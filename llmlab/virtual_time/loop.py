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
import math
import sys
import threading
from collections import deque
from contextvars import Context, copy_context
from heapq import heapify, heappop, heappush
from numbers import Real
from typing import TYPE_CHECKING, Any, NoReturn

from llmlab.virtual_time.driving import Drivable
from llmlab.virtual_time.errors import (
    NotInVirtualTime,
    VirtualDeadlock,
    VirtualLivelock,
    VirtualRunError,
    VirtualStepLimit,
    VirtualTimeError,
    VirtualTimeLimit,
)
from llmlab.virtual_time.handles import VirtualHandle, cancelled, describe_callback, running
from llmlab.virtual_time.refusals import ANOTHER_THREAD, NoOutsideWorld, checked_executor
from llmlab.virtual_time.reporting import ReportsExceptions
from llmlab.virtual_time.tasks import MakesTasks
from llmlab.virtual_time.waiting import waiting_tasks

if TYPE_CHECKING:
    from llmlab.virtual_time.refusals import Executor

_FEW_TIMERS = 4096  # below this, sweeping cancelled timers out of the heap costs more than it frees
_NEVER = sys.float_info.max  # a timer later than this is one at infinity


class VirtualLoop(NoOutsideWorld, MakesTasks, ReportsExceptions, Drivable):
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
        executor: Executor = "forbid",
        max_time: float | None = None,
        max_steps: int | None = None,
        livelock_after: int | None = 1_000_000,
    ) -> None:
        super().__init__()
        self._executor = checked_executor(executor)
        self._now = _as_start(start)
        self._ready: deque[VirtualHandle] = deque()
        self._timers: list[VirtualHandle] = []
        self._timers_armed = 0
        self._sweep_above = _FEW_TIMERS
        self._steps = 0
        self._max_time, self._max_steps = _bound("max_time", max_time), _bound("max_steps", max_steps)
        self._max_idle = sys.maxsize if livelock_after is None else _bound("livelock_after", livelock_after)
        self._grant_limits()

    def __repr__(self) -> str:
        state = "closed" if self.is_closed() else "running" if self.is_running() else "idle"
        return f"<VirtualLoop {state} at {self._now} s, {len(self._ready)} ready, {len(self._timers)} timers>"

    # --- the clock and its callbacks -------------------------------------------------------------------------------

    def time(self) -> float:
        """The virtual time, in seconds."""
        return self._now

    def call_soon(self, *call: Any, context: Context | None = None) -> VirtualHandle:  # type: ignore[override]
        """Run `callback(*args)` in the next iteration."""
        # `call` is (callback, *args) as it arrives: taking that apart and together again would cost two tuples.
        handle = VirtualHandle()
        handle.run = (copy_context() if context is None else context).run
        handle.args = call
        self._ready.append(handle)
        return handle

    def call_at(self, when: float, *call: Any, context: Context | None = None) -> VirtualHandle:  # type: ignore[override]
        """Run `callback(*args)` at the virtual time `when`, or in the next iteration if that is past."""
        if type(when) is not float or not when >= self._now:
            when = _as_time(when)
        self._timers_armed = number = self._timers_armed + 1
        handle = VirtualHandle((when, number))
        handle.run = (copy_context() if context is None else context).run
        handle.args = call
        heappush(self._timers, handle)
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
            self.refuse("loop.call_soon_threadsafe() from another thread", ANOTHER_THREAD)
        return self.call_soon(*call, context=context)

    def cancel_main_from_another_thread(self) -> None:
        """For Ctrl-C in the thread that waits for this loop's thread: cancel what `run_until_complete` runs."""
        # Appending is atomic, and works before the run has begun, too.
        self._ready.append(running(self._cancel_main))

    def cancel_main_soon(self) -> None:
        """For Ctrl-C in this loop's own thread: cancel what `run_until_complete` runs, between two callbacks."""
        if (main := self._main) is not None:
            self._ready.append(running(main.cancel))

    def _sweep(self) -> None:
        """Drop cancelled timers. The bound doubles with the live ones, so sweeping costs a constant per timer."""
        self._timers[:] = [timer for timer in self._timers if timer.run is not cancelled]
        heapify(self._timers)
        self._sweep_above = max(_FEW_TIMERS, 2 * len(self._timers))

    def _iterate(self) -> None:  # noqa: C901, PLR0912 - the one loop of a simulation: each call in it costs 0.05 us
        """Run one callback per turn, until `stop()` or until something in the way of going on is the run's failure."""
        ready, timers = self._ready, self._timers
        take = ready.popleft
        latest, last_step, max_idle = self._latest, self._last_step, self._max_idle  # constant until one is reached
        idle = 0  # iterations since the clock last moved
        left = self._begin_iteration()  # callbacks left in this one, which is made even if `stop()` came before it
        self._steps += left
        while True:
            if left:
                left -= 1
                handle = take()
            elif self._stopping:
                return
            elif self._steps >= last_step or idle > max_idle:
                self._fail(self._unending())
                return
            elif ready:
                left = self._begin_iteration() if timers and timers[0][0] <= self._now else len(ready)
                self._steps += left
                idle += 1
                left -= 1
                handle = take()
            elif not timers:
                self._fail(self._stuck(math.inf))
                return
            else:
                handle = heappop(timers)
                if handle.run is cancelled:  # and so the clock must not move to it
                    continue
                when = handle[0]
                if when > latest:
                    heappush(timers, handle)
                    self._fail(self._stuck(when))
                    return
                idle += 1
                if when > self._now:
                    self._now = when
                    idle = 0
                if timers and timers[0][0] <= self._now:
                    ready.append(handle)
                    continue
                self._steps += 1  # a timer alone at its time, as most are, runs without the detour through `ready`
            try:
                handle.run(*handle.args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # noqa: BLE001 - a callback's failure is reported, and stops nothing
                self._report_callback(handle, error)

    def _begin_iteration(self) -> int:
        """Move what is due behind what is ready; how many callbacks the iteration has."""
        while self._timers and self._timers[0][0] <= self._now:
            self._ready.append(heappop(self._timers))
        return len(self._ready)

    def _report_callback(self, handle: VirtualHandle, error: BaseException) -> None:
        message = f"Exception in callback {describe_callback(handle)}"
        self.call_exception_handler({"message": message, "exception": error, "handle": handle})

    def close(self) -> None:
        """Forget every callback; the loop cannot run again, and takes no more of them."""
        super().close()
        self._ready.clear()
        self._timers.clear()
        # Instead of asking "closed?" at every call: the two calls a simulation makes most get a new meaning.
        vars(self).update(call_soon=self._refuse_because_closed, call_at=self._refuse_because_closed)

    def _refuse_because_closed(self, *_args: Any, **_options: Any) -> NoReturn:
        raise RuntimeError("Event loop is closed")

    # --- giving up -------------------------------------------------------------------------------------------------

    def _grant_limits(self) -> None:
        """Allow `max_time` and `max_steps` from here on; granted anew after a limit, so that cleanup can run."""
        self._latest = _NEVER if self._max_time is None else min(_NEVER, self._now + self._max_time)
        self._last_step = sys.maxsize if self._max_steps is None else self._steps + self._max_steps

    def _stuck(self, when: float) -> VirtualRunError:
        """Why the clock cannot move on to the next timer, which is due at `when`."""
        waiting = waiting_tasks(asyncio.all_tasks(self))
        if when > _NEVER:
            return VirtualDeadlock(
                f"Deadlock at {self._now} s of virtual time: nothing is ready and no timer is armed, so nothing can "
                "happen any more. Unfinished tasks:",
                waiting=waiting,
            )
        self._grant_limits()
        return VirtualTimeLimit(
            f"max_time={self._max_time} s of virtual time is over at {self._now} s; the next timer is due at {when} s. "
            "Unfinished tasks:",
            waiting=waiting,
        )

    def _unending(self) -> VirtualRunError:
        """Why no further iteration is made."""
        waiting = waiting_tasks(asyncio.all_tasks(self))
        if self._steps < self._last_step:
            return VirtualLivelock(
                f"Livelock at {self._now} s of virtual time: {self._max_idle} iterations, and the clock does not move. "
                "Something polls with sleep(0), or re-arms a timer for now; wait for an event or a time instead, or "
                "set a higher livelock_after. Unfinished tasks:",
                waiting=waiting,
            )
        self._grant_limits()
        return VirtualStepLimit(
            f"max_steps={self._max_steps} callbacks have run, at {self._now} s of virtual time. Unfinished tasks:",
            waiting=waiting,
        )

    def _fail(self, error: VirtualTimeError) -> None:
        """Let the run end with this error, unless it already has one: the first is the cause, the others follow."""
        self._failure = self._failure or error

    def refuse(self, call: str, instead: str) -> NoReturn:
        """Raise `NotInVirtualTime` here and, inside a run, again at its end, whoever swallows it here."""
        try:
            super().refuse(call, instead)
        except NotInVirtualTime as refusal:
            if self.is_running():
                self._fail(refusal)
                self._stopping = self._stopping or not self._winding_down
            raise


def _as_start(start: Any) -> float:
    if not (isinstance(start, Real) and math.isfinite(start)):
        raise ValueError(f"start must be a finite number of seconds, got {start!r}")
    return float(start)


def _bound(name: str, value: Any) -> Any:
    if value is not None and not (isinstance(value, Real) and float(value) >= 0):
        raise ValueError(f"{name} must be a number, 0 or more, or None for no bound, got {value!r}")
    return value


def _as_time(when: Any) -> float:
    """Any real number as the plain float that the heap compares fastest; NaN, which has no order, would corrupt it."""
    time = float(when)
    if math.isnan(time):
        raise ValueError("a timer's time must be a number, got NaN")
    return time
