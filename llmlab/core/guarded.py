"""Attempts under a guard: asked before each, told after each, and hedged where the policy says so.

`Flow.call` comes here instead of making an attempt itself where the policy has a breaker, a throttle, a budget, an
adaptive limit or hedging; the attempt itself is the same `Flow.attempt`. The guard is asked after the wait for a slot
and the rate limit, since it may have changed its mind meanwhile; only an open circuit fails a call before it queues.
"""

from __future__ import annotations

from asyncio import CancelledError
from typing import TYPE_CHECKING, Protocol

from llmlab.core.emitter import RaceEmitter
from llmlab.core.events import NAN
from llmlab.core.ledger import CANCELLED, CRASHED
from llmlab.core.race import Race
from llmlab.core.vocabulary import FailureReason, Fate

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from llmlab.core.admission import Gate
    from llmlab.core.backend import AttemptFailure
    from llmlab.core.emitter import Emitter
    from llmlab.core.guard import Guard
    from llmlab.core.ledger import Ledger
    from llmlab.core.vocabulary import BackoffSource

_FATES = {
    FailureReason.CIRCUIT_OPEN: Fate.CIRCUIT_OPEN,
    FailureReason.REJECTED_BY_LIMIT: Fate.REJECTED_BY_LIMIT,
}


def _nothing_is_kept(_call: int, _backoff_s: float = NAN, _source: BackoffSource | None = None) -> None:
    """Stand in for `RaceEmitter.release` where no attempt is hedged."""


class MakesAttempts(Protocol):
    """What a flow offers here."""

    loop: AbstractEventLoop
    gate: Gate | None
    seed: int
    hedges: bool

    async def attempt(self, ledger: Ledger) -> float:
        """Make one attempt and return the wait before the next."""
        ...

    def what_next(self, ledger: Ledger, failure: AttemptFailure | None) -> float:
        """Return the wait before the next attempt, or end the call."""
        ...


class GuardedAttempts:
    """Lets a flow's attempts start, alone or in a race, as its guard allows.

    Args:
        flow: whose attempts these are.
        guard: what is asked and told.
        emitter: where the attempts are recorded; of a client that hedges a `RaceEmitter`, which is told what follows.
    """

    def __init__(self, flow: MakesAttempts, guard: Guard, emitter: Emitter) -> None:
        self._flow = flow
        self._guard = guard
        self._release = emitter.release if isinstance(emitter, RaceEmitter) else _nothing_is_kept

    async def run(self, ledger: Ledger) -> float:
        """Make one attempt, or a race of them; return the wait before the next, NaN where the call is over."""
        guard, gate = self._guard, self._flow.gate
        if not ledger.attempts:
            guard.call_began()
        refused = guard.refuses_at_once(ledger.now)
        if refused is not None:
            return self._turned_away(ledger, refused)
        if gate is not None and not gate.pass_through() and not await gate.enter(ledger):
            return NAN
        refused = guard.refuses(ledger.now, self._flow.seed, ledger)
        if refused is not None:
            if gate is not None:
                gate.leave()
            return self._turned_away(ledger, refused)
        ledger.retried = None if ledger.last is None else ledger.last.reason
        began = ledger.now
        delay = None if guard.hedge_delay is None or not self._flow.hedges else guard.hedge_delay.current()
        wait = await (self._flow.attempt(ledger) if delay is None else self._race(ledger, delay))
        self._release(ledger.number, wait, ledger.backoff_source)
        if guard.hedge_delay is not None and ledger.answer is not None:
            # Of a race its whole time, be it won by a hedge: so the measured percentile does not shift by hedging.
            guard.hedge_delay.record(ledger.now - began)
        return wait

    def _turned_away(self, ledger: Ledger, refused: AttemptFailure) -> float:
        ledger.end(_FATES[refused.reason], refused)
        return NAN

    async def _race(self, ledger: Ledger, delay: float) -> float:
        race = Race(
            self._flow.loop,
            ledger,
            attempt=self._flow.attempt,
            may_hedge=self._may_hedge,
            lost=self._lost,
            never_began=self._never_began,
        )
        try:
            decided = await race.run(delay, self._guard.max_hedges)
        except BaseException as error:
            ledger.last = CANCELLED if isinstance(error, CancelledError) else CRASHED
            raise
        finally:
            now = self._flow.loop.time()
            ledger.server += now - ledger.now
            ledger.now = now
        ledger.take_over(decided)
        return self._flow.what_next(ledger, decided.last)

    def _may_hedge(self, branch: Ledger) -> bool:
        """Let a hedge in, if nothing stands in its way: a hedge neither queues nor spends what is not there.

        The limits are looked at first and taken last, so that a hedge that is turned away has cost nothing.
        """
        gate, guard = self._flow.gate, self._guard
        if gate is not None and not gate.is_open(branch.now):
            return False
        if guard.refuses(branch.now, self._flow.seed, branch) is not None:
            return False
        if not guard.pays_for_retry(FailureReason.ATTEMPT_TIMEOUT):
            guard.given_up(branch)
            return False
        if gate is not None:
            gate.enter_now(branch)
        return True

    def _lost(self, branch: Ledger) -> None:
        self._release(branch.number)

    def _never_began(self, branch: Ledger) -> None:
        self._guard.given_up(branch)
        if self._flow.gate is not None:
            self._flow.gate.leave()
