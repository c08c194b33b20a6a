"""A heap of generators and nothing else: no client, no asyncio, no keyed draws. What plain Python can do at best."""

from __future__ import annotations

import random
from collections import deque
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from tests.benchmarks.virtual_time import workload as w

if TYPE_CHECKING:
    from collections.abc import Generator


def run(calls: int = w.CALLS, users: int = w.USERS) -> w.Tally:
    """Run W."""
    rng = random.Random(1)
    chance, lognormal = rng.random, rng.lognormvariate
    rows: list[tuple[int, int, float, float, bool]] = []
    waiting: deque[Generator[float | None, float, None]] = deque()
    heap: list[tuple[float, int, Generator[float | None, float, None]]] = []
    numbers = iter(range(calls))
    free = w.SLOTS
    arrivals = 0

    def user() -> Generator[float | None, float, None]:
        nonlocal free, arrivals
        now = yield 0.0
        for number in numbers:
            deadline = now + w.TOTAL_TIMEOUT_S
            for attempt in range(w.MAX_RETRIES + 1):
                if free:
                    free -= 1
                else:
                    waiting.append(current[0])
                    now = yield None
                start = now
                latency = lognormal(0.0, w.SIGMA) if chance() >= w.TIMEOUT_PROBABILITY else 1e9
                answered = latency < w.ATTEMPT_TIMEOUT_S
                now = yield start + (latency if answered else w.ATTEMPT_TIMEOUT_S)
                if waiting:
                    arrivals += 1
                    heappush(heap, (now, arrivals, waiting.popleft()))
                else:
                    free += 1
                rows.append((number, attempt, start, now, answered))
                if answered:
                    break
                backoff = chance() * min(w.BACKOFF_MAXIMUM_S, w.BACKOFF_BASE_S * 2**attempt)
                if attempt == w.MAX_RETRIES or now + backoff >= deadline:
                    break
                now = yield now + backoff

    current: list[Generator[float | None, float, None]] = []
    for _ in range(users):
        process = user()
        next(process)
        arrivals += 1
        heappush(heap, (0.0, arrivals, process))
    current.append(heap[0][2])
    while heap:
        now, _, process = heappop(heap)
        current[0] = process
        try:
            when = process.send(now)
        except StopIteration:
            continue
        if when is not None:
            arrivals += 1
            heappush(heap, (when, arrivals, process))
    return w.tally(rows, calls)
