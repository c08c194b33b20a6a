"""An equivalent program on trio's `MockClock`."""

from __future__ import annotations

import random

import trio
import trio.testing

from tests.benchmarks.virtual_time import workload as w


def run(calls: int = w.CALLS, users: int = w.USERS) -> w.Tally:
    """Run W."""
    rng = random.Random(1)
    rows: list[tuple[int, int, float, float, bool]] = []
    numbers = iter(range(calls))

    async def attempt(number: int, attempt: int, slots: trio.Semaphore) -> bool:
        async with slots:
            started = trio.current_time()
            with trio.move_on_after(w.ATTEMPT_TIMEOUT_S) as scope:
                if rng.random() < w.TIMEOUT_PROBABILITY:
                    await trio.sleep_forever()
                await trio.sleep(rng.lognormvariate(0.0, w.SIGMA))
        rows.append((number, attempt, started, trio.current_time(), not scope.cancelled_caught))
        return not scope.cancelled_caught

    async def user(slots: trio.Semaphore) -> None:
        for number in numbers:
            with trio.move_on_after(w.TOTAL_TIMEOUT_S):
                for retry in range(w.MAX_RETRIES + 1):
                    if await attempt(number, retry, slots):
                        break
                    if retry < w.MAX_RETRIES:
                        await trio.sleep(w.full_jitter(rng.random(), retry))

    async def main() -> None:
        slots = trio.Semaphore(w.SLOTS)
        async with trio.open_nursery() as nursery:
            for _ in range(users):
                nursery.start_soon(user, slots)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return w.tally(rows, calls)
