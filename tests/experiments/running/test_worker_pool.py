import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import wait

import pytest

from llmlab.experiments.running.worker_pool import WorkerDied, WorkerPool, WorkersBroken


def pid():
    return os.getpid()


def alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_jobs_run_in_other_processes_and_their_exceptions_come_back():
    with WorkerPool(1) as pool:
        other = pool.submit(os.getpid)
        wrong = pool.submit(int, "x")
        by_value = pool.submit(lambda number: number + 1, 2)
        unpicklable = pool.submit(lambda: (_ for _ in ()))
        assert other.result() != os.getpid()
        with pytest.raises(ValueError, match="invalid literal"):
            wrong.result()
        assert by_value.result() == 3
        with pytest.raises(TypeError, match="cannot pickle"):
            unpicklable.result()
    assert not alive(other.result())
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit(os.getpid)


def test_a_dead_process_costs_its_own_job_alone_and_is_replaced():
    with WorkerPool(1) as pool:
        first, exits, killed, last = (
            pool.submit(job, *arguments)
            for job, *arguments in (
                (os.getpid,), (os._exit, 7), (lambda: os.kill(os.getpid(), signal.SIGKILL),), (os.getpid,)
            )
        )  # fmt: skip
        with pytest.raises(WorkerDied, match="ended with exit code 7"):
            exits.result()
        with pytest.raises(WorkerDied, match=r"ended by SIGKILL \(out of memory\?\)"):
            killed.result()
        assert first.result() != last.result()


def test_what_a_job_prints_or_reads_does_not_disturb_the_pipes(capfd):
    def noisy():
        print("to the standard output")
        os.write(1, b"past Python\n")
        return sys.stdin.read()

    with WorkerPool(1) as pool:
        assert pool.submit(noisy).result() == ""
        assert pool.submit(pid).result()
    shown = capfd.readouterr()
    assert "past Python" in shown.err
    assert shown.out == ""


def test_to_kill_the_pool_ends_jobs_in_their_middle_and_leaves_no_process():
    pool = WorkerPool(2)
    process = pool.submit(os.getpid).result()
    jobs = [pool.submit(time.sleep, 1000) for _ in range(4)]
    pool.kill()
    assert not alive(process)
    wait(jobs)
    assert all(job.cancelled() or isinstance(job.exception(), WorkerDied | WorkersBroken) for job in jobs)


def test_processes_that_cannot_start_are_said_to_be_so(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with WorkerPool(1) as pool, pytest.raises(WorkersBroken, match="no worker process can be started"):
        pool.submit(os.getpid).result()


@pytest.mark.skipif(os.name == "nt", reason="signals are a POSIX thing")
def test_a_worker_in_the_middle_of_a_job_ends_with_its_parent_whatever_ended_that():
    program = textwrap.dedent(
        """
        import os, time
        from llmlab.experiments.running.worker_pool import WorkerPool
        pool = WorkerPool(1)
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 1000)
        time.sleep(1000)
        """
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        worker = int(parent.stdout.readline())
        assert alive(worker)
        parent.kill()
    deadline = time.monotonic() + 20
    while alive(worker):
        assert time.monotonic() < deadline, "the worker outlived its parent"
        time.sleep(0.01)


def test_a_worker_that_writes_to_a_store_loads_neither_pandas_nor_scipy(tmp_path):
    script = (
        "import sys\n"
        "from llmlab import ClosedLoop, Experiment\n"
        "from llmlab.experiments.running.perform import perform_batch\n"
        "from llmlab.experiments.running.sink import Sink\n"
        "from llmlab.experiments.store.store import Store\n"
        "experiment = Experiment(workload=ClosedLoop(calls=5))\n"
        "perform_batch([(0, 'key', experiment)], Sink(Store(sys.argv[1]), 'events'))\n"
        "print(len(Store(sys.argv[1]).finished()), {'pandas', 'scipy'} & set(sys.modules))\n"
    )
    run = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    assert run.stdout == "1 set()\n"
