"""The front door: run one coroutine on virtual time, from anywhere.

Like `asyncio.run`, and built on `asyncio.Runner`, with two differences. It works inside a running loop too (a Jupyter
cell), where it runs in a short-lived thread. And what is left at the end is cancelled in the order in which it was
created, so that cleanup, too, is the same in every run.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from asyncio import events
from typing import TYPE_CHECKING, Any, TypeVar

from llmlab.virtual_time.errors import VirtualTimeError
from llmlab.virtual_time.interrupts import interrupts_cancel_main, wait_for
from llmlab.virtual_time.loop import VirtualLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from llmlab.virtual_time.refusals import Executor

T = TypeVar("T")


def run(
    main: Coroutine[Any, Any, T],
    *,
    start: float = 0.0,
    executor: Executor = "forbid",
    max_time: float | None = None,
    max_steps: int | None = None,
    livelock_after: int | None = 1_000_000,
    debug: bool | None = None,
) -> T:
    """Run a coroutine on virtual time, and return its result: `run(main())` takes no time, however long it sleeps.

    Inside, `loop.time()` begins at `start` seconds. `executor="inline"` lets `asyncio.to_thread` and executors run
    their functions at once on the loop's thread. `max_time` bounds the run in virtual seconds, `max_steps` in
    callbacks, `livelock_after` in iterations at one instant; `None` is no bound. `debug` is asyncio's debug mode.

    Raises what `main` raises, or a `VirtualTimeError`: `VirtualDeadlock`, `VirtualLivelock`, `VirtualTimeLimit`,
    `VirtualStepLimit`, or `NotInVirtualTime` for what needs the outside world, even if the program swallowed it.
    """
    if not asyncio.iscoroutine(main):
        raise TypeError(f"run() takes a coroutine, such as main(), got {main!r}")
    try:
        loop = VirtualLoop(
            start, executor=executor, max_time=max_time, max_steps=max_steps, livelock_after=livelock_after
        )
    except BaseException:
        main.close()  # or a wrong option would be followed by "coroutine was never awaited"
        raise
    if events._get_running_loop() is None:
        return _run_here(loop, main, debug)
    return _run_in_a_thread(loop, main, debug)


def _run_here(loop: VirtualLoop, main: Coroutine[Any, Any, T], debug: bool | None) -> T:
    runner = asyncio.Runner(debug=debug, loop_factory=lambda: loop)
    try:
        with interrupts_cancel_main(loop):
            result = runner.run(main)
    except BaseException as error:
        try:
            _shut_down(runner, loop)
        except VirtualTimeError as later:
            error.add_note(f"Then, while the run was shut down: {later}")
        raise
    _shut_down(runner, loop)
    return result


def _shut_down(runner: asyncio.Runner, loop: VirtualLoop) -> None:
    try:
        loop.wind_down()
    finally:
        runner.close()


def _run_in_a_thread(loop: VirtualLoop, main: Coroutine[Any, Any, T], debug: bool | None) -> T:
    """The same in a thread, with this thread's context, while this one waits; Ctrl-C here cancels `main` there."""
    outcome: list[Callable[[], T]] = []
    done = threading.Event()

    def work() -> None:
        try:
            result = _run_here(loop, main, debug)
        except BaseException as error:  # noqa: BLE001 - it is raised where the run was asked for
            outcome.append(_raiser(error))
        else:
            outcome.append(lambda: result)
        finally:
            done.set()

    # A daemon, so that a second Ctrl-C always gets through, even if `main` takes no notice of the first.
    thread = threading.Thread(
        target=contextvars.copy_context().run, args=(work,), name="llmlab virtual time", daemon=True
    )
    try:
        thread.start()
        wait_for(done)
    except KeyboardInterrupt:  # which may come while the thread is only just starting
        loop.cancel_main_from_another_thread()
        done.wait()
        raise
    thread.join()
    return outcome[0]()


def _raiser(error: BaseException) -> Callable[[], Any]:
    def raise_it() -> Any:
        raise error

    return raise_it
