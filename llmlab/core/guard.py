"""What stands between a client and a server in trouble: circuit breaker, throttle, retry budget, adaptive limit.

The flow asks at four moments: a call begins, an attempt wants to start, an attempt has ended, a retry is wanted. Each
policy is a pure state machine of its own (`breaker.py`, `throttle.py`, `budget.py`, `adaptive.py`, `hedging.py`); this
is where they are put together, once for all clients that share a `ClientState`. A client without any of them has no
guard, and pays nothing. Look next at `guarded.py`, which asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.core import chance
from llmlab.core.backend import AttemptFailure
from llmlab.core.breaker import SICK
from llmlab.core.ledger import CANCELLED, CRASHED
from llmlab.core.vocabulary import FailureReason

if TYPE_CHECKING:
    from llmlab.core.adaptive import AdaptiveConcurrency
    from llmlab.core.ledger import Ledger
    from llmlab.core.limits import Slots
    from llmlab.core.policy import ClientPolicy


def guard_of(policy: ClientPolicy, slots: Slots | None) -> Guard | None:
    """Return the guard that a policy asks for, or `None` where it asks for nothing of the kind."""
    wanted = (policy.budget, policy.breaker, policy.throttle, policy.adaptive_concurrency, policy.hedging)
    return None if all(one is None for one in wanted) else Guard(policy, slots)


def _below(ceiling: int | None, adaptive: AdaptiveConcurrency) -> AdaptiveConcurrency:
    """Bound an adaptive limit, or one grown beyond what it may use would have to fall that far before it has effect."""
    if ceiling is None:
        return adaptive
    names = ("initial", "minimum", "maximum")
    bounded: AdaptiveConcurrency = adaptive.replace(**{name: min(ceiling, getattr(adaptive, name)) for name in names})
    return bounded


class Guard:
    """The protective policies of a client at work.

    Every attempt that `refuses` lets pass must be ended by one `ended` or one `given_up`, before its slot is given on:
    the limit may change by it.
    """

    def __init__(self, policy: ClientPolicy, slots: Slots | None) -> None:
        self.budget = None if policy.budget is None else policy.budget.at_work()
        self.breaker = None if policy.breaker is None else policy.breaker.at_work()
        self.throttle = None if policy.throttle is None else policy.throttle.at_work()
        self.hedge_delay = None if policy.hedging is None else policy.hedging.at_work()
        self.max_hedges = 0 if policy.hedging is None else policy.hedging.max_hedges
        adaptive = policy.adaptive_concurrency
        self._adaptive = None if adaptive is None else _below(policy.max_concurrency, adaptive).at_work()
        self._retry = policy.retry
        self._slots = slots

    def call_began(self) -> None:
        """A call begins."""
        if self.budget is not None:
            self.budget.call_began()

    def refuses_at_once(self, now: float) -> AttemptFailure | None:
        """Return why an attempt need not even queue: the circuit is open, and will be for a while."""
        wait = 0.0 if self.breaker is None else self.breaker.wait(now)
        if not wait:
            return None
        message = f"the circuit is open and tries again in {wait:.3g} s; nothing was sent"
        return AttemptFailure(FailureReason.CIRCUIT_OPEN, message)

    def refuses(self, now: float, seed: int, ledger: Ledger) -> AttemptFailure | None:
        """Return why the ledger's next attempt must not start now, or `None`: then it counts as started."""
        if self.breaker is not None:
            ledger.ticket = self.breaker.allow(now)
            if not ledger.ticket:
                message = "the circuit is half open and waits for its probes; nothing was sent"
                return self.refuses_at_once(now) or AttemptFailure(FailureReason.CIRCUIT_OPEN, message)
        if self.throttle is not None:
            u = chance.uniform(seed, ledger.number, ledger.attempts + 1, chance.Purpose.THROTTLE)
            if not self.throttle.allow(now, u):
                self.given_up(ledger)
                message = "the adaptive throttle turned it away: the server refuses most attempts"
                return AttemptFailure(FailureReason.REJECTED_BY_LIMIT, message)
        return None

    def ended(self, now: float, failure: AttemptFailure | None, ledger: Ledger) -> None:
        """The ledger's attempt has ended and still holds its slot; `failure` is why it was of no use, if so."""
        if failure is CANCELLED or failure is CRASHED:
            self.given_up(ledger)
            return
        sick = failure is not None and failure.reason in SICK
        if self.breaker is not None:
            self.breaker.record(now, sick=sick, ticket=ledger.ticket)
        if self.throttle is not None and not sick:
            self.throttle.accepted(now)
        if self.budget is not None:
            if failure is None:
                self.budget.succeeded(ledger.retried)
            elif self._retry.allows(failure):  # what would not be retried says nothing of the server (gRFC A6)
                self.budget.failed()
        if self._adaptive is not None and self._slots is not None:
            latency, in_flight = now - ledger.attempt_started, self._slots.in_use
            self._slots.set_limit(self._adaptive.record(now, latency=latency, in_flight=in_flight, overloaded=sick))

    def given_up(self, ledger: Ledger) -> None:
        """The ledger's attempt was cancelled, met a bug or never began, and says nothing of the server."""
        if self.breaker is not None:
            self.breaker.forget(ledger.ticket)

    def pays_for_retry(self, reason: FailureReason) -> bool:
        """Whether the budget allows a retry after this failure; it is then paid."""
        return self.budget is None or self.budget.spend(reason)
