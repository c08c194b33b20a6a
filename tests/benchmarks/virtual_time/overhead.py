"""Real time: what a call through the client costs above awaiting the backend itself, beside two retry libraries alone.

The backend answers at once. Each figure is the median of many short rounds, taken in turns.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import TYPE_CHECKING, Any

from llmlab import AsyncClient, ClientPolicy, EventLog, LLMRequest
from llmlab.core.backend import Answer, AttemptKey, Timeouts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_CALLS = 200
_ROUNDS = 100


class _AtOnce:
    async def attempt(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> Answer:
        del request, timeouts, key
        return Answer("Hello.")


def _candidates() -> dict[str, Callable[[], Awaitable[Any]]]:
    backend, request = _AtOnce(), LLMRequest(prompt="Hello")
    timeouts, key = Timeouts(), AttemptKey(0, 1)

    async def bare() -> Answer:
        return await backend.attempt(request, timeouts=timeouts, key=key)

    client = AsyncClient(backend, ClientPolicy(max_concurrency=32), observers=[EventLog()])
    found: dict[str, Callable[[], Awaitable[Any]]] = {
        "bare": bare,
        "llmlab's client, events kept": lambda: client.generate(request),
    }
    try:
        import tenacity
    except ImportError:
        pass
    else:
        found["tenacity alone"] = tenacity.retry(
            stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_random_exponential(max=8)
        )(bare)
    try:
        import stamina
    except ImportError:
        pass
    else:
        found["stamina alone"] = stamina.retry(on=OSError, attempts=3)(bare)
    return found


async def overheads() -> dict[str, float]:
    """Return microseconds per call above the bare await, by candidate."""
    candidates = _candidates()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(_ROUNDS):
        for name, call in candidates.items():
            began = time.thread_time()
            for _ in range(_CALLS):
                await call()
            times[name].append((time.thread_time() - began) / _CALLS * 1e6)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {name: value - medians["bare"] for name, value in medians.items() if name != "bare"}


if __name__ == "__main__":
    for name, us in asyncio.run(overheads()).items():
        print(f"{name:32} {us:6.1f} us per call")
