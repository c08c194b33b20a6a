"""Starting, stopping and closing a loop: the outer half of `VirtualLoop`.

What happens between a start and a stop is `_iterate` (`loop.py`); this is what surrounds it: one thread at a time
drives the loop, async generators are closed with it, and what was refused during the run is raised at its end.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import warnings
import weakref
from asyncio import events
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from llmlab.virtual_time.errors import VirtualTimeError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Generator

T = TypeVar("T")

_ORIGIN_DEPTH = 10  # frames remembered per coroutine in debug mode, as in asyncio


class Drivable(asyncio.AbstractEventLoop):
    """The part of a loop that runs: `_iterate` is left to the subclass."""

    def __init__(self) -> None:
        super().__init__()
        self._driver = threading.Lock()  # held by the one thread that drives the loop
        self._thread: int | None = None
        self._main: asyncio.Future[Any] | None = None
        self._stopping = False
        self._closed = self._winding_down = False
        self._debug = _debug_by_default()
        self._answer_get_debug()
        self._failure: VirtualTimeError | None = None
        self._asyncgens: weakref.WeakValueDictionary[int, AsyncGenerator[Any, Any]] = weakref.WeakValueDictionary()
        self._asyncgens_shut_down = False

    def run_forever(self) -> None:
        """Run until `stop()`; raises `VirtualDeadlock` when nothing can ever happen again."""
        self._check_closed()
        self._check_can_run()
        if not self._driver.acquire(blocking=False):
            raise RuntimeError("This event loop is already running, in another thread")
        asyncgen_hooks = sys.get_asyncgen_hooks()
        origin_depth = sys.get_coroutine_origin_tracking_depth()
        try:
            self._thread = threading.get_ident()
            sys.set_asyncgen_hooks(self._asyncgen_started, self._asyncgen_dropped)
            if self._debug:
                sys.set_coroutine_origin_tracking_depth(_ORIGIN_DEPTH)
            events._set_running_loop(self)
            self._iterate()
        finally:
            events._set_running_loop(None)
            sys.set_coroutine_origin_tracking_depth(origin_depth)
            sys.set_asyncgen_hooks(*asyncgen_hooks)
            self._stopping, self._thread = False, None
            failure, self._failure = self._failure, None
            self._driver.release()
        if failure is not None:
            raise failure

    def run_until_complete(self, future: Generator[Any, None, T] | Awaitable[T]) -> T:
        """Run until the coroutine or future is done, and return its result."""
        self._check_closed()
        self._check_can_run()
        ours = not asyncio.isfuture(future)
        main: asyncio.Future[T] = asyncio.ensure_future(future, loop=self)  # type: ignore[arg-type]  # generators too
        if ours:  # if the run fails, that error says enough: no "Task was destroyed but it is pending!" beside it
            main._log_destroy_pending = False  # type: ignore[attr-defined]
        main.add_done_callback(_stop_its_loop)
        self._main = main
        try:
            self.run_forever()
        except BaseException:
            if ours and main.done() and not main.cancelled():
                main.exception()  # counts as seen: it is the error on its way, or outranked by it
            raise
        finally:
            self._main = None
            main.remove_done_callback(_stop_its_loop)
        if not main.done():
            raise RuntimeError("Event loop stopped before Future completed.")
        return main.result()

    def _iterate(self) -> None:
        raise NotImplementedError

    def _cancel_main(self) -> None:
        if self._main is not None:
            self._main.cancel()

    def stop(self) -> None:
        """Stop at the end of the current iteration."""
        self._stopping = True

    def is_running(self) -> bool:
        """Whether a thread is driving the loop."""
        return self._thread is not None

    def is_closed(self) -> bool:
        """Whether `close()` was called."""
        return self._closed

    def close(self) -> None:
        """Close the loop for good."""
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        self._closed = True

    def wind_down(self) -> None:
        """Cancel what is unfinished, oldest first, and run until all of it has ended, async generators included.

        From here on a refusal no longer stops the loop, so that one task's cleanup cannot cut short another's.
        """
        self._winding_down = True
        tasks = sorted(asyncio.all_tasks(self), key=hash)
        for task in tasks:
            task.cancel()
        if tasks:
            self.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                message = "unhandled exception while a run was shut down"
                self.call_exception_handler({"message": message, "exception": error, "task": task})
        self.run_until_complete(self.shutdown_asyncgens())

    def get_debug(self) -> bool:
        """Whether asyncio's debug mode is on, as it is from the start with `-X dev` or PYTHONASYNCIODEBUG."""
        return self._debug

    def _answer_get_debug(self) -> None:
        """Let C answer `get_debug()`, which every future asks when it is made."""
        self.get_debug = partial(bool, self._debug)  # type: ignore[method-assign]

    def set_debug(self, enabled: bool) -> None:
        """Switch asyncio's debug mode: tasks, futures and coroutines then remember where they were created."""
        self._debug = enabled
        self._answer_get_debug()
        if self._thread == threading.get_ident():
            sys.set_coroutine_origin_tracking_depth(_ORIGIN_DEPTH if enabled else 0)

    async def shutdown_asyncgens(self) -> None:
        """Close every async generator that is still open, in the order in which they were first iterated."""
        self._asyncgens_shut_down = True
        open_ones = list(self._asyncgens.values())
        self._asyncgens.clear()
        results = await asyncio.gather(*(agen.aclose() for agen in open_ones), return_exceptions=True)
        for result, agen in zip(results, open_ones, strict=True):
            if isinstance(result, Exception):
                message = f"an error occurred during closing of asynchronous generator {agen!r}"
                self.call_exception_handler({"message": message, "exception": result, "asyncgen": agen})

    def _asyncgen_started(self, agen: AsyncGenerator[Any, Any]) -> None:
        if self._asyncgens_shut_down:
            warnings.warn(
                f"asynchronous generator {agen!r} was scheduled after loop.shutdown_asyncgens() call",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )
        # By identity in a dict, not in a WeakSet, whose order would be that of addresses.
        self._asyncgens[id(agen)] = agen

    def _asyncgen_dropped(self, agen: AsyncGenerator[Any, Any]) -> None:
        self._asyncgens.pop(id(agen), None)
        if not self._closed:
            # Not call_soon_threadsafe, which refuses other threads: the garbage collector runs in any of them.
            self.call_soon(self.create_task, agen.aclose())

    def _check_closed(self) -> None:
        if self._closed:
            raise RuntimeError("Event loop is closed")

    def _check_can_run(self) -> None:
        if self.is_running():
            where = "" if self._thread == threading.get_ident() else ", in another thread"
            raise RuntimeError(f"This event loop is already running{where}")
        if events._get_running_loop() is not None:
            raise RuntimeError(
                "Cannot run the event loop while another loop is running; "
                "llmlab.virtual_time.run() can, because it runs in a thread of its own"
            )


def _debug_by_default() -> bool:
    return sys.flags.dev_mode or (not sys.flags.ignore_environment and bool(os.environ.get("PYTHONASYNCIODEBUG")))


def _stop_its_loop(future: asyncio.Future[Any]) -> None:
    if not future.cancelled() and isinstance(future.exception(), SystemExit | KeyboardInterrupt):
        return  # it has left the loop already, as an exception
    future.get_loop().stop()
