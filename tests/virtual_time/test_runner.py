"""run(): from sync code, inside a running loop, interrupted, and what it leaves behind."""

import asyncio
import contextvars
import os
import signal
import threading
import time

import pytest

from llmlab.virtual_time import VirtualDeadlock, VirtualLoop, run
from llmlab.virtual_time.interrupts import interrupts_cancel_main


async def hour():
    await asyncio.sleep(3600)
    return asyncio.get_running_loop().time()


def test_an_hour_passes_in_a_moment():
    begin = time.monotonic()
    assert run(hour()) == 3600.0
    assert time.monotonic() - begin < 5


def test_it_works_inside_a_running_loop_as_in_a_notebook():
    async def cell():
        return run(hour()), threading.current_thread() is threading.main_thread()

    with asyncio.Runner() as runner:
        assert runner.run(cell()) == (3600.0, True)


def test_it_works_inside_a_virtual_loop_too():
    async def outer():
        await asyncio.sleep(1)
        inner = run(hour())
        return inner, asyncio.get_running_loop().time()

    assert run(outer()) == (3600.0, 1.0)


@pytest.mark.parametrize("in_a_loop", [False, True])
def test_the_run_sees_the_callers_context_and_does_not_change_it(in_a_loop):
    variable = contextvars.ContextVar("variable", default="unset")

    async def main():
        seen = variable.get()
        variable.set("changed inside")
        return seen

    async def cell():
        return call()

    def call():
        variable.set("the caller's")
        return run(main()), variable.get()

    with asyncio.Runner() as runner:
        assert (runner.run(cell()) if in_a_loop else call()) == ("the caller's", "the caller's")


@pytest.mark.parametrize("in_a_loop", [False, True])
def test_what_main_raises_comes_out_unchanged(in_a_loop):
    error = KeyError("x")

    async def main():
        raise error

    async def cell():
        run(main())

    with pytest.raises(KeyError) as caught:
        asyncio.run(cell()) if in_a_loop else run(main())
    assert caught.value is error


def test_a_deadlock_inside_a_notebook_is_reported_there():
    async def cell():
        with pytest.raises(VirtualDeadlock, match="Task-1 waits at"):
            run(asyncio.Event().wait())

    asyncio.run(cell())


@pytest.mark.parametrize("wrong", [hour, None, 3], ids=["function", "None", "number"])
def test_anything_but_a_coroutine_is_refused(wrong):
    with pytest.raises(TypeError, match=r"run\(\) takes a coroutine, such as main\(\), got"):
        run(wrong)


def test_what_is_left_is_cancelled_and_its_cleanup_takes_its_time():
    log = []

    async def background():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(60)
            log.append(asyncio.get_running_loop().time())

    async def main():
        kept.append(asyncio.create_task(background()))
        await asyncio.sleep(1)

    kept = []
    run(main())
    assert log == [61.0]


def test_an_error_during_that_cleanup_is_logged(caplog):
    async def background():
        try:
            await asyncio.Event().wait()
        finally:
            raise KeyError("cleanup")

    async def main():
        kept.append(asyncio.create_task(background()))
        await asyncio.sleep(1)

    kept = []
    run(main())
    assert "unhandled exception while a run was shut down" in caplog.text
    assert "KeyError: 'cleanup'" in caplog.text


def test_async_generators_are_closed():
    log = []

    async def generator():
        try:
            yield 1
        finally:
            await asyncio.sleep(1)
            log.append("closed")

    async def main():
        await anext(open_one)

    open_one = generator()
    run(main())
    assert log == ["closed"]


def test_debug_is_asyncios_debug_mode():
    async def main():
        return asyncio.get_running_loop().get_debug()

    assert [run(main(), debug=debug) for debug in (True, False)] == [True, False]


def test_the_loop_inside_is_a_virtual_loop_and_closed_afterwards():
    async def main():
        return asyncio.get_running_loop()

    loop = run(main())
    assert isinstance(loop, VirtualLoop)
    assert loop.is_closed()


# --- Ctrl-C --------------------------------------------------------------------------------------------------------


async def busy(log):
    """Simulate for ever, with an interrupt on its way."""
    os.kill(os.getpid(), signal.SIGINT)
    try:
        while True:  # noqa: ASYNC110 - not a poll: it simulates work without end
            await asyncio.sleep(1)
    finally:
        await asyncio.sleep(1)
        log.append("cleaned up")


@pytest.fixture
def ctrl_c():
    """Python's own handler, whatever the one who runs the tests has installed."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_cancels_main_lets_it_clean_up_and_is_raised():
    log: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run(busy(log))
    assert log == ["cleaned up"]


@pytest.mark.usefixtures("ctrl_c")
def test_a_second_ctrl_c_is_raised_at_once():
    log: list[str] = []

    async def main():
        signal.raise_signal(signal.SIGINT)
        log.append("goes on")
        signal.raise_signal(signal.SIGINT)
        log.append("goes on again")

    with pytest.raises(KeyboardInterrupt):
        run(main())
    assert log == ["goes on"]


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_before_there_is_anything_to_cancel_is_raised_at_the_end():
    loop, slept = VirtualLoop(), []

    def interrupted():
        with interrupts_cancel_main(loop):
            signal.raise_signal(signal.SIGINT)
            slept.append(loop.run_until_complete(asyncio.sleep(1, "slept")))

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert slept == ["slept"]
    loop.close()


def test_ctrl_c_in_another_thread_has_nothing_to_cancel_in_a_loop_that_runs_for_ever():
    loop, ticks = VirtualLoop(), []
    loop.cancel_main_from_another_thread()
    loop.call_later(1, ticks.append, "tick")
    loop.call_later(2, loop.stop)
    loop.run_forever()
    assert ticks == ["tick"]
    loop.close()


@pytest.mark.usefixtures("ctrl_c")
def test_a_main_that_is_cancelled_without_ctrl_c_is_cancelled():
    async def main():
        asyncio.current_task().cancel()  # type: ignore[union-attr]
        await asyncio.sleep(1)

    with pytest.raises(asyncio.CancelledError):
        run(main())


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_in_a_notebook_cancels_the_run_in_its_thread():
    log: list[str] = []

    async def cell():
        with pytest.raises(KeyboardInterrupt):
            run(busy(log))

    loop = asyncio.new_event_loop()  # no Runner: it would take the interrupt for itself, as Jupyter's loop does not
    try:
        loop.run_until_complete(cell())
    finally:
        loop.close()
    assert log == ["cleaned up"]
    assert not [thread for thread in threading.enumerate() if thread.name == "llmlab virtual time"]
