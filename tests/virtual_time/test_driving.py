"""Starting, stopping and closing a loop."""

import asyncio
import gc
import logging
import sys
import threading
import weakref
from typing import Any

import pytest

from llmlab.virtual_time import VirtualLoop


@pytest.fixture
def loop():
    loop = VirtualLoop()
    yield loop
    loop.close()


async def now(delay=0.0):
    await asyncio.sleep(delay)
    return asyncio.get_running_loop().time()


def test_a_loop_can_be_driven_many_times_and_time_goes_on(loop):
    assert [loop.run_until_complete(now(2)) for _ in range(3)] == [2.0, 4.0, 6.0]


def test_background_tasks_live_on_between_runs(loop):
    ticks = []

    async def tick():
        while True:
            await asyncio.sleep(1)
            ticks.append(loop.time())

    ticking = loop.create_task(tick())
    loop.run_until_complete(asyncio.sleep(2.5))
    loop.run_until_complete(asyncio.sleep(2))
    assert ticks == [1.0, 2.0, 3.0, 4.0]
    ticking.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(ticking)


def test_a_loop_can_be_driven_from_one_thread_after_another(loop):
    times = []
    for _ in range(3):
        thread = threading.Thread(target=lambda: times.append(loop.run_until_complete(now(1))))
        thread.start()
        thread.join()
    assert times == [1.0, 2.0, 3.0]


def test_a_loop_cannot_be_driven_by_two_threads_at_once(loop):
    errors = []

    def drive_too():
        try:
            loop.run_forever()
        except RuntimeError as error:
            errors.append(str(error))

    async def main():
        thread = threading.Thread(target=drive_too)
        thread.start()
        thread.join()

    loop.run_until_complete(main())
    assert errors == ["This event loop is already running, in another thread"]


def test_a_loop_cannot_run_inside_itself(loop):
    async def main():
        with pytest.raises(RuntimeError, match=r"^This event loop is already running$"):
            loop.run_forever()

    loop.run_until_complete(main())


def test_a_loop_cannot_run_inside_another_and_the_error_says_what_can(loop):
    async def main():
        with pytest.raises(RuntimeError, match=r"another loop is running.*llmlab\.virtual_time\.run\(\) can"):
            loop.run_forever()

    with asyncio.Runner() as runner:
        runner.run(main())


def test_stop_before_the_start_makes_one_iteration(loop):
    log: list[str] = []

    def ready():
        log.append("ready")
        loop.call_soon(log.append, "next")

    loop.call_soon(ready)
    loop.call_at(0, log.append, "due")
    loop.call_at(1, log.append, "later")
    loop.stop()
    loop.run_forever()
    assert (log, loop.time()) == (["ready", "due"], 0.0)


def test_a_future_left_undone_by_stop_is_an_error(loop):
    loop.call_at(1, loop.stop)
    sleeping = loop.create_task(asyncio.sleep(5, "slept"))
    with pytest.raises(RuntimeError, match="stopped before Future completed"):
        loop.run_until_complete(sleeping)
    assert loop.run_until_complete(sleeping) == "slept"


def test_a_closed_loop_takes_no_more_work():
    loop = VirtualLoop()
    loop.call_later(1, print)
    loop.close()
    loop.close()
    coroutine = now()
    for refused in (
        lambda: loop.call_soon(print),
        lambda: loop.call_later(1, print),
        lambda: loop.call_at(1, print),
        lambda: loop.call_soon_threadsafe(print),
        lambda: loop.create_task(coroutine),
        lambda: loop.run_until_complete(coroutine),
        lambda: loop.run_in_executor(None, print),
        loop.run_forever,
    ):
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            refused()
    coroutine.close()
    assert loop.is_closed()


def test_a_running_loop_cannot_be_closed(loop):
    async def main():
        assert loop.is_running()
        with pytest.raises(RuntimeError, match="Cannot close a running event loop"):
            loop.close()

    loop.run_until_complete(main())
    assert not loop.is_running()


def test_a_closed_loop_and_its_tasks_are_garbage():
    loop = VirtualLoop()

    async def main():
        task = asyncio.create_task(asyncio.sleep(1))
        await task
        return weakref.ref(task)

    task = loop.run_until_complete(main())
    loop.close()
    alive = weakref.ref(loop)
    del loop
    gc.collect()
    assert (task(), alive()) == (None, None)


def test_a_finished_task_is_freed_without_the_garbage_collector(loop):
    async def main():
        task = asyncio.create_task(asyncio.sleep(1))
        await task
        return weakref.ref(task)

    gc.disable()
    try:
        assert loop.run_until_complete(main())() is None
    finally:
        gc.enable()


def test_a_run_leaves_the_hooks_of_the_thread_as_they_were(loop):
    before = sys.get_asyncgen_hooks(), sys.get_coroutine_origin_tracking_depth()
    loop.set_debug(True)
    loop.run_until_complete(now())
    assert (sys.get_asyncgen_hooks(), sys.get_coroutine_origin_tracking_depth()) == before


def test_debug_mode_remembers_where_coroutines_were_made(loop):
    async def main():
        coroutine: Any = now()
        origin = coroutine.cr_origin
        coroutine.close()
        return origin

    loop.set_debug(True)
    assert loop.get_debug()
    assert loop.run_until_complete(main())[0][2] == "main"


def test_debug_mode_may_be_switched_while_the_loop_runs(loop):
    async def main():
        origins = []
        for enabled in (True, False):
            loop.set_debug(enabled)
            coroutine: Any = now()
            origins.append(coroutine.cr_origin is not None)
            coroutine.close()
        return origins

    assert loop.run_until_complete(main()) == [True, False]


def test_an_interrupt_in_the_main_task_comes_out_and_is_no_unretrieved_exception(loop, caplog):
    async def main():
        await asyncio.sleep(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(main())
    gc.collect()
    assert caplog.records == []


def test_a_task_lost_while_pending_is_logged_as_asyncio_logs_it(loop, caplog):
    async def wait():
        await loop.create_future()

    loop.create_task(wait())
    loop.run_until_complete(now())
    gc.collect()
    assert [(record.name, record.levelno) for record in caplog.records] == [("asyncio", logging.ERROR)]
    assert "Task was destroyed but it is pending!" in caplog.text


def test_asyncios_runner_drives_it():
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert [runner.run(now(5)), runner.run(now(5))] == [5.0, 10.0]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio.run has loop_factory from 3.12 on")
def test_asyncio_run_drives_it():
    assert asyncio.run(now(3600), loop_factory=VirtualLoop) == 3600.0  # type: ignore[call-arg]  # 3.11 has none
