"""Run one module of the interpreter's own `test.test_asyncio` on virtual loops; the report is JSON on the last line.

A program of its own, because it replaces the event loop policy of a whole process. `test_cpython_suite.py` starts it,
and has the list of what is left out. Usage: python cpython_suite_runner.py MODULE < excluded.json
"""

from __future__ import annotations

import asyncio
import fnmatch
import importlib
import json
import sys
import unittest
from typing import TYPE_CHECKING, Any

from test.test_asyncio import utils as test_utils  # type: ignore[import-not-found]  # in no stubs

from llmlab.virtual_time import VirtualLoop, reporting
from llmlab.virtual_time.handles import VirtualHandle

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator


class SuiteLoop(VirtualLoop):
    """A virtual loop with what the suite expects of a loop beyond asyncio's interface."""

    _default_executor = None  # its `close_loop` looks at it

    def __init__(self) -> None:
        super().__init__(executor="inline", livelock_after=100_000)

    def advance_time(self, advance: float) -> None:
        self._now += advance


class ScriptedLoop(SuiteLoop):
    """The suite's `TestLoop`: a generator is told of every timer, and asserts the time it was armed for.

    Its answer is how far the time should now move; a virtual loop moves by itself, to the same times.
    """

    made = 0

    def __init__(self, script: Callable[[], Generator[float, float, None]] | None = None) -> None:
        super().__init__()
        ScriptedLoop.made += 1
        self._script = script() if script is not None else None
        if self._script is not None:
            next(self._script)

    def call_at(self, when, *call, context=None):  # type: ignore[override]
        handle = super().call_at(when, *call, context=context)
        if self._script is not None:
            self._script.send(when)
        return handle

    def _run_once(self) -> None:
        self.stop()
        self.run_forever()

    def close(self) -> None:
        super().close()
        if self._script is not None:
            try:
                self._script.send(0)
            except StopIteration:
                return
            raise AssertionError("fewer timers were armed than the script has")


class VirtualPolicy(asyncio.DefaultEventLoopPolicy):
    made = 0

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        VirtualPolicy.made += 1
        return SuiteLoop()


class _LoggerOfBaseEvents:
    """The suite watches asyncio's log by replacing `asyncio.base_events.logger`: look there."""

    def __getattr__(self, name):
        return getattr(vars(asyncio.base_events)["logger"], name)


def _new_test_loop(case: Any, script: Any = None) -> ScriptedLoop:
    loop = ScriptedLoop(script)
    case.set_event_loop(loop)
    return loop


def _cases(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from _cases(item)
        else:
            yield item


def _name(case: Any) -> str:
    """`Class.test`, which is how exclusions are written; unittest wraps subtests and broken modules in cases too."""
    case = getattr(case, "test_case", case)
    return ".".join(case.id().split(".")[-2:])


def main(module_name: str, excluded: list[str]) -> dict[str, Any]:
    asyncio.set_event_loop_policy(VirtualPolicy())
    test_utils.TestCase.new_test_loop = _new_test_loop
    VirtualHandle._cancelled = property(VirtualHandle.cancelled)  # type: ignore[attr-defined]  # what the suite reads
    reporting._logger = _LoggerOfBaseEvents()  # type: ignore[assignment]
    module = importlib.import_module(f"test.test_asyncio.{module_name}")
    if module_name == "test_events":  # its tests of loops, on ours; the rest of it tests policies and real handles
        members = {"create_event_loop": lambda _self: VirtualPolicy().new_event_loop()}
        tests_of_loops = type("VirtualLoopTests", (module.EventLoopTestsMixin, test_utils.TestCase), members)
        everything = list(_cases(unittest.defaultTestLoader.loadTestsFromTestCase(tests_of_loops)))
    else:
        everything = list(_cases(unittest.defaultTestLoader.loadTestsFromModule(module)))

    chosen = [case for case in everything if not _matches(case, excluded)]
    result = unittest.TestResult()
    unittest.TestSuite(chosen).run(result)
    return {
        "ran": result.testsRun - len(result.skipped),
        "loops": VirtualPolicy.made + ScriptedLoop.made,
        "skipped": [f"{_name(case)}: {reason}" for case, reason in result.skipped],
        "failed": [f"{_name(case)}: {trace}" for case, trace in result.failures + result.errors],
        "excluded": {pattern: sum(_matches(case, [pattern]) for case in everything) for pattern in excluded},
    }


def _matches(case: unittest.TestCase, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(_name(case), pattern) for pattern in patterns)


if __name__ == "__main__":
    report = main(sys.argv[1], json.load(sys.stdin))
    print(json.dumps(report))
