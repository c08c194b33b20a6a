"""The program in a worker process: it reads jobs from its standard input and writes results to its standard output.

A job is a function with its arguments, pickled by the process that started this one. Whatever the job itself prints
goes to the standard error. When the input ends, because the parent has closed it or is gone, this process ends at once.

It is started as `python -m`, so it never imports the script that runs the sweep: that needs no
`if __name__ == "__main__"`, and cannot start itself again.
"""

from __future__ import annotations

import os
import pickle
import queue
import struct
import sys
import threading
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LENGTH = struct.Struct("<Q")


def write_message(file: IO[bytes], message: bytes) -> None:
    """Write one message: its length, then its bytes."""
    file.write(_LENGTH.pack(len(message)))
    file.write(message)
    file.flush()


def read_messages(file: IO[bytes]) -> Iterator[bytes]:
    """Yield message after message, to the file's end; one that is cut off is none."""
    while len(head := file.read(_LENGTH.size)) == _LENGTH.size:
        length: int = _LENGTH.unpack(head)[0]
        message = file.read(length)
        if len(message) < length:
            return
        yield message


def main() -> None:
    """Serve the parent until it closes the input."""
    jobs_file, results_file = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)  # a job that reads the standard input must not eat the next job
    os.dup2(2, 1)
    sys.modules["httpx._main"] = None  # type: ignore[assignment] # its command line, which takes a third of our start
    jobs: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(jobs_file, jobs), daemon=True).start()
    write_message(results_file, b"ready")
    while True:
        write_message(results_file, _answer(jobs.get()))


def _listen(file: IO[bytes], jobs: queue.SimpleQueue[bytes]) -> None:
    for message in read_messages(file):
        jobs.put(message)
    os._exit(0)  # in the middle of a job, if need be: nobody waits for its result any more


def _answer(job: bytes) -> bytes:
    """Do a job, and return what is sent back: its result and `None`, or `None` and what it raised."""
    try:
        function, arguments, keywords = pickle.loads(job)  # noqa: S301 - from the parent process, over a pipe
        return pickle.dumps((function(*arguments, **keywords), None), pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001 - raised where the result is asked for
        try:
            answer = pickle.dumps((None, error))
            pickle.loads(answer)  # noqa: S301 - an exception may pickle, and refuse the way back
        except Exception:  # noqa: BLE001 - in whatever way
            return pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}")))
        return answer


if __name__ == "__main__":
    main()
