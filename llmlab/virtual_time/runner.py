"""The front door: run one coroutine on virtual time, from anywhere.

Like `asyncio.run`, and built on `asyncio.Runner`, with two differences. It works inside a running loop too (a Jupyter
cell), where it runs in a short-lived thread. And what is left at the end is cancelled in the order in which it was
created, so that cleanup, too, is the same in every run.
"""

from __future__ import annotations

import asyncio
from asyncio import events
from typing import TYPE_CHECKING, Any, TypeVar

from llmlab.virtual_time.errors import VirtualTimeError
from llmlab.virtual_time.interrupts import interrupts_cancel_main
from llmlab.virtual_time.loop import VirtualLoop
from llmlab.virtual_time.threads import in_a_thread

if TYPE_CHECKING:
    from collections.abc import Coroutine

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
    `VirtualStepLimit`, or `NotInVirtualTime` for what needs the outside world, even if the program swallowed it. An
    option that cannot be meant is a `ValueError`.
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
    return in_a_thread(lambda: _run_here(loop, main, debug), loop.cancel_main_from_another_thread)


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
