"""Deadlock, livelock and limits: what is raised, and what it says."""

import asyncio
import contextlib
import inspect
import re

import pytest

from llmlab.virtual_time import (
    VirtualDeadlock,
    VirtualLivelock,
    VirtualLoop,
    VirtualRunError,
    VirtualStepLimit,
    VirtualTimeError,
    VirtualTimeLimit,
    run,
)
from llmlab.virtual_time.waiting import waiting_tasks


async def wait_for_ever():
    await asyncio.Event().wait()  # this line


async def spin():
    while True:  # noqa: ASYNC110 - the very mistake these tests are about
        await asyncio.sleep(0)


def line_of(function, text):
    """The line of a function's source with this text, as file:line."""
    lines, first = inspect.getsourcelines(function)
    number = next(number for number, line in enumerate(lines) if text in line)
    return f"{__file__}:{first + number}"


def test_a_deadlock_names_every_waiting_task_and_the_line_it_waits_at():
    async def main():
        async with asyncio.TaskGroup() as group:
            await asyncio.sleep(5)
            group.create_task(wait_for_ever(), name="consumer")
            group.create_task(asyncio.Queue().get(), name="getter")

    with pytest.raises(VirtualDeadlock) as caught:
        run(main())
    message = str(caught.value)
    assert "Deadlock at 5.0 s" in message
    assert f"consumer waits at {line_of(wait_for_ever, 'this line')} (wait_for_ever), in Event.wait" in message
    assert re.search(r"getter waits at .*queues\.py:\d+ \(Queue\.get\)", message)
    assert re.search(r"Task-1 waits at .*main\), in TaskGroup\.__aexit__", message)
    assert [task.name for task in caught.value.waiting] == ["Task-1", "consumer", "getter"]


def test_waiting_tasks_are_listed_in_the_order_of_their_creation_and_the_message_stays_short():
    async def main():
        await asyncio.gather(*(wait_for_ever() for _ in range(200)))

    with pytest.raises(VirtualDeadlock) as caught:
        run(main())
    assert [task.name for task in caught.value.waiting] == [f"Task-{number}" for number in range(1, 202)]
    assert len(str(caught.value).splitlines()) == 1 + 50 + 1
    assert "151 more" in str(caught.value)


def test_a_task_that_waits_inside_an_async_generator_is_found_there():
    async def endless():
        yield 1
        await asyncio.get_running_loop().create_future()  # stuck here

    async def main():
        async for _ in endless():
            pass

    with pytest.raises(VirtualDeadlock) as caught:
        run(main())
    assert caught.value.waiting[0].where.startswith(line_of(main, "async for"))


def test_a_task_without_a_frame_waits_at_an_unknown_line():
    async def main():
        coroutine = wait_for_ever()
        task = asyncio.create_task(coroutine, name="gone")
        coroutine.close()
        (waiting,) = waiting_tasks([task])
        with pytest.raises(RuntimeError, match="cannot reuse"):
            await task
        return str(waiting)

    assert run(main()).startswith("gone waits at an unknown line of <coroutine object wait_for_ever")


def test_a_timer_at_infinity_is_no_hope():
    with pytest.raises(VirtualDeadlock):
        run(asyncio.sleep(float("inf")))


def test_run_forever_with_nothing_to_do_is_a_deadlock_too():
    loop = VirtualLoop()
    with pytest.raises(VirtualDeadlock, match="there is no unfinished task"):
        loop.run_forever()
    loop.close()


def test_polling_with_sleep_zero_is_a_livelock_and_says_where():
    async def main():
        await asyncio.sleep(3)
        await spin()

    with pytest.raises(VirtualLivelock) as caught:
        run(main(), livelock_after=1000)
    assert "Livelock at 3.0 s of virtual time: 1000 iterations" in str(caught.value)
    assert line_of(spin, "sleep(0)") in str(caught.value)


def test_a_timer_that_rearms_itself_for_now_is_a_livelock():
    async def main():
        loop = asyncio.get_running_loop()

        def rearm():
            loop.call_at(loop.time(), rearm)

        rearm()
        await asyncio.sleep(1)

    with pytest.raises(VirtualLivelock):
        run(main(), livelock_after=1000)


def test_polling_while_time_moves_is_no_livelock():
    async def main():
        async def tick():
            for _ in range(100):
                await asyncio.sleep(1)

        ticking = asyncio.create_task(tick())
        for _ in range(500):
            await asyncio.sleep(0)
        await ticking

    run(main(), livelock_after=600)


def test_a_spinner_does_not_keep_the_loop_from_stopping():
    loop = VirtualLoop(livelock_after=None)
    spinner = loop.create_task(spin())
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.run_until_complete(asyncio.sleep(0))
    spinner.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(spinner)
    loop.close()


@pytest.mark.parametrize(
    ("limit", "finishes"),
    [(None, True), (10, True), (10.5, True), (9.999, False), (0, False)],
)
def test_max_time_is_how_long_a_run_may_last(limit, finishes):
    if finishes:
        run(asyncio.sleep(10), max_time=limit, start=5)
        return
    with pytest.raises(VirtualTimeLimit, match=re.escape(f"max_time={limit} s") + ".* next timer is due at 15.0 s"):
        run(asyncio.sleep(10), max_time=limit, start=5)


def test_max_steps_bounds_the_callbacks_and_says_what_was_going_on():
    async def main():
        for _ in range(1000):
            await asyncio.sleep(1)

    with pytest.raises(VirtualStepLimit, match=r"max_steps=100 callbacks have run, at \d+\.0 s"):
        run(main(), max_steps=100)
    run(main(), max_steps=10_000)


def test_max_steps_ends_a_chain_of_timers_without_any_task():
    loop = VirtualLoop(max_steps=50)

    def again():
        loop.call_later(1, again)

    again()
    with pytest.raises(VirtualStepLimit):
        loop.run_forever()
    assert loop.time() == 50.0
    loop.close()


@pytest.mark.parametrize("limits", [{"max_time": 10}, {"max_steps": 20}, {"livelock_after": 20}], ids=str)
def test_cleanup_still_runs_and_may_take_time_after_a_limit(limits):
    done = []

    async def main():
        try:
            if "livelock_after" in limits:
                await spin()
            while True:  # noqa: ASYNC110 - not a poll: it simulates work without end
                await asyncio.sleep(1)
        finally:
            await asyncio.sleep(2)
            done.append(asyncio.get_running_loop().time())

    with pytest.raises(VirtualRunError):
        run(main(), **limits)
    assert len(done) == 1


def test_a_task_that_ignores_its_cancellation_cannot_keep_a_limited_run_alive():
    async def stubborn():
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(1)

    with pytest.raises(VirtualTimeLimit, match=r"is over at 10\.0 s") as caught:
        run(stubborn(), max_time=10)
    assert any("while the run was shut down" in note for note in caught.value.__notes__)


def test_the_errors_are_never_taken_for_network_errors():
    assert issubclass(VirtualTimeError, RuntimeError)
    assert not issubclass(VirtualTimeError, OSError)


def test_a_deadlocked_loop_can_be_driven_again():
    loop = VirtualLoop()
    waiter = loop.create_task(wait_for_ever())
    with pytest.raises(VirtualDeadlock):
        loop.run_until_complete(waiter)
    assert loop.run_until_complete(asyncio.sleep(1, "fine")) == "fine"
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(waiter)
    loop.close()
