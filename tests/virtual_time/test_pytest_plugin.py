"""The fixture and the mark, in a pytest of their own."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run_pytest(tmp_path):
    """Run a test file in a fresh pytest that has this plugin and no other; the outcomes and the output."""

    def run_pytest(source):
        (tmp_path / "test_it.py").write_text("import asyncio\nimport pytest\n" + source)
        command = [sys.executable, "-m", "pytest", "-p", "llmlab.virtual_time.pytest_plugin", "--strict-markers"]
        done = subprocess.run(
            [*command, "-p", "no:cacheprovider", "-W", "error", "-q", "-rA", "test_it.py"],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""},
        )
        outcomes = {}
        for line in done.stdout.splitlines():
            outcome, _, test = line.partition(" test_it.py::")
            if test and outcome in ("PASSED", "FAILED", "ERROR"):
                outcomes[test.split(" ")[0]] = outcome
        return outcomes, done.stdout

    return run_pytest


def test_the_fixture_runs_coroutines_and_async_tests(run_pytest):
    outcomes, output = run_pytest("""
async def hour():
    await asyncio.sleep(3600)
    return asyncio.get_running_loop().time()

def test_sync(virtual_time):
    assert virtual_time.run(hour()) == 3600

def test_options(virtual_time):
    assert virtual_time.run(hour(), start=10) == 3610

async def test_async(virtual_time):
    assert await hour() == 3600

async def test_async_that_fails(virtual_time):
    assert await hour() == 1

@pytest.fixture
def other():
    return 5

@pytest.mark.parametrize("x", [1, 2])
async def test_async_with_other_arguments(virtual_time, other, x):
    await asyncio.sleep(x)
    assert (asyncio.get_running_loop().time(), other) == (x, 5)

async def test_that_hangs(virtual_time):
    await asyncio.Event().wait()

class TestClass:
    async def test_method(self, virtual_time):
        assert await hour() == 3600
""")
    assert outcomes == {
        "test_sync": "PASSED",
        "test_options": "PASSED",
        "test_async": "PASSED",
        "test_async_that_fails": "FAILED",
        "test_async_with_other_arguments[1]": "PASSED",
        "test_async_with_other_arguments[2]": "PASSED",
        "test_that_hangs": "FAILED",
        "TestClass::test_method": "PASSED",
    }, output
    assert "VirtualDeadlock: Deadlock at 0.0 s" in output


def test_the_mark_sets_options_and_the_nearest_one_wins(run_pytest):
    outcomes, output = run_pytest("""
pytestmark = pytest.mark.virtual_time(start=100, max_time=50)

async def test_mark_alone():
    await asyncio.sleep(10)
    assert asyncio.get_running_loop().time() == 110

@pytest.mark.virtual_time(start=7)
def test_with_the_fixture(virtual_time):
    async def main():
        await asyncio.sleep(10)
        return asyncio.get_running_loop().time()
    assert virtual_time.run(main()) == 17

async def test_limit():
    await asyncio.sleep(60)

@pytest.mark.virtual_time(executor="inline")
async def test_inline(virtual_time):
    assert await asyncio.to_thread(int, "3") == 3
""")
    assert outcomes == {
        "test_mark_alone": "PASSED",
        "test_with_the_fixture": "PASSED",
        "test_limit": "FAILED",
        "test_inline": "PASSED",
    }, output
    assert "VirtualTimeLimit: max_time=50" in output


def test_other_tests_are_left_alone(run_pytest):
    outcomes, output = run_pytest("""
def test_sync():
    pass

async def test_async_of_another_plugin():
    pass
""")
    assert outcomes["test_sync"] == "PASSED"
    assert outcomes.get("test_async_of_another_plugin") != "PASSED", output
    assert "async def functions are not natively supported" in output


def test_an_hour_passes_in_a_moment_in_this_pytest_too(virtual_time):
    assert virtual_time.run(asyncio.sleep(3600, "slept")) == "slept"


@pytest.mark.virtual_time(start=100)
async def test_an_async_test_of_this_pytest_is_on_virtual_time(virtual_time):
    await asyncio.sleep(3600)
    assert asyncio.get_running_loop().time() == 3700
    assert virtual_time.run(asyncio.sleep(10, "slept"), start=7) == "slept"


def test_the_plugin_is_cheap_to_import():
    program = (
        "import sys, pytest; before = set(sys.modules); import llmlab.virtual_time.pytest_plugin; "
        "heavy = {'pandas', 'numpy', 'pydantic', 'matplotlib', 'httpx'}; "
        "print(sorted(heavy & (set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.strip() == "[]"
