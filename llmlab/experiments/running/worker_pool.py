"""Worker processes behind the interface of `concurrent.futures`, each of which may die without harm to the others.

The standard library's pool gives up all jobs when one process dies, imports the main script in every worker, leaves
its workers behind when it is killed, and hands them the terminal's Ctrl-C. Here each process is a program of its own
(`worker_process.py`) with a thread that talks to it through pipes: a dead process costs the job that it had, and is
replaced; an interrupt reaches the parent alone; and a worker ends with its parent, whatever ended that.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, TypeVar

import cloudpickle

from llmlab.experiments.running.worker_process import read_messages, write_message

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec

    P = ParamSpec("P")

T = TypeVar("T")
_MODULE = "llmlab.experiments.running.worker_process"
_Job = tuple[Future[Any], bytes]


class WorkerDied(RuntimeError):
    """A worker process ended in the middle of a job; the message says by which signal or exit code."""


class WorkersBroken(BrokenExecutor):
    """Worker processes cannot be started."""


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class WorkerPool(Executor):
    """Runs functions in so many processes, which are started when they are needed.

    A function and its arguments are pickled when they are submitted (by cloudpickle, so that what a notebook or a
    script defines may be among them), and a result by pickle. If its process dies, a job's future raises
    `WorkerDied`; `WorkersBroken` if none could be started.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have `fn(*args, **kwargs)` run in a worker process.

        Raises:
            RuntimeError: the pool is closed. Whatever pickling raises, where something cannot be sent.
        """
        job = cloudpickle.dumps((fn, args, kwargs), protocol=pickle.HIGHEST_PROTOCOL)
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("the pool of worker processes is closed")
            self._jobs.put((future, job))
            if len(self._threads) < self._workers:  # a thread starts its process with its first job
                thread = threading.Thread(target=self._serve, name="llmlab worker", daemon=True)
                self._threads.append(thread)
                thread.start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more jobs, and end the processes when those that were taken are done."""
        with self._lock:
            self._closed = True
            threads = list(self._threads)
        if cancel_futures:
            self._cancel_all()
        for _ in threads:
            self._jobs.put(None)
        if wait:
            for thread in threads:
                thread.join()

    def kill(self) -> None:
        """End all processes now, in the middle of their jobs; returns when they are gone."""
        with self._lock:
            self._closed = True
            processes = list(self._processes)
        self._cancel_all()
        for process in processes:
            process.kill()
        self.shutdown()

    def _cancel_all(self) -> None:
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return
            if job is not None and job[0].cancel():
                job[0].set_running_or_notify_cancel()  # which tells those who wait for it

    def _serve(self) -> None:
        process: _Process | None = None
        while (job := self._jobs.get()) is not None:
            future, message = job
            if future.set_running_or_notify_cancel():
                process = self._answer(future, message, process)
            del job, future, message  # a result is not kept while the next job is waited for
        if process is not None:
            process.close()
            self._processes.discard(process.popen)

    def _answer(self, future: Future[Any], message: bytes, process: _Process | None) -> _Process | None:
        """Have a job done, and return the process for the next one."""
        try:
            if process is None:
                process = self._started()
            value, error = process.ask(message)
        except (WorkerDied, WorkersBroken) as died:
            if process is not None:
                self._processes.discard(process.popen)
            future.set_exception(died)
            return None
        except Exception as unreadable:  # noqa: BLE001 - whatever unpickling a result raises
            future.set_exception(unreadable)
            return process
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)
        return process

    def _started(self) -> _Process:
        with self._lock:  # so that kill() meets every process
            if self._closed:
                raise WorkersBroken("the pool of worker processes was closed")
            process = _Process()
            self._processes.add(process.popen)
        process.await_ready()
        return process


class _Process:
    """One worker process. Its own process group keeps the terminal's Ctrl-C, and the kernel's interrupt, from it."""

    def __init__(self) -> None:
        options: dict[str, Any] = {
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "env": {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},  # what this process can import, it can
        }
        if os.name == "nt":
            options["creationflags"] = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
        else:
            options["process_group"] = 0
        command = [sys.executable, "-P", "-m", _MODULE]
        try:
            self.popen: subprocess.Popen[bytes] = subprocess.Popen(command, **options)  # noqa: S603 - our own program
        except OSError as error:
            raise WorkersBroken(f"no worker process can be started: {error}") from None
        self._stdin: IO[bytes] = self.popen.stdin  # type: ignore[assignment]
        self._stdout: IO[bytes] = self.popen.stdout  # type: ignore[assignment]
        self._results = read_messages(self._stdout)

    def await_ready(self) -> None:
        try:
            self._receive()
        except WorkerDied as died:
            raise WorkersBroken(f"no worker process can be started: {died}") from None

    def ask(self, message: bytes) -> tuple[Any, BaseException | None]:
        self._send(message)
        answer: tuple[Any, BaseException | None] = pickle.loads(self._receive())  # noqa: S301 - from our own process
        return answer

    def close(self) -> None:
        for pipe in (self._stdin, self._stdout):
            with suppress(OSError):  # what is still in the buffer for a process that died
                pipe.close()
        self.popen.wait()

    def _send(self, message: bytes) -> None:
        try:
            write_message(self._stdin, message)
        except OSError:
            raise self._died() from None

    def _receive(self) -> bytes:
        message = next(self._results, None)
        if message is None:
            raise self._died()
        return message

    def _died(self) -> WorkerDied:
        self.close()
        code = self.popen.returncode
        if code >= 0:
            return WorkerDied(f"the worker process ended with exit code {code}")
        name = next((each.name for each in signal.Signals if each == -code), f"signal {-code}")
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return WorkerDied(f"the worker process was ended by {name}{hint}")
