"""A sweep can be watched and stopped while it is carried out, and keeps what is finished."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import textwrap
from contextlib import aclosing

import pytest

from llmlab import ClosedLoop, Experiment, Procedure, Sweep
from llmlab.experiments.running.progress import ProgressBar
from llmlab.experiments.runs import FailedRun, Run
from tests.experiments.running.backends import Endless, Scripted

SHORT = ClosedLoop(calls=2, users=1)
NAMES = Sweep(Experiment(backend=Scripted(), workload=SHORT), {"backend.what": ["answer", "raise_", "fail"]})
posix = pytest.mark.skipif(os.name == "nt", reason="signals are a POSIX thing")


def endless(**settings):
    """A sweep that stays in its second run."""
    base = Experiment(backend=Endless(**settings), workload=SHORT)
    return Sweep(base, {"backend.number": [0, 1, 2]}, procedure=Procedure(order="grid"))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_callback_gets_each_run_when_it_has_ended(workers):
    seen = []
    result = NAMES.run(workers=workers, progress=False, on_point=seen.append)
    assert {type(run) for run in seen} == {Run, FailedRun}
    assert sorted(map(id, seen)) == sorted(map(id, [*result.runs, *result.failures]))


def test_a_callback_that_raises_is_reported_once_and_costs_nothing(caplog):
    def broken(run):
        raise RuntimeError("a bug of the dashboard's")

    with caplog.at_level(logging.ERROR, "llmlab"):
        assert len(NAMES.run(progress=False, on_point=broken).runs) == 2
    assert caplog.text.count("on_point raised") == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_runs_can_be_iterated_over_as_they_end_and_awaited(workers):
    async def main():
        streamed = [run async for run in NAMES.stream(workers=workers)]
        result = await NAMES.run_async(workers=workers, progress=False)
        return streamed, result

    streamed, result = asyncio.run(main())
    assert sorted(run.settings["backend.what"] for run in streamed) == ["answer", "fail", "raise_"]
    assert [run.settings["backend.what"] for run in result.runs] == ["answer", "fail"]
    assert not result.interrupted


@pytest.mark.parametrize("simulated", [True, False])
def test_cancelling_what_iterates_stops_a_run_in_its_middle(simulated):
    async def main():
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()
        sweep = endless(simulated=simulated, then=lambda: loop.call_soon_threadsafe(begun.set))
        seen = []

        async def watch():
            async for run in sweep.stream():
                seen.append(run)  # noqa: PERF401 - what is cancelled builds no list

        task = asyncio.create_task(watch())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return seen

    assert [run.settings["backend.number"] for run in asyncio.run(main())] == [0]


@pytest.mark.parametrize("workers", [1, 2])
def test_leaving_the_stream_early_leaves_nothing_behind(workers):
    async def main():
        async with aclosing(NAMES.stream(workers=workers)) as runs:
            async for _ in runs:
                break

    asyncio.run(main())
    assert _children() == []


@posix
def test_ctrl_c_in_a_terminal_ends_worker_processes_too_and_keeps_the_finished_runs():
    program = textwrap.dedent(
        """
        import asyncio, os, time
        from llmlab import Answer, ClosedLoop, Experiment, Sweep

        class Slow:
            simulated = True
            number = 0

            async def attempt(self, request, *, timeouts, key):
                if self.number > 1:
                    print(os.getpid(), flush=True)
                    time.sleep(1000)
                return Answer("ok")

        sweep = Sweep(Experiment(backend=Slow(), workload=ClosedLoop(calls=1)), {"backend.number": range(4)})
        result = sweep.run(workers=2, progress=False, on_point=lambda run: print("done", flush=True))
        print("kept", len(result.runs), result.stopped, flush=True)
        """
    )
    # A group of its own, which then gets the signal whole, as from a terminal. Workers print to the standard error.
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    ) as process:
        workers = [int(process.stderr.readline()) for _ in range(2)]
        assert [process.stdout.readline() for _ in range(2)] == [
            "done\n"
        ] * 2  # they have arrived, or none could be kept
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout.readline() == "kept 2 interrupted\n"
        assert process.wait() == 0
        assert process.stderr.read() == ""
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


def test_the_bar_counts_runs_and_says_how_many_failed(capsys):
    now = 0.0

    def clock():
        nonlocal now
        now += 1.0
        return now

    with ProgressBar(3, show=True) as bar:
        bar._bar._time = clock
        bar._bar.start_t = bar._bar.last_print_t = 0.0
        bar.finished(3, failed=False)
        bar.called()
        bar.called()
        assert "call 2 of this run" in str(bar._bar)
        bar.finished(3, failed=True)
        bar.finished(3, failed=False)
    shown = capsys.readouterr().err
    assert "3/3" in shown
    assert "runs/s" in shown or "s/ runs" in shown
    assert "1 failed" in shown
    assert "this run" not in shown.splitlines()[-1]


def _children():
    listing = subprocess.run(
        ["ps", "-o", "args=", "--ppid", str(os.getpid())], capture_output=True, text=True, check=False
    )
    return [line for line in listing.stdout.splitlines() if "worker_process" in line]
