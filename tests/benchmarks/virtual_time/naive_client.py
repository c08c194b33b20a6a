"""What one writes first: a task per call, semaphores, `asyncio.timeout` twice, a pydantic model per event."""

from __future__ import annotations

import asyncio
import random

from pydantic import BaseModel

from tests.benchmarks.virtual_time import workload as w
from tests.benchmarks.virtual_time.stock_loop import JumpingLoop


class Event(BaseModel):
    """One attempt."""

    call: int
    attempt: int
    started_at_s: float
    ended_at_s: float
    answered: bool


class _Client:
    def __init__(self, users: int) -> None:
        self.rng = random.Random(1)
        self.users = asyncio.Semaphore(users)
        self.slots = asyncio.Semaphore(w.SLOTS)
        self.events: list[Event] = []

    async def _server(self) -> None:
        if self.rng.random() < w.TIMEOUT_PROBABILITY:
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(self.rng.lognormvariate(0.0, w.SIGMA))

    async def _attempt(self, number: int, attempt: int) -> bool:
        time = asyncio.get_running_loop().time
        async with self.slots:
            started = time()
            try:
                async with asyncio.timeout(w.ATTEMPT_TIMEOUT_S):
                    await self._server()
                answered = True
            except TimeoutError:
                answered = False
        self.events.append(
            Event(call=number, attempt=attempt, started_at_s=started, ended_at_s=time(), answered=answered)
        )
        return answered

    async def call(self, number: int) -> bool:
        async with self.users:
            try:
                async with asyncio.timeout(w.TOTAL_TIMEOUT_S):
                    for attempt in range(w.MAX_RETRIES + 1):
                        if await self._attempt(number, attempt):
                            return True
                        if attempt < w.MAX_RETRIES:
                            await asyncio.sleep(w.full_jitter(self.rng.random(), attempt))
            except TimeoutError:
                pass
            return False


def run(calls: int = w.CALLS, users: int = w.USERS) -> w.Tally:
    """Run W."""

    async def main() -> w.Tally:
        client = _Client(users)
        answered = await asyncio.gather(*(client.call(number) for number in range(calls)))
        return w.Tally(len(client.events), answered.count(False))

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(main())
