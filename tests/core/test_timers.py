import asyncio
import contextlib

import pytest

from llmlab.core.timers import Deadlines, cut_short, sleep_until, this_task
from llmlab.virtual_time import run


def complaints_of(main):
    """Run on virtual time and return what the loop was told of exceptions in callbacks."""
    told = []

    async def watched():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        return await main()

    run(watched())
    return told


def test_a_sleep_ends_at_its_time_and_not_before():
    async def main():
        loop = asyncio.get_running_loop()
        await sleep_until(loop, 2.5)
        assert loop.time() == 2.5
        await sleep_until(loop, 1.0)
        assert loop.time() == 2.5

    run(main())


@pytest.mark.parametrize("deadline_first", [True, False])
def test_a_sleep_and_a_deadline_may_come_due_together(deadline_first):
    async def main():
        loop = asyncio.get_running_loop()
        deadlines = Deadlines(loop)
        task = asyncio.current_task()
        if deadline_first:
            deadline = deadlines.set(1.0, task)
            sleep = sleep_until(loop, 1.0)
        else:
            inner = asyncio.create_task(sleep_until(loop, 1.0))
            await asyncio.sleep(0)
            deadline = deadlines.set(1.0, task)
            sleep = inner
        with pytest.raises(asyncio.CancelledError):
            await sleep
        assert cut_short(task, 0, deadline)
        assert task.cancelling() == 0

    assert complaints_of(main) == []


def test_a_cancelled_sleep_leaves_no_timer():
    async def main():
        loop = asyncio.get_running_loop()
        sleeper = asyncio.create_task(sleep_until(loop, 1000.0))
        await asyncio.sleep(1)
        sleeper.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sleeper
        await asyncio.sleep(1)
        return loop.time()

    assert run(main()) == 2


def test_deadlines_fire_in_order_and_only_where_they_still_stand():
    async def main():
        loop = asyncio.get_running_loop()
        deadlines, ended, tasks = Deadlines(loop), {}, []

        async def patient(name, keep):
            task = asyncio.current_task()
            deadline = deadlines.set(loop.time() + 5.0, task)
            try:
                await asyncio.sleep(3 if not keep else 100)
            except asyncio.CancelledError:
                assert cut_short(task, 0, deadline)
            deadline.task = None
            ended[name] = loop.time()

        for number in range(6):
            tasks.append(asyncio.create_task(patient(number, keep=number % 2)))
            await asyncio.sleep(0.5)
        await asyncio.sleep(50)
        assert ended == {0: 3.0, 2: 4.0, 4: 5.0, 1: 5.5, 3: 6.5, 5: 7.5}

    assert complaints_of(main) == []


def test_a_callers_cancellation_is_never_taken_for_a_deadline():
    async def main():
        loop = asyncio.get_running_loop()
        deadlines, seen = Deadlines(loop), []

        async def work():
            task = asyncio.current_task()
            deadline = deadlines.set(1.0, task)
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                seen.append(cut_short(task, 0, deadline))
                raise

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        loop.call_at(1.0, task.cancel)  # both in one instant
        with pytest.raises(asyncio.CancelledError):
            await task
        assert seen == [False]

    assert complaints_of(main) == []


def test_deadlines_that_are_closed_still_end_a_wait_under_way_and_leave_no_timer_after_it():
    async def main():
        loop = asyncio.get_running_loop()
        deadlines = Deadlines(loop)

        async def waits():
            deadlines.set(3.0, asyncio.current_task())
            await asyncio.sleep(100.0)

        task = loop.create_task(waits())
        await asyncio.sleep(1.0)
        deadlines.close()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        ended = loop.time()
        deadlines.close()
        return ended, [timer for timer in loop._timers if not timer.cancelled()]

    assert run(main()) == (3.0, [])


def test_a_call_outside_a_task_is_refused_with_what_to_do():
    loop = asyncio.new_event_loop()
    told = []

    def in_a_callback():
        with pytest.raises(RuntimeError, match=r"must run in an asyncio task; use asyncio\.run\(\)") as refused:
            this_task(loop)
        told.append(refused.value)

    loop.call_soon(in_a_callback)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert len(told) == 1
