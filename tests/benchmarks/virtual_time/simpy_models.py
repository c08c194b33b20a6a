"""W as SimPy models: as its documentation would write it, and tuned by hand."""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING, Any

import simpy

from tests.benchmarks.virtual_time import workload as w

if TYPE_CHECKING:
    from collections.abc import Generator


def run(calls: int = w.CALLS, users: int = w.USERS) -> w.Tally:
    """Run W as a `Resource`, a process per call, and a race between the answer and the timeout."""
    rng = random.Random(1)
    env = simpy.Environment()
    slots = simpy.Resource(env, capacity=w.SLOTS)
    rows: list[tuple[int, int, float, float, bool]] = []
    numbers = iter(range(calls))

    def call(number: int) -> Generator[simpy.Event, Any, None]:
        deadline = env.now + w.TOTAL_TIMEOUT_S
        for attempt in range(w.MAX_RETRIES + 1):
            with slots.request() as slot:
                yield slot
                started = env.now
                never = rng.random() < w.TIMEOUT_PROBABILITY
                answer = env.event() if never else env.timeout(rng.lognormvariate(0.0, w.SIGMA))
                answered = answer in (yield answer | env.timeout(w.ATTEMPT_TIMEOUT_S))
            rows.append((number, attempt, started, env.now, answered))
            backoff = w.full_jitter(rng.random(), attempt)
            if answered or attempt == w.MAX_RETRIES or env.now + backoff >= deadline:
                return
            yield env.timeout(backoff)

    def user() -> Generator[simpy.Event, Any, None]:
        for number in numbers:
            yield env.process(call(number))

    for _ in range(users):
        env.process(user())
    env.run()
    return w.tally(rows, calls)


def run_tuned(calls: int = w.CALLS, users: int = w.USERS) -> w.Tally:
    """Run W as a pool of users: no process per call, slots as a counter and a queue, the race decided beforehand."""
    rng = random.Random(1)
    chance, lognormal = rng.random, rng.lognormvariate
    env = simpy.Environment()
    timeout = env.timeout
    rows: list[tuple[int, int, float, float, bool]] = []
    numbers = iter(range(calls))
    waiting: deque[simpy.Event] = deque()
    free = w.SLOTS

    def user() -> Generator[simpy.Event, Any, None]:
        nonlocal free
        for number in numbers:
            deadline = env.now + w.TOTAL_TIMEOUT_S
            for attempt in range(w.MAX_RETRIES + 1):
                if free:
                    free -= 1
                else:
                    turn = env.event()
                    waiting.append(turn)
                    yield turn
                started = env.now
                latency = lognormal(0.0, w.SIGMA) if chance() >= w.TIMEOUT_PROBABILITY else 1e9
                answered = latency < w.ATTEMPT_TIMEOUT_S
                yield timeout(latency if answered else w.ATTEMPT_TIMEOUT_S)
                now = env.now
                if waiting:
                    waiting.popleft().succeed()
                else:
                    free += 1
                rows.append((number, attempt, started, now, answered))
                if answered:
                    break
                backoff = chance() * min(w.BACKOFF_MAXIMUM_S, w.BACKOFF_BASE_S * 2**attempt)
                if attempt == w.MAX_RETRIES or now + backoff >= deadline:
                    break
                yield timeout(backoff)

    for _ in range(users):
        env.process(user())
    env.run()
    return w.tally(rows, calls)
