"""Waiting for permission, inside the call's deadline: first for a slot, then for the rate limit.

`limits.py` says who may go and when; this is where a call waits for it. The slot is held while waiting for the rate,
so that attempts start exactly when the rate lets them; were it the other way round, attempts released one by one could
wait for slots and then start all at once.
"""

from __future__ import annotations

import math
from asyncio import CancelledError
from functools import partial
from typing import TYPE_CHECKING

from llmlab.core.backend import AttemptFailure
from llmlab.core.limits import estimated_tokens
from llmlab.core.timers import Deadlines, cut_short, sleep_until
from llmlab.core.vocabulary import FailureReason, Fate

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Coroutine
    from typing import Any

    from llmlab.core.backend import Answer
    from llmlab.core.ledger import Ledger
    from llmlab.core.limits import RateLimiter, Slots
    from llmlab.core.messages import LLMRequest
    from llmlab.core.policy import ClientPolicy
    from llmlab.core.state import ClientState


def out_of_time(policy: ClientPolicy, where: str) -> AttemptFailure:
    """Return the failure of a call whose total time ran out."""
    message = f"total_timeout={policy.total_timeout} s ran out {where}"
    return AttemptFailure(FailureReason.TOTAL_DEADLINE_EXCEEDED, message)


def _no_way() -> bool:
    return False


class Gate:
    """Lets attempts through one by one, as the limits allow."""

    def __init__(self, loop: AbstractEventLoop, state: ClientState, policy: ClientPolicy) -> None:
        self._loop = loop
        self._slots: Slots | None = state.slots
        self._rate: RateLimiter | None = state.rate
        self._policy = policy
        self._patience = None if policy.max_queue_wait is None else Deadlines(loop)
        self.pass_through: Callable[[], bool] = _no_way
        """Enter where that needs no waiting of any kind."""
        self.enter: Callable[[Ledger], Coroutine[Any, Any, bool]]
        """Wait until an attempt may start that could not pass through; false, with nothing held, where the call ended
        instead."""
        if state.rate is not None:
            self.enter = partial(self._wait_for_both, state.rate)
        elif state.slots is not None:  # pragma: no branch - a flow without either limit makes no gate
            self.pass_through = state.slots.take
            self.enter = partial(self._wait_for_slot, state.slots)

    def is_open(self, now: float) -> bool:
        """Whether an attempt may start this instant, without waiting; nothing is taken."""
        slots, rate = self._slots, self._rate
        return (slots is None or slots.in_use < slots.limit) and (rate is None or rate.free_at(now) <= now)

    def enter_now(self, ledger: Ledger) -> None:
        """Enter a gate that `is_open` without waiting, as a hedge does, which must not queue."""
        if self._slots is not None:
            self._slots.take()
        if self._rate is not None:
            self._rate.reserve(ledger.now, self._tokens(ledger.request), math.inf)

    async def _wait_for_both(self, rate: RateLimiter, ledger: Ledger) -> bool:
        slots = self._slots
        if slots is not None and not slots.take() and not await self._wait_for_slot(slots, ledger):
            return False
        ledger.granted_at = now = ledger.now
        at = rate.reserve(now, self._tokens(ledger.request), ledger.deadline)
        if at is None:
            self.leave()
            where = "in the rate limit's queue, whose next place is after the deadline"
            ledger.end(Fate.DEADLINE, out_of_time(self._policy, where))
            return False
        if at > now:
            try:
                await sleep_until(self._loop, at)
            except BaseException:
                self.leave()
                raise
            finally:
                ledger.now = self._loop.time()
                ledger.rate_wait += ledger.now - now
        return True

    def _tokens(self, request: LLMRequest) -> float:
        """Return the tokens to reserve for a request; 0 where no limit counts them."""
        return 0.0 if self._rate is None or self._rate.tokens is None else estimated_tokens(request)

    def leave(self) -> None:
        """An attempt that had entered is over."""
        if self._slots is not None:
            self._slots.give()

    def settle(self, request: LLMRequest, answer: Answer) -> None:
        """Correct the token rate by what the server counted."""
        if self._rate is None or self._rate.tokens is None:
            return
        read, written = answer.usage
        if read is not None and written is not None:
            self._rate.settle(estimated_tokens(request), read + written)

    async def _wait_for_slot(self, slots: Slots, ledger: Ledger) -> bool:
        policy = self._policy
        if policy.max_queue is not None and len(slots.waiting) >= policy.max_queue:
            waiting = len(slots.waiting)
            message = f"all {slots.limit} slots are taken and {waiting} attempts wait (max_queue={policy.max_queue})"
            ledger.end(Fate.REJECTED_BY_LIMIT, AttemptFailure(FailureReason.REJECTED_BY_LIMIT, message))
            return False
        patience = math.inf if policy.max_queue_wait is None else ledger.now + policy.max_queue_wait
        own = None if self._patience is None else self._patience.set(patience, ledger.task)
        ticket = self._loop.create_future()
        slots.waiting.append(ticket)
        try:
            await ticket
            now = self._loop.time()
            if now < patience and now < ledger.deadline:
                return True
            slots.give()
            cut_short(ledger.task, ledger.cancelling, own, ledger.total)
        except CancelledError:
            now = self._loop.time()
            slots.leave(ticket)
            if not cut_short(ledger.task, ledger.cancelling, own, ledger.total):
                raise
        finally:
            if own is not None:
                own.task = None
            ledger.slot_wait += now - ledger.now
            ledger.now = ledger.granted_at = now
        if patience < ledger.deadline:
            message = f"no slot came free within max_queue_wait={policy.max_queue_wait} s"
            ledger.end(Fate.REJECTED_BY_LIMIT, AttemptFailure(FailureReason.REJECTED_BY_LIMIT, message))
        else:
            ledger.end(Fate.DEADLINE, out_of_time(policy, "while waiting for a slot"))
        return False

    def close(self) -> None:
        """Give back the timer that the loop still holds."""
        if self._patience is not None:
            self._patience.close()
