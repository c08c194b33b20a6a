"""Tasks: their order in sets, names and factories."""

import asyncio
import contextvars
import sys
from typing import Any

import pytest

from llmlab.virtual_time import VirtualLoop, VirtualTask, run


def test_tasks_are_numbered_per_loop_and_so_are_their_default_names():
    async def main():
        tasks = [asyncio.create_task(asyncio.sleep(1)) for _ in range(3)]
        await asyncio.wait(tasks)
        return [(hash(task), task.get_name()) for task in tasks]

    expected = [(2, "Task-2"), (3, "Task-3"), (4, "Task-4")]
    assert [run(main()), run(main())] == [expected, expected]


def test_a_set_of_tasks_iterates_in_the_order_of_their_creation():
    async def main():
        tasks = [asyncio.create_task(asyncio.sleep(1), name=str(number)) for number in range(500)]
        done, _ = await asyncio.wait(tasks)
        return [task.get_name() for task in done]

    assert run(main()) == [str(number) for number in range(500)]


def test_a_task_group_aborts_its_children_in_the_order_of_their_creation():
    cancelled = []

    async def child(number):
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(number)

    async def main():
        async with asyncio.TaskGroup() as group:
            for number in range(200):
                group.create_task(child(number))
            await asyncio.sleep(1)
            raise KeyError

    with pytest.raises(ExceptionGroup):
        run(main())
    assert cancelled == list(range(200))


def test_what_is_left_at_the_end_is_cancelled_in_the_order_of_its_creation():
    cancelled = []

    async def background(number):
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(number)

    async def main():
        kept.extend(asyncio.create_task(background(number)) for number in range(200))
        await asyncio.sleep(1)

    kept = []
    run(main())
    assert cancelled == list(range(200))


def test_tasks_are_still_compared_by_identity():
    async def main():
        task = asyncio.current_task()
        return {task: "found"}[task]

    assert run(main()) == "found"


def test_a_task_is_asyncios_own_with_a_number():
    assert issubclass(VirtualTask, asyncio.Task)
    assert VirtualTask.__slots__ == ("_number",)


def test_a_task_factory_makes_the_tasks():
    calls = []

    def factory(loop, coro, **options):
        calls.append(sorted(options))
        return asyncio.Task(coro, loop=loop, **options)

    loop = VirtualLoop()
    assert loop.get_task_factory() is None
    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory

    async def main():
        named = asyncio.create_task(asyncio.sleep(1), name="named")
        await asyncio.create_task(asyncio.sleep(1), context=contextvars.copy_context())
        await named
        return named.get_name()

    assert loop.run_until_complete(main()) == "named"
    assert calls == [[], [], ["context"]]
    assert loop.create_task(asyncio.sleep(0), name="named").get_name() == "named"
    loop.run_until_complete(asyncio.sleep(1))
    loop.set_task_factory(None)
    assert loop.get_task_factory() is None
    assert loop.run_until_complete(asyncio.sleep(1, "fine")) == "fine"
    with pytest.raises(TypeError, match="callable or None"):
        loop.set_task_factory("nonsense")  # type: ignore[arg-type]
    loop.close()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_eager_tasks_run_at_once_and_keep_their_order():
    loop = VirtualLoop()
    eager: Any = vars(asyncio)["eager_task_factory"]
    loop.set_task_factory(eager)
    assert loop.get_task_factory() is eager
    log: list[int] = []

    async def child(number):
        log.append(number)
        await asyncio.sleep(1)
        return number

    async def main():
        tasks = {asyncio.create_task(child(number)) for number in range(100)}
        assert log == list(range(100)), "each began when it was made"
        assert [hash(task) for task in tasks] == [hash(task) for task in sorted(tasks, key=hash)]
        return [await task for task in tasks]

    assert loop.run_until_complete(main()) == list(range(100))
    loop.close()
