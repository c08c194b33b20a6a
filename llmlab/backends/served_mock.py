"""A `MockBackend` whose server queues, at work on one event loop: what becomes of each attempt there.

The server itself is a `DrivenMachine` (`server_driver.py`). An attempt comes to it, awaits one future and leaves; a
cancelled one is a client that has gone, and the machine is told.

What stands between server and client acts here: the client's bounds on the phases, and the faults. A fault that keeps
an answer from coming about acts in front of the server: the request takes no slot, and is not counted. One of the
stream acts on the way back: the server works as ever, except that an error and a cut end its work half-way.
"""

from __future__ import annotations

from asyncio import CancelledError
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

from llmlab.backends.fault_effects import Timing, breaks_at, met, met_nothing, timing
from llmlab.backends.faults import FAULTS, SPOILS_THE_ANSWER, FaultKind
from llmlab.backends.request_work import RequestWork
from llmlab.backends.served_stream import ServedReader
from llmlab.backends.served_visit import ServedVisit, TokenWatch
from llmlab.backends.server_driver import DrivenMachine
from llmlab.backends.server_limits import ServerLimits
from llmlab.backends.visit import Instead, instead
from llmlab.backends.waiting import wait_until
from llmlab.core.backend import Answer, AttemptFailure, Timeouts
from llmlab.core.chance import Purpose, unit, words
from llmlab.core.limits import estimated_tokens
from llmlab.core.streams import StreamedAttempt
from llmlab.core.timers import sleep_until
from llmlab.core.vocabulary import FailureReason

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

    from llmlab.backends.request_work import Draws, Simulation, Size
    from llmlab.backends.server_job import Job
    from llmlab.backends.server_limits import Standing
    from llmlab.backends.server_model import ServerModel
    from llmlab.core.backend import AttemptKey, AttemptStream, Outcome
    from llmlab.core.messages import LLMRequest, Usage
    from llmlab.core.streams import Steps


class ServedMock(DrivenMachine):
    """A simulated server with a queue; `settings` are its backend's."""

    def __init__(
        self,
        settings: Simulation,
        model: ServerModel,
        loop: AbstractEventLoop,
        compose: Callable[[LLMRequest], tuple[str, Usage]],
    ) -> None:
        super().__init__(model, loop)
        self.settings = settings
        self._fault = settings.faults.drawing(settings.seed, loop.time)
        limited = model.requests_per_minute is not None or model.tokens_per_minute is not None
        self._limits = ServerLimits(model) if limited else None
        self._seed, self._script, self._model = settings.seed, settings.script, settings.model
        work = RequestWork(settings, model, compose)
        self._size, self._job = work.size, work.job

    def limits(self) -> dict[str, Standing]:
        """Return how the server's rate limits stand now, of `requests` and of `tokens` where they are limited."""
        return {} if self._limits is None else self._limits.standing(self._now())

    async def attempt(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> Outcome:
        """Queue one attempt and serve it, or fail as the script, the draw for its key or the server's state says."""
        fault, entry, draws = self._drawn(key)
        if isinstance(entry, AttemptFailure):
            return await self._refuse(entry, draws)
        if fault is None or fault in SPOILS_THE_ANSWER:
            outcome = await self._served(request, timeouts, draws, fault)
            return entry if entry is not None and isinstance(outcome, Answer) else outcome
        failure, wait = met_nothing(fault, timeouts, self.settings.faults)
        if wait is None:
            return await self._refuse(failure, draws)
        await wait_until(self._loop, self._loop.time() + wait)
        return failure

    def stream(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> AttemptStream:
        """Queue one attempt and read its answer as it is written; it comes with the first piece asked for."""
        return StreamedAttempt(self._steps(request, timeouts, key))

    async def _steps(self, request: LLMRequest, timeouts: Timeouts, key: AttemptKey) -> Steps:
        began, faults = self._loop.time(), self.settings.faults
        visit = self.visit(request, key, streamed=True)
        if isinstance(visit, ServedVisit):
            reader = ServedReader(visit, request, timeouts=timeouts, faults=faults, loop=self._loop)
            async with aclosing(reader.steps()) as steps:
                async for step in steps:
                    yield step
            return
        failure, wait = visit.failure, None
        if visit.fault is not None:
            failure, wait = met_nothing(visit.fault, timeouts, faults)
        await wait_until(self._loop, began + (visit.after if wait is None else wait))
        yield failure

    def visit(self, request: LLMRequest, key: AttemptKey, *, streamed: bool) -> ServedVisit | Instead:
        """Take a request in and return what the server does with it, whatever its client's patience.

        Args:
            request: what is asked.
            key: for the draws.
            streamed: whether each token is waited for; else only the end can be.
        """
        fault, entry, draws = self._drawn(key)
        refused_after = self.settings.refusal_latency.at(unit(draws[1]))
        if isinstance(entry, AttemptFailure):
            return Instead(entry, refused_after)
        if fault is not None and fault not in SPOILS_THE_ANSWER:
            return instead(fault, self.settings.faults, refused_after)
        now = self._now()
        come = self._come(now, request, draws, fault, TokenWatch() if streamed else None)
        if isinstance(come, AttemptFailure):
            return Instead(come, refused_after)
        size, job = come
        self._settle()
        answer = self._answer(request, size, None) if entry is None else entry
        served = partial(self._count_tokens, request, size)
        return ServedVisit(self._loop, job, answer, fault, clock=self._now, gone=self._gone, served=served)

    def _drawn(self, key: AttemptKey) -> tuple[FaultKind | None, Answer | AttemptFailure | None, Draws]:
        """Return the fault that is drawn for an attempt, what a script gives outright, and all its draws."""
        call, number = key
        draws = words(self._seed, call, number, _SERVER)
        fault = None if self._fault is None else self._fault(unit(draws[0]))
        if self._script and number <= len(self._script):
            entry = self._script[number - 1]
            if isinstance(entry, Answer | AttemptFailure):
                return None, entry, draws
            fault = FaultKind(entry) if entry in FAULTS else None
        return fault, None, draws

    def _come(
        self,
        now: float,
        request: LLMRequest,
        draws: Draws,
        fault: FaultKind | None,
        watcher: Timeouts | TokenWatch | None,
    ) -> tuple[Size, Job] | AttemptFailure:
        """Come to the server with a request: it is let in, or refused. What the machine does then is to be settled.

        Who watches its tokens is a client with its bounds, or who counts them, or nobody.
        """
        refusal = None if self._limits is None else self._over_limit(now, request)
        if refusal is not None:
            return refusal
        size = self._size(request, draws)
        job = self._job(request, size.usage, draws)
        if fault is not None:
            _break(job, fault)
        job.watch = self._watch(watcher, job, fault) if isinstance(watcher, Timeouts) else watcher
        if not self.machine.arrive(now, job):
            self._settle()
            return _FULL
        job.waiter = self._loop.create_future()
        return size, job

    async def _served(self, request: LLMRequest, timeouts: Timeouts, draws: Draws, fault: FaultKind | None) -> Outcome:
        """Come to the server with a request, wait, and leave with the answer or without."""
        loop = self._loop
        now = self._now()
        come = self._come(now, request, draws, fault, timeouts)
        if isinstance(come, AttemptFailure):
            return await self._refuse(come, draws)
        size, job = come
        bound = timeouts.first_byte
        timer = None if bound is None else loop.call_at(self._origin + now + bound, self._no_first_byte, job, timeouts)
        self._settle()
        try:
            ended_early: AttemptFailure | None = await job.waiter
        except CancelledError:
            self._gone(job)
            if job.watch is None:
                job.waiter = None  # the server may keep the abandoned request in its queue for long
            raise
        finally:
            if timer is not None:
                timer.cancel()
        if ended_early is not None:
            return ended_early
        if self._limits is not None:
            self._count_tokens(request, size)
        answer = self._answer(request, size, job.first_at - now)
        return answer if fault is None else await self._disturbed(fault, request, answer, timeouts, now)

    def _answer(self, request: LLMRequest, size: Size, first_token: float | None) -> Answer:
        return Answer(size.text, request.model or self._model, size.usage, size.finish_reason, first_token)

    def _count_tokens(self, request: LLMRequest, size: Size) -> None:
        if self._limits is not None:
            self._limits.settle(estimated_tokens(request), sum(count or 0 for count in size.usage))

    async def _disturbed(
        self, fault: FaultKind, request: LLMRequest, answer: Answer, timeouts: Timeouts, began: float
    ) -> Outcome:
        """Do what an attempt meets on the way back from the server."""
        took = self._now() - began
        when = timing(answer.time_to_first_token or 0.0, took, answer.usage.output_tokens)
        outcome, end = met(fault, request, answer, when, timeouts=timeouts, faults=self.settings.faults)
        if end > took:
            await wait_until(self._loop, self._origin + began + end)
        return outcome

    async def _refuse(self, failure: AttemptFailure, draws: Draws) -> AttemptFailure:
        await sleep_until(self._loop, self._loop.time() + self.settings.refusal_latency.at(unit(draws[1])))
        return failure

    def _over_limit(self, now: float, request: LLMRequest) -> AttemptFailure | None:
        wait = None if self._limits is None else self._limits.admit(now, estimated_tokens(request))
        if wait is None:
            return None
        self.machine.refuse(now)
        return _LIMITED._replace(retry_after=wait)


def _break(job: Job, fault: FaultKind) -> None:
    """Let a fault that breaks the answer make the work useless, and end it where the answer breaks."""
    job.broken = FAULTS[fault].place == "stream" and fault is not FaultKind.SLOW_DRIP
    job.total = breaks_at(fault, Timing(job.first, job.total, job.gap))


_SERVER = Purpose.SERVER  # 3.11 looks an enumeration's member up in Python each time, a module's name not
_FULL = AttemptFailure(FailureReason.OVERLOADED, "the server is busy: too many requests are waiting", 503)
_LIMITED = AttemptFailure(FailureReason.RATE_LIMITED, "the server's rate limit is used up; wait for Retry-After", 429)
