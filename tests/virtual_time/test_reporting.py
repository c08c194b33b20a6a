"""The exception handler: asyncio's contract."""

import asyncio
import contextvars
import gc
import logging

import pytest

from llmlab.virtual_time import VirtualLoop


@pytest.fixture
def loop():
    loop = VirtualLoop()
    yield loop
    loop.close()


def test_the_default_handler_logs_to_asyncios_logger(loop, caplog):
    error = KeyError("x")
    loop.call_exception_handler({"message": "went wrong", "exception": error, "future": "a future"})
    (record,) = caplog.records
    assert (record.name, record.levelno, record.exc_info[1]) == ("asyncio", logging.ERROR, error)
    assert record.getMessage() == "went wrong\nfuture: 'a future'"


def test_a_task_that_fails_unseen_is_logged(loop, caplog):
    async def fail():
        raise KeyError("unseen")

    async def main():
        asyncio.create_task(fail())  # noqa: RUF006 - to be lost is its purpose
        await asyncio.sleep(1)
        gc.collect()

    loop.run_until_complete(main())
    assert "Task exception was never retrieved" in caplog.text
    assert "KeyError: 'unseen'" in caplog.text


def test_debug_mode_says_where_a_future_was_made(loop, caplog):
    loop.set_debug(True)
    loop.create_future().set_exception(KeyError("unseen"))
    gc.collect()
    assert "source_traceback: Object created at (most recent call last):" in caplog.text
    assert "test_reporting.py" in caplog.text


def test_a_handler_of_ones_own_replaces_the_log(loop, caplog):
    contexts = []
    handler = lambda _loop, context: contexts.append(context)  # noqa: E731
    loop.set_exception_handler(handler)
    assert loop.get_exception_handler() is handler
    loop.call_exception_handler({"message": "went wrong"})
    assert (contexts, caplog.records) == ([{"message": "went wrong"}], [])
    loop.set_exception_handler(None)
    assert loop.get_exception_handler() is None
    with pytest.raises(TypeError, match="callable object or None"):
        loop.set_exception_handler("nonsense")


def test_a_handler_that_fails_is_reported_itself(loop, caplog):
    def broken(_loop, _context):
        raise ZeroDivisionError

    loop.set_exception_handler(broken)
    loop.call_exception_handler({"message": "went wrong"})
    assert "Unhandled error in exception handler" in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert "went wrong" in caplog.text


def test_a_default_handler_that_fails_is_reported_too(caplog):
    class Broken(VirtualLoop):
        def default_exception_handler(self, context):
            raise ZeroDivisionError

    loop = Broken()
    loop.call_exception_handler({"message": "went wrong"})
    loop.close()
    assert "Exception in default exception handler" in caplog.text


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("by_default", [True, False])
def test_a_handler_may_exit(error, by_default):
    class Leaves(VirtualLoop):
        def default_exception_handler(self, context):
            raise error

    loop = Leaves()
    if not by_default:
        loop.set_exception_handler(Leaves.default_exception_handler)
    with pytest.raises(error):
        loop.call_exception_handler({"message": "went wrong"})
    loop.close()


def test_the_handler_of_a_callbacks_failure_runs_in_the_callbacks_context(loop):
    variable = contextvars.ContextVar("variable", default="outside")
    seen = []
    loop.set_exception_handler(lambda _loop, _context: seen.append(variable.get()))
    context = contextvars.copy_context()
    context.run(variable.set, "inside")
    loop.call_soon(lambda: 1 / 0, context=context)
    loop.call_later(1, loop.stop)
    loop.run_forever()
    assert seen == ["inside"]
