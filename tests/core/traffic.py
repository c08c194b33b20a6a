"""Calls at random times, some of them cancelled, and a gauge on the way to the backend: for laws of the call."""

import asyncio
from collections import Counter

from hypothesis import strategies as st

# Multiples of a quarter second: sums are exact, and many things happen at the same instant, where the bugs are.
quarters = st.integers(1, 40).map(lambda n: n / 4)
CALLS = st.lists(  # when they come; when they are cancelled, if so: after so many seconds and turns of the loop
    st.tuples(quarters, st.none() | st.tuples(quarters, st.integers(0, 3))), min_size=1, max_size=8
)


class Gauge:
    """Counts attempts in progress on the way to a backend."""

    simulated = True

    def __init__(self, backend):
        self.backend, self.inside, self.most, self.begun = backend, 0, 0, Counter()

    async def attempt(self, request, *, timeouts, key):
        self.begun[key.call] += 1
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            return await self.backend.attempt(request, timeouts=timeouts, key=key)
        finally:
            self.inside -= 1


async def cancel(call, at, turns):
    """Cancel a call that many seconds and turns of the loop later."""
    await asyncio.sleep(at)
    for _ in range(turns):
        await asyncio.sleep(0)
    call.cancel()


async def traffic(client, calls):
    """Make calls at their times, cancel some; return results by number."""

    async def one(at, patience):
        await asyncio.sleep(at)
        call = asyncio.create_task(client.generate("Hello"))
        end = asyncio.create_task(cancel(call, *patience)) if patience else None
        (result,) = await asyncio.gather(call, return_exceptions=True)
        if end is not None:
            end.cancel()
            await asyncio.gather(end, return_exceptions=True)
        return result

    return await asyncio.gather(*(one(at, patience) for at, patience in calls))
