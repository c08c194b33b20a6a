"""`python -m tests.benchmarks.monitor`: what a `LiveMonitor` adds to a client's calls, in CPU time of the process.

To attach and to close are not counted, since they come once. With and without take turns in one run. Given are the
ratio of the fastest run of each, which a busy machine disturbs least, and the median and quartiles of the ratios of
neighbours, which say how much it was disturbed. The page is drawn twice a second as in a notebook; there is no front
end to send it to. Calls over HTTP go to the fault server in a process of its own; those in memory are simulated,
where a call costs next to nothing and any observer at all shows.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
from contextlib import nullcontext
from time import process_time
from typing import TYPE_CHECKING, Any

from llmlab import AsyncLocalLLM, AsyncMockLLM, LocalLLM, MockLLM, virtual_time
from llmlab.widgets import LiveMonitor
from tests.benchmarks.local_llm.serving import MODEL, served

if TYPE_CHECKING:
    from collections.abc import Callable

HTTP_CALLS, MEMORY_CALLS, USERS = 400, 20_000, 16


def _watched(client: Any, *, watch: bool) -> Any:
    return LiveMonitor(client) if watch else nullcontext()


def over_http(url: str) -> Callable[[bool], float]:
    """Return the async client's calls over HTTP, 16 at once."""

    async def calls(*, watch: bool) -> float:
        async with AsyncLocalLLM(base_url=url, model=MODEL, max_concurrency=USERS) as llm:
            await llm.generate("warm up")
            with _watched(llm, watch=watch):
                began = process_time()
                await llm.generate_many(["Why is the sky blue?"] * HTTP_CALLS)
                return (process_time() - began) / HTTP_CALLS

    return lambda watch: asyncio.run(calls(watch=watch))


def over_http_sync(url: str) -> Callable[[bool], float]:
    """Return the sync client's calls over HTTP, one after another."""
    llm = LocalLLM(base_url=url, model=MODEL)

    def calls(watch: bool) -> float:
        with _watched(llm, watch=watch):
            began = process_time()
            for _ in range(HTTP_CALLS):
                llm.generate("Why is the sky blue?")
            return (process_time() - began) / HTTP_CALLS

    return calls


def in_memory(watch: bool) -> float:
    """Make simulated calls of the async client in virtual time."""

    async def calls() -> float:
        llm = AsyncMockLLM()
        with _watched(llm, watch=watch):
            began = process_time()
            await llm.generate_many(["Hi"] * MEMORY_CALLS, concurrency=USERS)
            return (process_time() - began) / MEMORY_CALLS

    return virtual_time.run(calls())


def in_memory_sync(watch: bool) -> float:
    """Make simulated calls of the sync client, one after another."""
    with MockLLM() as llm, _watched(llm, watch=watch):
        began = process_time()
        for _ in range(MEMORY_CALLS):
            llm.generate("Hi")
        return (process_time() - began) / MEMORY_CALLS


def measure(name: str, calls: Callable[[bool], float], rounds: int) -> None:
    """Print what the calls of a client cost, and how much more while they are watched."""
    costs: dict[bool, list[float]] = {False: [], True: []}
    calls(True)
    for number in range(rounds):
        for watch in (False, True) if number % 2 else (True, False):
            costs[watch].append(calls(watch) * 1e6)
    fastest = min(costs[True]) / min(costs[False])
    ratios = [watched / bare for bare, watched in zip(costs[False], costs[True], strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    more = [f"{100 * (ratio - 1):+.1f}%" for ratio in (fastest, statistics.median(ratios), low, high)]
    print(f"| {name} | {min(costs[False]):.1f} | {more[0]} | {more[1]} ({more[2]} to {more[3]}) |", flush=True)


def main() -> None:
    """Measure and print everything."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.monitor", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="pairs of runs (default: %(default)s)")
    rounds = parser.parse_args().rounds
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} cores, load {load}\n")
    print("| calls | CPU us, unwatched | watched, fastest | watched, median (quartiles) |\n| --- | --- | --- | --- |")
    with served() as url:
        measure("AsyncLocalLLM over HTTP, 16 at once", over_http(url), rounds)
        measure("LocalLLM over HTTP, one after another", over_http_sync(url), rounds)
    measure("MockLLM, simulated, one after another", in_memory_sync, rounds)
    measure("AsyncMockLLM, simulated, 16 at once", in_memory, rounds)


if __name__ == "__main__":
    main()
