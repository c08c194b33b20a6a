"""A program whose children do what is ordered, and are killed at an exact moment of it: a write, or a line of code.

It reads one JSON line for each order and answers with how the child ended. Children are forked from this process, which
has everything imported and nothing started, so that a hundred of them take seconds.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
import traceback
from pathlib import Path
from typing import Any

import llmlab.experiments
from llmlab import (
    Backoff,
    ClosedLoop,
    Experiment,
    FaultServer,
    JsonLinesObserver,
    LocalLLM,
    MockBackend,
    MockLLM,
    Sweep,
)

# Loaded now, and not by every child anew.
from llmlab.experiments.running import plan, sweep_run  # noqa: F401
from llmlab.experiments.store import store, stored_runs  # noqa: F401
from tests.kill.moments import kill_at_line

EXPERIMENTS = str(Path(llmlab.experiments.__file__).parent)
CALLS = 30
SWEEP = Sweep(
    Experiment(backend=MockBackend(overload_probability=0.3), workload=ClosedLoop(calls=10, users=3)),
    {"policy.retry.max_retries": [0, 1], "workload.users": [1, 3]},
    replicates=2,
)


def observe(path: str) -> None:
    """Make calls whose events go into a file."""
    with JsonLinesObserver(path) as observer:
        MockLLM(overload_probability=0.4, observers=[observer]).generate_many(["Hello"] * CALLS)


def record(path: str) -> None:
    """Serve calls, one after the other, and record them."""
    with FaultServer(MockBackend(latency=0.0, script=("overload",)), record=path) as server:
        llm = LocalLLM(base_url=server.url, model="m", backoff=Backoff(base=0.0))
        for _ in range(8):
            llm.generate("Hello")


def sweep(path: str) -> None:
    """Run what is missing of a sweep."""
    SWEEP.run(store=path, workers=1, progress=False)


WORK = {"observe": observe, "record": record, "sweep": sweep}


def kill_in_write(number: int, share: float) -> None:
    """Let the so-many-th write put down a share of its bytes only, and then kill this process."""
    write = os.write
    left = number

    def writing(file: int, data: bytes) -> int:
        nonlocal left
        if stat.S_ISREG(os.fstat(file).st_mode):  # a file, and no pipe of an event loop
            left -= 1
            if left == 0:
                write(file, data[: round(share * len(data))])
                os.kill(os.getpid(), signal.SIGKILL)
        return write(file, data)

    os.write = writing


def child(order: dict[str, Any]) -> None:
    """Carry out an order in this process, and end it."""
    code = 1
    try:
        if "write" in order:
            kill_in_write(order["write"], order["share"])
        if "line" in order:
            kill_at_line(order["line"], EXPERIMENTS)
        WORK[order["work"]](order["path"])
        code = 0
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(code)


def main() -> None:
    """Carry out orders until there are no more."""
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            child(order)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
