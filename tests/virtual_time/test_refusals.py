"""What a virtual loop refuses, and that nobody can swallow a refusal."""

import asyncio
import contextlib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from llmlab.virtual_time import NotInVirtualTime, VirtualLoop, run
from llmlab.virtual_time.driving import Drivable
from llmlab.virtual_time.refusals import NoOutsideWorld
from llmlab.virtual_time.reporting import ReportsExceptions
from llmlab.virtual_time.tasks import MakesTasks

REFUSED = sorted(
    name
    for name, method in vars(NoOutsideWorld).items()
    if callable(method) and (method.__doc__ or "").startswith("Refused in virtual time")
)


def test_every_method_of_an_event_loop_is_either_there_or_refused():
    ours = set().union(*(vars(part) for part in (VirtualLoop, NoOutsideWorld, MakesTasks, ReportsExceptions, Drivable)))
    # `_timer_handle_cancelled` is how asyncio's handles talk to asyncio's loops; ours have handles of their own.
    theirs = {name for name in vars(asyncio.AbstractEventLoop) if not name.startswith("__")}
    assert theirs - ours == {"_timer_handle_cancelled"}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_names_the_call_and_the_alternative(name):
    async def main():
        getattr(asyncio.get_running_loop(), name)(1, 2, option=3)

    with pytest.raises(NotInVirtualTime, match=rf"loop\.{name}\(\) has no meaning in virtual time: \w+"):
        run(main())


def test_some_calls_are_refused():
    assert len(REFUSED) > 25


async def connect():
    await asyncio.open_connection("localhost", 1)


async def start_process():
    await asyncio.create_subprocess_exec("true")


async def look_up():
    await asyncio.get_running_loop().getaddrinfo("localhost", 80)


async def use_a_thread():
    await asyncio.to_thread(print)


async def use_a_socket():
    with socket.socket() as open_socket:
        open_socket.setblocking(False)
        await asyncio.get_running_loop().sock_connect(open_socket, ("localhost", 1))


OUTSIDE = [connect, start_process, look_up, use_a_thread, use_a_socket]


@pytest.mark.parametrize("outside", OUTSIDE)
def test_retry_code_that_swallows_everything_cannot_swallow_a_refusal(outside):
    cleaned_up = []

    async def main():
        try:
            for _ in range(3):
                with contextlib.suppress(Exception):
                    await outside()
                await asyncio.sleep(60)
        finally:
            await asyncio.sleep(1)
            cleaned_up.append(True)
        return "nonsense"

    with pytest.raises(NotInVirtualTime):
        run(main())
    assert cleaned_up == [True]


def test_a_refusal_ends_the_run_even_if_the_program_finishes_in_the_same_step():
    async def main():
        with contextlib.suppress(Exception):
            await connect()
        return "nonsense"

    with pytest.raises(NotInVirtualTime, match=r"loop\.create_connection"):
        run(main())


def test_the_first_refusal_is_the_one_that_is_raised():
    async def main():
        for outside in (use_a_thread, look_up):
            with contextlib.suppress(Exception):
                await outside()

    with pytest.raises(NotInVirtualTime, match="run_in_executor"):
        run(main())


def test_a_refusal_during_cleanup_does_not_cut_short_other_cleanup():
    cleaned_up = []

    async def worker(number):
        try:
            await asyncio.Event().wait()
        finally:
            if number == 0:
                with contextlib.suppress(Exception):
                    await use_a_thread()
            await asyncio.sleep(number + 1)
            cleaned_up.append(number)

    async def main():
        workers = [asyncio.create_task(worker(number)) for number in range(3)]
        await asyncio.sleep(1)
        return workers

    with pytest.raises(NotInVirtualTime):
        run(main())
    assert cleaned_up == [0, 1, 2]


def test_an_earlier_error_outranks_a_refusal_during_cleanup_and_mentions_it():
    async def main():
        try:
            raise KeyError("the real reason")
        finally:
            background.append(asyncio.create_task(cleanup_with_a_thread()))
            await asyncio.sleep(0)

    async def cleanup_with_a_thread():
        try:
            await asyncio.Event().wait()
        finally:
            await use_a_thread()

    background: list[asyncio.Task[None]] = []
    with pytest.raises(KeyError, match="the real reason") as caught:
        run(main())
    assert "while the run was shut down: loop.run_in_executor()" in caught.value.__notes__[0]
    background.clear()


def test_a_refusal_before_the_run_is_an_ordinary_error():
    loop = VirtualLoop()
    with pytest.raises(NotInVirtualTime):
        loop.add_signal_handler(2, print)
    assert loop.run_until_complete(asyncio.sleep(1, "fine")) == "fine"
    loop.close()


def test_threads_are_refused_with_both_alternatives():
    with pytest.raises(NotInVirtualTime, match=r'asyncio\.to_thread.*executor="inline".*move the work out'):
        run(use_a_thread())


def test_another_thread_cannot_wake_the_loop():
    refused = []

    async def main():
        loop = asyncio.get_running_loop()

        def wake():
            try:
                loop.call_soon_threadsafe(print)
            except NotInVirtualTime as error:
                refused.append(str(error))

        thread = threading.Thread(target=wake)
        thread.start()
        thread.join()
        await asyncio.sleep(1)
        return "nonsense"

    with pytest.raises(NotInVirtualTime, match=r"call_soon_threadsafe\(\) from another thread"):
        run(main())
    assert len(refused) == 1


def test_call_soon_threadsafe_works_from_the_loops_own_thread_and_before_the_run():
    loop = VirtualLoop()
    log: list[str] = []
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(log.append, "before"))
    thread.start()
    thread.join()

    async def main():
        loop.call_soon_threadsafe(log.append, "during")
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    loop.close()
    assert log == ["before", "during"]


# --- executor="inline" ---------------------------------------------------------------------------------------------


def test_inline_executors_run_on_the_loops_thread_in_no_virtual_time():
    async def main():
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor())
        thread = await asyncio.to_thread(threading.get_ident)
        also = await loop.run_in_executor(None, threading.get_ident)
        return {thread, also}, loop.time()

    assert run(main(), executor="inline") == ({threading.get_ident()}, 0.0)


def test_an_inline_function_sees_no_running_loop_and_may_run_one():
    def in_thread():
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        return run(asyncio.sleep(5, "inner"))

    async def main():
        result = await asyncio.to_thread(in_thread)
        await asyncio.sleep(1)
        return result, asyncio.get_running_loop().time()

    assert run(main(), executor="inline") == ("inner", 1.0)


def test_an_inline_function_hands_on_its_exception():
    def fail():
        raise KeyError("x")

    async def main():
        with pytest.raises(KeyError):
            await asyncio.to_thread(fail)
        return "handled"

    assert run(main(), executor="inline") == "handled"


def test_a_default_executor_is_refused_as_a_run_in_it_would_be():
    async def main():
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())

    with pytest.raises(NotInVirtualTime, match=r"loop\.set_default_executor"):
        run(main())


def test_an_unknown_executor_is_refused_at_once():
    with pytest.raises(ValueError, match='executor must be "forbid" or "inline", got \'thread\''):
        run(asyncio.sleep(1), executor="thread")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="executor must be"):
        VirtualLoop(executor="thread")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["1", float("nan"), -1])
@pytest.mark.parametrize("name", ["max_time", "max_steps", "livelock_after"])
def test_a_bound_that_is_none_is_refused_at_once(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a number, 0 or more, or None for no bound, got"):
        VirtualLoop(**{name: value})


@pytest.mark.parametrize("start", ["1", float("nan"), float("inf")])
def test_a_start_that_is_no_time_is_refused_at_once(start):
    with pytest.raises(ValueError, match="start must be a finite number of seconds, got"):
        VirtualLoop(start)
