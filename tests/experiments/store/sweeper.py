"""A program that runs small sweeps into a store, each in a process of its own that can be killed at any instant.

It reads one JSON line for each sweep and answers with how the process ended. The processes are forked from this one,
which has everything imported and nothing started, so that a hundred of them take seconds.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from llmlab.experiments import store as store_package
from llmlab.experiments.store import RunBatch, Store, run_key
from tests.experiments.store.stores import experiments
from tests.kill.moments import kill_at_line

HERE = str(Path(store_package.__file__).parent)
FULL = 3
"""Exit code: the disk was full."""
RUNS, RUNS_PER_BATCH = 6, 2


def sweep(path: str) -> None:
    """Make the runs that are not in the store yet."""
    store = Store(path)
    done = store.finished()
    missing = [one for one in experiments(RUNS) if run_key(one) not in done]
    for start in range(0, len(missing), RUNS_PER_BATCH):
        store.write(RunBatch.of([(run_key(one), one.record()) for one in missing[start : start + RUNS_PER_BATCH]]))


def child(order: dict[str, Any]) -> None:
    """Carry out an order in this process, and end it."""
    code = 1
    try:
        if "bytes" in order:
            resource.setrlimit(resource.RLIMIT_FSIZE, (order["bytes"], order["bytes"]))
        if "line" in order:
            kill_at_line(order["line"], HERE)
        sweep(order["path"])
        code = 0
    except OSError as error:
        full = "could not be stored; what was stored before is safe" in str(error)
        code = FULL if full else 1
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(code)


def main() -> None:
    """Carry out orders until there are no more."""
    for line in sys.stdin:
        orders = json.loads(line)
        children = []
        for order in orders:
            pid = os.fork()
            if pid == 0:
                child(order)
            children.append(pid)
        for pid, order in zip(children, orders, strict=True):
            if "seconds" in order:
                time.sleep(order["seconds"])
                os.kill(pid, signal.SIGKILL)
        ended = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
        print(json.dumps(ended), flush=True)


if __name__ == "__main__":
    main()
