"""Hedging: an attempt, and others beside it when it is slow; the first answer wins, the losers are cancelled.

Each attempt of a race runs in a task and on a ledger of its own, through the same `Flow.attempt` as any other, and is
recorded like any other. Look at `hedging.py` for when a race begins another.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from llmlab.core.timers import this_task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from llmlab.core.ledger import Ledger


async def race(
    ledger: Ledger,
    attempt: Callable[[Ledger], Awaitable[object]],
    *,
    delay: float,
    max_hedges: int,
    may_hedge: Callable[[Ledger], bool],
) -> Ledger:
    """Run an attempt and, every `delay` seconds without an answer, one more beside it; return the ledger that decides.

    That is the one of the first answer, or of the last to fail. `may_hedge` is asked before each hedge, with the ledger
    that it would run on, and has then let it in.
    """
    loop = asyncio.get_running_loop()
    running = {_begun(ledger.branch(loop.time(), hedge=False), attempt): 0}
    ledger.attempts += 1
    hedges = 0
    decided = ledger
    try:
        while running:
            patience = delay if hedges < max_hedges else None
            done, _ = await asyncio.wait(running, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                hedges += 1
                branch = ledger.branch(loop.time(), hedge=True)
                if may_hedge(branch):
                    running[_begun(branch, attempt)] = hedges
                    ledger.attempts += 1
                    ledger.hedges += 1
            for task in sorted(done, key=running.__getitem__):
                del running[task]
                decided = task.result()
                if decided.answer is not None:
                    return decided
        return decided
    finally:
        for task in running:
            task.cancel()
        if running:
            await asyncio.gather(*running, return_exceptions=True)


def _begun(branch: Ledger, attempt: Callable[[Ledger], Awaitable[object]]) -> asyncio.Task[Ledger]:
    loop = asyncio.get_running_loop()

    async def run() -> Ledger:
        branch.task = this_task(loop)
        await attempt(branch)
        return branch

    return loop.create_task(run(), name=f"llmlab call {branch.number} attempt {branch.attempts + 1}")
