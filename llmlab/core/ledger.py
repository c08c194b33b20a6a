"""One call's accounts, and what is made of them: events, a response, a failure.

The flow spends time in one account at a time and moves `now` along, so that the accounts add up to the call's duration.
Nothing here awaits or decides. Look at `flow.py` for who writes into the ledger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmlab.core.backend import Answer, AttemptFailure
from llmlab.core.events import NAN, AttemptEvent, CallEvent
from llmlab.core.messages import LLMFailure, LLMResponse
from llmlab.core.vocabulary import FailureReason, Fate

if TYPE_CHECKING:
    from asyncio import Task

    from llmlab.core.backend import Outcome
    from llmlab.core.messages import LLMRequest
    from llmlab.core.timers import Deadline
    from llmlab.core.vocabulary import BackoffSource

_new = tuple.__new__  # makes a named tuple without its Python-level constructor: a third of the time, once per attempt


class Ledger:
    """What one call has spent on what, up to `now`, and how it ended."""

    # Slots, all written at the start: a default on the class costs more at its first reading than this store.
    __slots__ = (
        "answer", "arrived", "attempt_started", "attempts", "backoff", "backoff_source", "cancelling", "deadline",
        "failure", "fate", "granted_at", "hedge", "hedges", "last", "last_wait", "now", "number", "parent_attempt",
        "parent_call", "parsed", "queued_at", "racing", "rate_wait", "request", "retried", "server", "slot_wait",
        "started", "task", "ticket", "total",
    )  # fmt: skip

    def __init__(self, request: LLMRequest, number: int, now: float, arrived: float, deadline: float) -> None:
        self.request = request
        self.number = number
        self.parent_call, self.parent_attempt = -1, 0
        self.started = self.now = now
        self.arrived = arrived
        self.deadline = deadline
        self.total: Deadline | None = None
        """The end of the call's total time, where the policy has one."""
        self.task: Task[Any]  # written when the call is under way
        self.cancelling = 0
        """How often the task was being cancelled when the call began."""
        self.attempts = 0
        self.queued_at = self.granted_at = self.attempt_started = now
        """When the current attempt began to wait for its slot, when it had the slot, when it was sent."""
        self.slot_wait = self.rate_wait = self.server = self.backoff = 0.0
        self.last_wait = 0.0
        """The backoff chosen last, in seconds."""
        self.backoff_source: BackoffSource | None = None
        self.answer: Answer | None = None
        self.parsed: Any = None
        self.last: AttemptFailure | None = None
        """What the last attempt met; `None` if it was answered."""
        self.fate: Fate | None = None
        """Set once, when the call is over."""
        self.failure: AttemptFailure | None = None
        """What ended the call, if it was not answered."""
        self.ticket: int | None = None
        """What the circuit breaker gave the current attempt, to be handed back at its end."""
        self.retried: FailureReason | None = None
        """What the current attempt is the retry of."""
        self.hedges = 0
        """How many of the attempts were hedges, which are no retries."""
        self.hedge = self.racing = False
        """Whether this is one attempt of a race and not the first; whether it is one at all (then the call's own ledger
        decides what comes next)."""

    def branch(self, now: float, *, hedge: bool) -> Ledger:
        """Begin another attempt of a race at `now`, on a ledger of its own."""
        branch = Ledger(self.request, self.number, now, self.arrived, self.deadline)
        branch.attempts = self.attempts  # `Flow.attempt` counts it
        branch.racing, branch.hedge = True, hedge
        branch.task = self.task  # until its own has begun
        branch.ticket = self.ticket
        branch.retried = FailureReason.ATTEMPT_TIMEOUT if hedge else self.retried  # as the retry budget was paid for it
        branch.queued_at, branch.granted_at = (now, now) if hedge else (self.queued_at, self.granted_at)
        return branch

    def take_over(self, branch: Ledger) -> None:
        """The attempt of this branch decides: its answer or failure is the call's."""
        self.attempt_started = branch.attempt_started
        self.answer, self.parsed, self.last = branch.answer, branch.parsed, branch.last

    def end(self, fate: Fate, failure: AttemptFailure | None = None) -> None:
        """The call is over."""
        self.fate = fate
        self.failure = failure

    def attempt_event(
        self, layer: str, backend: str, outcome: Outcome, failure: AttemptFailure | None, wait: float
    ) -> AttemptEvent:
        """Make the event of the attempt that has just ended; `failure` is why its outcome is of no use, if so."""
        queued, granted, started = self.queued_at, self.granted_at, self.attempt_started
        first_token, read, written, finish = _measures(outcome) if type(outcome) is Answer else _NOTHING
        if failure is None:
            reason, status, retry_after, source = None, 0, NAN, None
        else:
            reason, _, code, asked, _, _ = failure
            status, source = code or 0, self.backoff_source
            retry_after = NAN if asked is None else asked
        event: AttemptEvent = _new(
            AttemptEvent,
            (
                layer, self.number, self.attempts, backend, self.hedge, queued, granted - queued, started - granted,
                started, self.now, first_token, reason, status, retry_after, read, written, finish, wait, source,
            ),
        )  # fmt: skip
        return event

    def call_event(self, layer: str) -> CallEvent:
        """Make the event of the call that has just ended."""
        answer, failure, last = self.answer, self.failure, self.last
        first_token, read, written, finish = _NOTHING if answer is None else _measures(answer)
        event: CallEvent = _new(
            CallEvent,
            (
                layer, self.number, self.parent_call, self.parent_attempt, self.arrived, self.started, self.now,
                self.fate, None if failure is None else failure.reason, None if last is None else last.reason,
                self.attempts, self.slot_wait, self.rate_wait, self.server, self.backoff,
                self.attempt_started - self.arrived + first_token, read, written, finish,
            ),
        )  # fmt: skip
        return event

    def result(self) -> LLMResponse | LLMFailure:
        """Make what the caller gets. Not made with the call's end, because a simulation never asks for it."""
        return self._failed() if self.answer is None else self._response(self.answer)

    def _response(self, answer: Answer) -> LLMResponse:
        return LLMResponse(
            text=answer.text,
            model=answer.model or self.request.model or "",
            usage=answer.usage,
            finish_reason=answer.finish_reason,
            latency=self.now - self.started,
            time_to_first_token=answer.time_to_first_token,
            attempts=self.attempts,
            parsed=self.parsed,
            call=self.number,
        )

    def _failed(self) -> LLMFailure:
        fate, failure = self.fate, self.failure
        if fate is None or failure is None:
            raise RuntimeError("a call ends with an answer or a failure; this one has neither (a bug of llmlab)")
        last = self.last or failure
        message = failure.message
        if fate is Fate.RETRIES_EXHAUSTED:
            message += f"; no retries left after {self.attempts} attempt{'s' if self.attempts > 1 else ''}"
        return LLMFailure(
            reason=failure.reason,
            retryable=failure.is_retryable,
            message=message,
            fate=fate,
            attempts=self.attempts,
            latency=self.now - self.started,
            status_code=last.status_code,
            retry_after=last.retry_after,
            last_reason=None if self.last is None else self.last.reason,
            cause=last.cause,
            call=self.number,
        )


def _measures(answer: Answer) -> tuple[float, float, float, Any]:
    """Return time to first token, tokens read, tokens written and finish reason; NaN and `None` where unknown."""
    _, _, (read, written), finish, first_token = answer
    return (
        NAN if first_token is None else first_token,
        NAN if read is None else read,
        NAN if written is None else written,
        finish,
    )


_NOTHING: tuple[float, float, float, Any] = (NAN, NAN, NAN, None)
"""The measures of what is no answer."""
CANCELLED = AttemptFailure(FailureReason.CANCELLED, "the caller cancelled the call")
CRASHED = AttemptFailure(FailureReason.CRASHED, "the backend raised an exception")
