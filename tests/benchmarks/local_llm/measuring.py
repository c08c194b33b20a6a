"""Measures the candidates in turns, so that what the machine does meanwhile falls on all of them alike."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, NamedTuple

from llmlab import AsyncLocalLLM
from tests.benchmarks.local_llm.candidates import BARE, CANDIDATES, PROMPT, SYNC_CANDIDATES
from tests.benchmarks.local_llm.serving import MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.benchmarks.local_llm.candidates import Call


class Cost(NamedTuple):
    """What a call costs: microseconds of time and of the client's CPU, and both as multiples of bare httpx's."""

    us: float
    cpu_us: float
    times_bare: float
    cpu_times_bare: float


class Crowd(NamedTuple):
    """What came of many calls at once: the outcomes by reason ("ok"), the seconds."""

    outcomes: Counter[str]
    seconds: float


async def costs(url: str, concurrency: int, rounds: int, calls: int) -> dict[str, Cost]:
    """Return the cost of a call by candidate, with `concurrency` users who each call again and again."""
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in CANDIDATES}

    async def batch(call: Call) -> None:
        async def user() -> None:
            for _ in range(calls // concurrency):
                await call()

        await asyncio.gather(*(user() for _ in range(concurrency)))

    async with AsyncExitStack() as stack:
        made = {name: await stack.enter_async_context(candidate(url)) for name, candidate in CANDIDATES.items()}
        for call in made.values():
            await batch(call)  # opens the connections
        for _ in range(rounds):
            for name, call in made.items():
                began, cpu = time.perf_counter(), time.process_time()
                await batch(call)
                rows[name].append((time.perf_counter() - began, time.process_time() - cpu))
    return _costs(rows, calls)


def sync_costs(url: str, rounds: int, calls: int) -> dict[str, Cost]:
    """Return the cost of a call by candidate, of the sync ones, one after another."""
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in SYNC_CANDIDATES}

    def batch(call: Callable[[], None]) -> None:
        for _ in range(calls):
            call()

    with ExitStack() as stack:
        made = {name: stack.enter_context(candidate(url)) for name, candidate in SYNC_CANDIDATES.items()}
        for call in made.values():
            batch(call)
        for _ in range(rounds):
            for name, call in made.items():
                began, cpu = time.perf_counter(), time.process_time()
                batch(call)
                rows[name].append((time.perf_counter() - began, time.process_time() - cpu))
    return _costs(rows, calls)


def _costs(rows: Mapping[str, list[tuple[float, float]]], calls: int) -> dict[str, Cost]:
    """Return medians over the rounds; the multiples are medians of each round's own, for load comes and goes."""

    def cost(mine: list[tuple[float, float]]) -> Cost:
        walls, cpus = zip(*mine, strict=True)
        ratios = [(wall / bare, cpu / bare_cpu) for (wall, cpu), (bare, bare_cpu) in zip(mine, rows[BARE], strict=True)]
        wall_ratio, cpu_ratio = (statistics.median(each) for each in zip(*ratios, strict=True))
        per_call = 1e6 / calls
        return Cost(statistics.median(walls) * per_call, statistics.median(cpus) * per_call, wall_ratio, cpu_ratio)

    return {name: cost(mine) for name, mine in rows.items()}


async def crowd(url: str, calls: int, limit: int) -> Crowd:
    """Make all calls at once through one client with a limit, without retries, and return what came of them."""
    async with AsyncLocalLLM(base_url=url, model=MODEL, max_concurrency=limit, max_retries=0) as llm:
        began = time.perf_counter()
        results = await asyncio.gather(*(llm.generate(PROMPT) for _ in range(calls)))
        seconds = time.perf_counter() - began
    return Crowd(Counter("ok" if result.ok else str(result.reason) for result in results), seconds)
