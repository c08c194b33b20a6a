"""A pytest fixture, `virtual_time`, for tests of code that sleeps: an hour of it passes in a moment.

    def test_gives_up_after_an_hour(virtual_time):
        assert virtual_time.run(client()) is None

    async def test_gives_up_after_an_hour(virtual_time):  # the test itself runs on virtual time
        await asyncio.sleep(3600)

`@pytest.mark.virtual_time(max_time=60, executor="inline")` sets the options of `run()` for a test, and alone (without
the fixture) puts an async test on virtual time. No other plugin is needed; async fixtures are not run. Under
pytest-asyncio in auto mode, which takes every async test for itself, use `virtual_time.run()`.

Installed with llmlab by its entry point; nothing but pytest and `llmlab.virtual_time` is imported.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from llmlab.virtual_time.runner import run

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

_MARK = "virtual_time"


class VirtualTime:
    """What the fixture gives: `run()`, with the options of the test's mark as defaults."""

    def __init__(self, **options: Any) -> None:
        self._options = options

    def run(self, main: Coroutine[Any, Any, T], **options: Any) -> T:
        """Run a coroutine on virtual time, from 0 s on; options as for `llmlab.virtual_time.run`."""
        return run(main, **(self._options | options))


@pytest.fixture
def virtual_time(request: pytest.FixtureRequest) -> VirtualTime:
    """Run coroutines on virtual time: `virtual_time.run(main())`; see `llmlab.virtual_time.pytest_plugin`."""
    return _virtual_time_of(request.node)


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known, for `--strict-markers`."""
    config.addinivalue_line(
        "markers",
        "virtual_time(**options): run this async test on virtual time; options as for llmlab.virtual_time.run()",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an async test that has the fixture or the mark; leave every other test to pytest."""
    asked_for = "virtual_time" in pyfuncitem.fixturenames or pyfuncitem.get_closest_marker(_MARK) is not None
    if not asked_for or not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    _virtual_time_of(pyfuncitem).run(pyfuncitem.obj(**arguments))
    return True


def _virtual_time_of(node: pytest.Item) -> VirtualTime:
    options: dict[str, Any] = {}
    for mark in reversed(list(node.iter_markers(_MARK))):  # the nearest mark last, so that it wins over its module's
        options |= mark.kwargs
    return VirtualTime(**options)
