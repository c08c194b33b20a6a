"""Async generators: the loop closes those that are left open, as asyncio does."""

import asyncio
import gc
import weakref

import pytest

from llmlab.virtual_time import VirtualLoop


@pytest.fixture
def loop():
    loop = VirtualLoop()
    yield loop
    loop.close()


def test_async_generators_are_closed_in_the_order_in_which_they_were_started():
    closed = []

    async def numbered(number):
        try:
            while True:
                yield number
        finally:
            await asyncio.sleep(1)
            closed.append(number)

    async def main():
        for generator in generators:
            await anext(generator)

    generators = [numbered(number) for number in range(50)]
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())
    assert closed == list(range(50))


def test_a_dropped_async_generator_is_closed_by_the_loop(loop):
    closed = []

    async def generator():
        try:
            yield 1
        finally:
            await asyncio.sleep(1)
            closed.append(loop.time())

    async def main():
        async for _ in generator():
            break
        gc.collect()
        await asyncio.sleep(5)

    loop.run_until_complete(main())
    assert closed == [1.0]


def test_an_async_generator_dropped_after_its_loop_was_closed_is_let_go():
    async def generator():
        yield 1

    async def main(agen):  # which the loop knows from its first step inside the loop
        return await anext(agen)

    loop, dropped = VirtualLoop(), generator()
    assert loop.run_until_complete(main(dropped)) == 1
    loop.close()
    alive = weakref.ref(dropped)
    del dropped
    assert alive() is None


def test_an_async_generator_that_fails_to_close_is_reported(loop):
    async def generator():
        try:
            yield 1
        finally:
            raise KeyError("cleanup")

    async def main():
        await anext(open_one)

    reports = []
    loop.set_exception_handler(lambda _loop, context: reports.append(context))
    open_one = generator()
    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert [type(report["exception"]) for report in reports] == [KeyError]


def test_an_async_generator_started_after_their_shutdown_is_warned_about(loop):
    async def generator():
        yield 1

    async def main():
        await loop.shutdown_asyncgens()
        async for _ in generator():
            pass

    with pytest.warns(ResourceWarning, match="was scheduled after"):
        loop.run_until_complete(main())
