"""Hedging: an attempt, and others beside it when it is slow; the first answer wins, the losers are cancelled.

Each attempt of a race runs in a task and on a ledger of its own, through the same `Flow.attempt` as any other, and is
recorded like any other. Look at `hedging.py` for when a race begins another.
"""

from __future__ import annotations

import asyncio
from asyncio import CancelledError
from typing import TYPE_CHECKING

from llmlab.core.timers import Deadline, cut_short, this_task

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task
    from collections.abc import Awaitable, Callable

    from llmlab.core.ledger import Ledger


class Race:
    """One attempt of a call, which may become several.

    Args:
        loop: the running event loop.
        ledger: the call's; the attempts run on branches of it.
        attempt: makes one attempt on a branch.
        may_hedge: asked before each hedge, with its branch; where it says yes, it has let the hedge in.
        lost: told of a branch that failed while others still run, so that it decides nothing.
        never_began: told of a branch that was let in and then cancelled before its task had its first turn.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        ledger: Ledger,
        *,
        attempt: Callable[[Ledger], Awaitable[object]],
        may_hedge: Callable[[Ledger], bool],
        lost: Callable[[Ledger], None],
        never_began: Callable[[Ledger], None],
    ) -> None:
        self._loop = loop
        self._ledger = ledger
        self._attempt = attempt
        self._may_hedge = may_hedge
        self._lost = lost
        self._never_began = never_began
        self._running: dict[Task[None], Ledger] = {}  # in the order in which they began

    async def run(self, delay: float, max_hedges: int) -> Ledger:
        """Begin an attempt and, every `delay` seconds without an answer, one more; return the branch that decides.

        That is the one of the first answer, or of the last to fail. None is running any more then, also where this
        raises. At the call's deadline those that still run have met it, as a lone attempt would have.
        """
        ledger, running = self._ledger, self._running
        self._begin(ledger.branch(self._loop.time(), hedge=False))
        try:
            decided = await self._decided(delay, max_hedges)
        except CancelledError:
            if not cut_short(ledger.task, ledger.cancelling, ledger.total):
                raise
            decided = next((branch for branch in running.values() if branch.answer), list(running.values())[-1])
            for branch in running.values():
                branch.total = Deadline(ledger.deadline, branch.task)
                branch.total.fired = True
        finally:
            bugs = await self._stopped()
        if bugs:
            raise bugs[0]
        return decided

    async def _decided(self, delay: float, max_hedges: int) -> Ledger:
        ledger, running, loop = self._ledger, self._running, self._loop
        decided, hedges, next_at = ledger, 0, loop.time() + delay
        while running:
            patience = max(0.0, next_at - loop.time()) if hedges < max_hedges else None
            done, _ = await asyncio.wait(running, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                hedges, next_at = hedges + 1, next_at + delay
                branch = ledger.branch(loop.time(), hedge=True)
                if self._may_hedge(branch):
                    ledger.hedges += 1
                    self._begin(branch)
            for task in [task for task in running if task in done]:
                task.result()  # raises where the backend did
                decided = running.pop(task)
                if decided.answer is not None:
                    return decided
            if done and not all(task.done() for task in running):
                self._lost(decided)
        return decided

    def _begin(self, branch: Ledger) -> None:
        async def run() -> None:
            branch.task = this_task(self._loop)
            await self._attempt(branch)

        self._ledger.attempts += 1
        name = f"llmlab call {branch.number} attempt {self._ledger.attempts}"
        self._running[self._loop.create_task(run(), name=name)] = branch

    async def _stopped(self) -> list[BaseException]:
        """Cancel what still runs and wait for its end; return what it raised.

        A cancellation of the call meanwhile is passed on to the attempts, and raised when they have ended: no attempt
        outlives its call.
        """
        running, interruption = self._running, None
        while not all(task.done() for task in running):
            for task in running:
                task.cancel()
            try:
                await asyncio.wait(running)
            except CancelledError as error:
                interruption = error
        for branch in running.values():
            if branch.task is self._ledger.task:  # it never got to put its own there
                self._ledger.attempts -= 1
                self._ledger.hedges -= branch.hedge
                self._never_began(branch)
        raised = [task.exception() for task in running if not task.cancelled()]
        if interruption is not None:
            raise interruption
        return [error for error in raised if error is not None]
