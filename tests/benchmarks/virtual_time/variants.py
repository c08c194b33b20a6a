"""The variants by name, and the process in which one of them runs.

`python -m tests.benchmarks.virtual_time.variants NAME` is such a process: it runs the variant once to warm up, then
once for every line `CALLS USERS` that it reads, and writes what that took as a line of JSON.
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.benchmarks.virtual_time.workload import Tally

_HERE = __package__ or "tests.benchmarks.virtual_time"


class Variant(NamedTuple):
    """A way to run W.

    `share` is the share of W's calls that it is given, where it is too slow for all. `needs` is the package that it
    needs. `is_w` says whether it is W itself, and so must agree with the others.
    """

    what: str
    module: str
    function: str = "run"
    needs: str = ""
    share: float = 1.0
    is_w: bool = True

    def load(self) -> Callable[[int, int], Tally]:
        """Import the function that runs it."""
        run: Callable[[int, int], Tally] = getattr(importlib.import_module(f"{_HERE}.{self.module}"), self.function)
        return run


VARIANTS: dict[str, Variant] = {
    "bare": Variant("bare heap of generators, no client", "bare_heap"),
    "llmlab": Variant("llmlab", "llmlab_client"),
    "stock": Variant("llmlab's client, stock asyncio loop with a fake selector", "stock_loop"),
    "naive": Variant("naive client, stock asyncio loop with a fake selector", "naive_client"),
    "solipsism": Variant("llmlab's client, async-solipsism", "other_loops", "run_solipsism", "async_solipsism"),
    "looptime": Variant("llmlab's client, looptime", "other_loops", "run_looptime", "looptime", share=0.1),
    "trio": Variant("trio's MockClock", "trio_program", needs="trio"),
    "simpy": Variant("SimPy, idiomatic", "simpy_models", needs="simpy"),
    "simpy_tuned": Variant("SimPy, tuned by hand", "simpy_models", "run_tuned", "simpy"),
    "rate_limited": Variant("llmlab, rate-limited", "llmlab_client", "run_rate_limited", is_w=False),
    "open": Variant("llmlab, open arrivals", "llmlab_client", "run_open", is_w=False),
    "everybody": Variant("llmlab, a slot for every user", "llmlab_client", "run_everybody_in_flight", is_w=False),
}


def serve(name: str) -> None:
    """Run a variant as often as standard input says."""
    run = VARIANTS[name].load()
    run(500, 64)
    for line in sys.stdin:
        calls, users = map(int, line.split())
        gc.collect()
        began = time.process_time()
        tally = run(calls, users)
        took = time.process_time() - began
        print(json.dumps({"cpu_s": took, "attempts": tally.attempts, "failed_calls": tally.failed_calls}), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
