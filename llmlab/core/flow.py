"""THE call: one coroutine that does all the awaiting, for every client, in real and in virtual time.

The life of a call: refuse what is not worth sending; then for each attempt wait for a slot, wait for the rate limit,
hand the request to the backend under a deadline, give the slot back, record the attempt, and ask the policy what next;
at last record the call. Deciding is pure (`retry.py`, `limits.py`, `checks.py`); waiting for a slot and the rate limit
stands in `admission.py`; time comes from the running loop only.

Rules that keep it sound:
- Time is spent in one account of the ledger at a time: every boundary reads the clock once.
- What happens at or after a deadline is late, whatever fired first: after every wait the clock is compared with the
  deadline.
- A backoff or a rate-limit wait that would outlast the deadline is not begun.
- A slot is held around an attempt only. `CancelledError` is recorded and passed on, never swallowed.
"""

from __future__ import annotations

import logging
import math
from asyncio import CancelledError
from typing import TYPE_CHECKING

from llmlab.core import chance
from llmlab.core.admission import Gate, out_of_time
from llmlab.core.backend import Answer, AttemptFailure, AttemptKey, in_our_words
from llmlab.core.checks import refusal, unusable
from llmlab.core.events import NAN
from llmlab.core.guarded import GuardedAttempts
from llmlab.core.ledger import CANCELLED, CRASHED, Ledger
from llmlab.core.timers import Deadlines, cut_short, sleep_until, this_task
from llmlab.core.vocabulary import BackoffSource, FailureReason, Fate

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future, TimerHandle
    from collections.abc import Callable

    from llmlab.core.backend import Backend, Outcome
    from llmlab.core.emitter import Emitter
    from llmlab.core.events import AttemptEvent, CallEvent
    from llmlab.core.messages import LLMRequest
    from llmlab.core.policy import ClientPolicy
    from llmlab.core.state import ClientState

logger = logging.getLogger("llmlab")
_new = tuple.__new__  # makes a named tuple without its Python-level constructor


class Flow:
    """The calls of one client on one event loop, with everything they need resolved once."""

    hedges = True
    """Whether attempts may run beside each other, where the policy says so."""

    def __init__(
        self,
        *,
        loop: AbstractEventLoop,
        backend: Backend,
        backend_name: str,
        policy: ClientPolicy,
        state: ClientState,
        emitter: Emitter,
        seed: int,
        layer: str,
    ) -> None:
        self.loop = loop
        self.backend = backend
        self._progress = state.progress
        self._send = backend.attempt
        self._begin: Callable[..., tuple[Future[Outcome], TimerHandle | None]] | None = None
        if callable(getattr(type(backend), "begin", None)):  # an attribute of this name may be anything
            self._begin = backend.begin  # type: ignore[attr-defined]
        self._backend_name = backend_name
        self._policy = policy
        self._retry = policy.retry
        self._too_late = AttemptFailure(
            _ATTEMPT_TIMEOUT, f"no complete answer within attempt_timeout={policy.attempt_timeout} s"
        )
        self._timeouts = policy.timeouts
        self._attempt_timeout = math.inf if policy.attempt_timeout is None else policy.attempt_timeout
        self._total_timeout = math.inf if policy.total_timeout is None else policy.total_timeout
        self.gate = Gate(loop, state, policy) if state.slots is not None or state.rate is not None else None
        self._guard = guard = state.guard
        self._guarded = None if guard is None else GuardedAttempts(self, guard, emitter)
        self._leave = None if state.slots is None else state.slots.give
        self.tell: Callable[[AttemptEvent], None] | None
        self.tell_call: Callable[[CallEvent], None] | None
        emitter.watch(self)
        self.seed = seed
        self._layer = layer
        self._accepted: LLMRequest | None = None
        self._totals = None if policy.total_timeout is None else Deadlines(loop)
        self._own = None if policy.attempt_timeout is None else Deadlines(loop)
        self._warned_of_repetition = False
        self._closed = False
        self.rests = False
        """Whether it was closed, and no call has ended on it since."""

    async def call(  # noqa: PLR0912 - one path; a call in it costs 0.1 us
        self, request: LLMRequest, number: int, *, arrived: float | None = None, parent: AttemptKey | None = None
    ) -> Ledger:
        """Make one call; what the caller gets is the ledger's `result()`.

        Args:
            request: what to ask.
            number: the call's number; its draws depend on it.
            arrived: when the call was meant to start, on the loop's clock; `None` means now.
            parent: the outer client's attempt that this call serves, where clients are stacked.
        """
        loop = self.loop
        now = loop.time()
        ledger = Ledger(request, number, now, now if arrived is None else arrived, now + self._total_timeout)
        if parent is not None:
            ledger.parent_call, ledger.parent_attempt = parent
        if request is not self._accepted and not self._accept(ledger):
            return self._record_call(ledger)
        ledger.task = task = this_task(loop)
        ledger.cancelling = task.cancelling()
        if self._totals is not None:
            ledger.total = self._totals.set(ledger.deadline, task)
        gate, guarded = self.gate, self._guarded
        self._progress.calls += 1
        try:
            while True:
                ledger.queued_at = ledger.granted_at = ledger.now
                wait = NAN
                if guarded is not None:
                    wait = await guarded.run(ledger)
                elif gate is None or gate.pass_through() or await gate.enter(ledger):
                    wait = await self.attempt(ledger)
                if ledger.fate is not None:
                    return self._record_call(ledger)
                try:
                    await sleep_until(loop, ledger.now + wait)
                finally:
                    now = loop.time()
                    ledger.backoff += now - ledger.now
                    ledger.now = now
        except BaseException as error:
            if self._interrupted(ledger, error):
                raise
            return self._record_call(ledger)
        finally:
            self._progress.calls -= 1
            if ledger.total is not None:
                ledger.total.task = None
            if self._closed:
                self.close()
                self.rests = False

    def _interrupted(self, ledger: Ledger, error: BaseException) -> bool:
        """Record a call that an exception ends. False where that is only the total deadline, met in a wait.

        A wait that would outlast the deadline is not begun, but a loop that is late may find both over at once.
        """
        if not isinstance(error, CancelledError):
            ledger.end(Fate.CRASHED, CRASHED)
        elif cut_short(ledger.task, ledger.cancelling, ledger.total):
            ledger.end(Fate.DEADLINE, out_of_time(self._policy, "while waiting"))
            return False
        else:
            ledger.end(Fate.CANCELLED, CANCELLED)
        self._record_call(ledger)
        return True

    def _accept(self, ledger: Ledger) -> bool:
        """Whether a request is worth sending; if not, the call is over. The same request again is not checked again."""
        refused = refusal(ledger.request)
        if refused is None:
            self._accepted = ledger.request
            return True
        ledger.end(Fate.NOT_RETRYABLE, refused)
        return False

    # ---- one attempt

    async def attempt(self, ledger: Ledger) -> float:  # noqa: C901, PLR0912, PLR0915 - one path; a call in it costs 0.1 us
        """Make one attempt, record it, and return the wait before the next; after the last, the call's fate is set."""
        loop = self.loop
        ledger.attempts += 1
        ledger.attempt_started = started = ledger.now
        limit = started + self._attempt_timeout
        if limit > ledger.deadline:  # noqa: PLR1730 - min() costs three times as much, once per attempt
            limit = ledger.deadline
        key: AttemptKey = _new(AttemptKey, (ledger.number, ledger.attempts))
        outcome: Outcome
        failure: AttemptFailure | None
        own, timer, begin = None, None, self._begin
        if begin is None and self._own is not None and limit < ledger.deadline:
            own = self._own.set(limit, ledger.task)
        try:
            if begin is None:
                outcome = await self._send(ledger.request, timeouts=self._timeouts, key=key)
            else:
                told, timer = begin(ledger.request, self._timeouts, key, limit)
                outcome = await told
            now = loop.time()
            if now >= limit:
                if begin is None:  # else nothing but an exception can end its wait by a cancellation
                    cut_short(ledger.task, ledger.cancelling, own, ledger.total)
                outcome = self._timed_out(limit, ledger)
            failure = self._examine(ledger, outcome)
        except CancelledError:
            now = loop.time()
            if timer is not None:
                timer.cancel()
            if not cut_short(ledger.task, ledger.cancelling, own, ledger.total):
                outcome = failure = CANCELLED
                raise
            outcome = failure = ledger.last = self._timed_out(limit, ledger)
        except BaseException:
            now = loop.time()
            outcome = failure = CRASHED
            raise
        finally:
            if own is not None:
                own.task = None
            ledger.server += now - started
            ledger.now = now
            if self._guard is not None:  # first, since the limit may change by which the slot is given on
                self._guard.ended(now, failure, ledger)
            leave = self._leave
            if leave is not None:
                leave()
            wait = NAN
            if failure is CRASHED or failure is CANCELLED:
                ledger.last, ledger.backoff_source = failure, None
            elif not ledger.racing:
                wait = self.what_next(ledger, failure)
            tell = self.tell
            if tell is not None:
                tell(ledger.attempt_event(self._layer, self._backend_name, outcome, failure, wait))
        return wait

    def _timed_out(self, limit: float, ledger: Ledger) -> AttemptFailure:
        return self._too_late if limit < ledger.deadline else out_of_time(self._policy, "during an attempt")

    def _examine(self, ledger: Ledger, outcome: Outcome) -> AttemptFailure | None:
        """Return why an outcome is of no use; keep a usable answer in the ledger."""
        if type(outcome) is Answer:
            failure, parsed = unusable(ledger.request, outcome)
            if failure is None:
                ledger.answer, ledger.parsed = outcome, parsed
        elif type(outcome) is AttemptFailure:
            failure = in_our_words(outcome, self._backend_name)
        else:
            got = type(outcome).__name__
            raise TypeError(f"backend '{self._backend_name}' must return an Answer or an AttemptFailure, got {got}")
        ledger.last = failure
        return failure

    # ---- what next

    def what_next(self, ledger: Ledger, failure: AttemptFailure | None) -> float:
        """Return the wait before the next attempt, or set the call's fate and return NaN."""
        if failure is None:
            ledger.fate = _ANSWERED
            if self.gate is not None and ledger.answer is not None:
                self.gate.settle(ledger.request, ledger.answer)
            return NAN
        retry = self._retry
        ledger.backoff_source = None
        if ledger.now >= ledger.deadline:
            ledger.end(Fate.DEADLINE, out_of_time(self._policy, "during an attempt"))
        elif not retry.allows(failure):
            ledger.end(Fate.NOT_RETRYABLE, failure)
        elif retry.exhausted(ledger.attempts - ledger.hedges, ledger.now - ledger.started):
            ledger.end(Fate.RETRIES_EXHAUSTED, failure)
        else:
            return self._wait_before_retry(ledger, failure)
        return NAN

    def _wait_before_retry(self, ledger: Ledger, failure: AttemptFailure) -> float:
        u = chance.uniform(self.seed, ledger.number, ledger.attempts, _BACKOFF)
        wait, source = self._retry.wait(failure, ledger.attempts - ledger.hedges, ledger.last_wait, u)
        if ledger.now + wait >= ledger.deadline:
            what = "the server's Retry-After" if source is BackoffSource.RETRY_AFTER else "the backoff"
            message = (
                f"{failure.reason}: {failure.message}; {what} of {wait:.3g} s would outlast the "
                f"{ledger.deadline - ledger.now:.3g} s left of total_timeout={self._policy.total_timeout} s"
            )
            ledger.end(Fate.DEADLINE, AttemptFailure(_DEADLINE, message))
            return NAN
        if self._guard is not None and not self._guard.pays_for_retry(failure.reason):
            message = f"{failure.reason}: {failure.message}; the retry budget is spent"
            ledger.end(Fate.BUDGET_EXHAUSTED, AttemptFailure(FailureReason.BUDGET_EXHAUSTED, message))
            return NAN
        if failure.reason is FailureReason.MALFORMED_OUTPUT:
            self._ask_differently(ledger)
        ledger.last_wait, ledger.backoff_source = wait, source
        return wait

    def _ask_differently(self, ledger: Ledger) -> None:
        """Change the seed for a retry after malformed output, since the same seed would give the same text."""
        request = ledger.request
        if request.seed is not None:
            ledger.request = request.model_copy(update={"seed": request.seed + 1})
        if request.temperature == 0 and not self._warned_of_repetition:
            self._warned_of_repetition = True
            logger.warning(
                "retrying malformed output at temperature 0: the model will probably give the same text again"
            )

    # ---- records

    def _record_call(self, ledger: Ledger) -> Ledger:
        tell = self.tell_call
        if tell is not None:
            tell(ledger.call_event(self._layer))
        return ledger

    def close(self) -> None:
        """Give back the timers that the loop still holds; those of calls under way are given back with the last."""
        self._closed = self.rests = True
        for deadlines in (self._totals, self._own):
            if deadlines is not None:
                deadlines.close()
        if self.gate is not None:
            self.gate.close()


# A module's names, because 3.11 looks up an enumeration's member in Python each time.
_ANSWERED, _BACKOFF = Fate.ANSWERED, chance.Purpose.BACKOFF
_ATTEMPT_TIMEOUT, _DEADLINE = FailureReason.ATTEMPT_TIMEOUT, FailureReason.TOTAL_DEADLINE_EXCEEDED
