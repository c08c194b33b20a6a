"""The proof that a virtual loop behaves like asyncio's own: CPython's tests of asyncio, run on it.

They come with the interpreter (`test.test_asyncio`); `cpython_suite_runner.py` runs them on virtual loops. What is left
out is listed here, each with its reason, and the number of tests that ran is pinned from below, so that the proof
cannot shrink unnoticed.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

if importlib.util.find_spec("test.test_asyncio") is None:
    pytest.skip("this Python comes without its own tests (test.test_asyncio)", allow_module_level=True)

pytestmark = pytest.mark.slow

_RUNNER = Path(__file__).with_name("cpython_suite_runner.py")
_ROOT = _RUNNER.parents[2]

_NETWORK = "needs sockets, which a virtual loop refuses"
_PIPES = "needs pipes, ptys or file descriptors, which a virtual loop refuses"
_SIGNALS = "needs loop.add_signal_handler, which a virtual loop refuses"

# How many tests run on 3.11.7, 3.12.1 and 3.13.0; later releases have more, never fewer.
_AT_LEAST = {
    "test_context": (1, 1, 1),
    "test_eager_task_factory": (0, 39, 40),  # eager tasks came with 3.12
    "test_events": (11, 11, 11),
    "test_futures": (155, 155, 162),
    "test_futures2": (3, 7, 7),
    "test_locks": (70, 70, 75),
    "test_queues": (44, 44, 59),
    "test_staggered": (0, 0, 5),  # came with 3.13
    "test_taskgroups": (35, 35, 39),
    "test_tasks": (898, 930, 962),
    "test_threads": (6, 6, 6),
    "test_timeouts": (32, 32, 34),
    "test_waitfor": (15, 19, 19),
}

_EXCLUDED = {
    "test_tasks": {
        "RunCoroutineThreadsafeTests.*": "a second thread waits for the loop to run: no meaning in virtual time",
        "*.test_stop_while_run_in_complete": "expects the suite's TestLoop to move time once more after stop(): "
        "0.3 s after two sleeps of 0.1 s; a virtual clock stands at 0.2 s",
        "CoroutineGatherTests.test_issue46672": "replaces a method of asyncio.BaseEventLoop: a virtual loop is none",
    },
    "test_events": {
        "*.test_create_*": _NETWORK,
        "*.test_*connect_accepted_socket*": _NETWORK,
        "*.test_server_close": _NETWORK,
        "*.test_*datagram*": _NETWORK,
        "*.test_prompt_cancellation": _NETWORK,
        "*.test_*pipe*": _PIPES,
        "*.test_*pty*": _PIPES,
        "*.test_reader_callback": _PIPES,
        "*.test_writer_callback": _PIPES,
        "*.test_remove_fds_after_closing": _PIPES,
        "*.test_*signal*": _SIGNALS,
        "*.test_run_in_executor": "asserts that the function ran in another thread; here it runs inline",
        "*.test_timeout_rounding": "counts calls of BaseEventLoop._run_once, which a virtual loop does not have",
        "*.test_internal_fds": "is about the selector",
    },
}


def _report(module):
    excluded = _EXCLUDED.get(module, {})
    done = subprocess.run(
        [sys.executable, str(_RUNNER), module],
        input=json.dumps(list(excluded)),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=_ROOT,
        env=os.environ | {"PYTHONPATH": str(_ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


_COLUMN = min(sys.version_info.minor, 13) - 11
_NEEDS_A_DEBUG_BUILD = "CTask_CFuture_Tests.test_refleaks_in_task___init__: "


@pytest.mark.parametrize("module", [module for module, counts in _AT_LEAST.items() if counts[_COLUMN]])
def test_asyncios_own_tests_pass_on_a_virtual_loop(module):
    report = _report(module)
    assert report["failed"] == []
    assert report["ran"] >= _AT_LEAST[module][_COLUMN]
    assert [skip for skip in report["skipped"] if not skip.startswith(_NEEDS_A_DEBUG_BUILD)] == []
    assert report["loops"] >= report["ran"], "these tests ran, but not on virtual loops"
    needless = [pattern for pattern, matched in report["excluded"].items() if not matched]
    assert needless == [], "these exclusions exclude nothing"
