"""A `MockBackend` without a queue, at work on one event loop: a server that knows at once what will come of an attempt.

Every request is served as it comes, and what it meets is drawn for its key alone. The server that queues is in
`served_mock.py`.
"""

from __future__ import annotations

import asyncio
import json
from math import inf
from typing import TYPE_CHECKING, TypeAlias

from llmlab.backends.fault_effects import Timing, met, met_nothing, timing
from llmlab.backends.faults import SPOILS_THE_ANSWER, FaultKind
from llmlab.backends.schema_example import schema_example
from llmlab.backends.script import ANSWER
from llmlab.backends.token_stream import coming
from llmlab.backends.visit import ForeseenVisit, Instead, instead
from llmlab.backends.waiting import tell, wait_until
from llmlab.core.backend import Answer, AttemptFailure
from llmlab.core.chance import Purpose, two_uniforms
from llmlab.core.messages import Usage
from llmlab.core.settings import kind_of
from llmlab.core.streams import StreamedAttempt
from llmlab.core.vocabulary import FailureReason, FinishReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlab.backends.request_work import Simulation
    from llmlab.backends.server_limits import Standing
    from llmlab.backends.visit import Visit
    from llmlab.core.backend import AttemptKey, AttemptStream, Outcome, Timeouts
    from llmlab.core.messages import LLMRequest
    from llmlab.core.streams import Steps

_Drawn: TypeAlias = tuple[FaultKind | None, Answer | AttemptFailure | None, float]
_SERVER = Purpose.SERVER  # 3.11 looks an enumeration's member up in Python each time, a module's name not
_STOP = FinishReason.STOP
_TIMEOUT = FaultKind.TIMEOUT
_NO_ANSWER = AttemptFailure(FailureReason.ATTEMPT_TIMEOUT, "no answer ever comes")
_new = tuple.__new__  # makes an answer without the Python-level constructor of named tuples


class MockServer:
    """A `MockBackend` without a queue, at work on one event loop."""

    view: None = None
    """A server without end has nothing to record of itself."""

    def limits(self) -> dict[str, Standing]:
        """Return nothing: a server without end has no limits."""
        return {}

    def __init__(self, settings: Simulation, loop: asyncio.AbstractEventLoop) -> None:
        self.settings = settings
        self._loop = loop
        self._seed = settings.seed
        self._latency = settings.latency.at
        self._refusal_latency = settings.refusal_latency.at
        self._first_token_share = settings.first_token_share
        self._fault = settings.faults.drawing(settings.seed, loop.time)
        self._timeouts: Timeouts | None = None
        self._unbounded = False
        self._patience = inf
        self._model = settings.model
        self._text: str | Callable[[LLMRequest], str] = settings.text
        self._script = settings.script
        self._answered: LLMRequest | None = None
        self._text_and_usage = ("", Usage())

    async def attempt(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> Outcome:
        """Answer one attempt, or fail as the script or the draw for its key says."""
        told, timer = self.begin(request, timeouts, key, inf)
        try:
            return await told
        except asyncio.CancelledError:
            if timer is not None:
                timer.cancel()
            raise

    def begin(
        self, request: LLMRequest, timeouts: Timeouts, key: AttemptKey, limit: float
    ) -> tuple[asyncio.Future[Outcome], asyncio.TimerHandle | None]:
        """Begin one attempt: a future of its outcome, told at `limit` at the latest, and the timer that will tell it.

        A server without a queue knows at once what will come of an attempt, and when.
        """
        loop = self._loop
        outcome, after = self._coming(request, timeouts, self._drawn(key))
        when = min(loop.time() + after, limit)
        told = loop.create_future()
        return told, None if when == inf else loop.call_at(when, tell, told, outcome)

    def _coming(self, request: LLMRequest, timeouts: Timeouts, drawn: _Drawn) -> tuple[Outcome, float]:
        """Return what comes of an attempt, and after how many seconds."""
        fault, entry, u_latency = drawn
        latency_at = self._latency  # a bound function is called quicker by a name of its own
        if entry is not None:
            return entry, (latency_at if isinstance(entry, Answer) else self._refusal_latency)(u_latency)
        if timeouts is not self._timeouts:
            self._learn(timeouts)
        if fault is _TIMEOUT and self._unbounded:
            return _NO_ANSWER, inf
        latency = latency_at(u_latency)
        if fault is not None or latency > self._patience:
            return self._disturbed(fault, request, timeouts, latency, u_latency)
        return self._answer(request, latency), latency

    def stream(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> AttemptStream:
        """Answer one attempt a token at a time; it begins with the first piece asked for."""
        return StreamedAttempt(self._steps(request, timeouts, key))

    async def _steps(self, request: LLMRequest, timeouts: Timeouts, key: AttemptKey) -> Steps:
        began = self._loop.time()
        drawn = self._drawn(key)
        outcome, after = self._coming(request, timeouts, drawn)
        fault, entry, _ = drawn
        if not isinstance(entry, AttemptFailure) and (fault is None or fault in SPOILS_THE_ANSWER):
            answer, when = self._whole(request, drawn)
            for piece in coming(answer, when, outcome, after, fault=fault, faults=self.settings.faults):
                await wait_until(self._loop, began + piece.after)
                yield piece.text
        await wait_until(self._loop, began + after)
        yield outcome

    def visit(self, request: LLMRequest, key: AttemptKey, *, streamed: bool) -> Visit | Instead:
        """Return what the server does with a request, whatever its client's patience."""
        del streamed  # it costs nothing here
        fault, entry, u_latency = drawn = self._drawn(key)
        if isinstance(entry, AttemptFailure):
            return Instead(entry, self._refusal_latency(u_latency))
        if fault is not None and fault not in SPOILS_THE_ANSWER:
            return instead(fault, self.settings.faults, self._refusal_latency(u_latency))
        answer, when = self._whole(request, drawn)
        return ForeseenVisit(self._loop, answer, fault, when)

    def _whole(self, request: LLMRequest, drawn: _Drawn) -> tuple[Answer, Timing]:
        """Return the answer that an attempt gets, but for a fault of it, and when it comes."""
        _, entry, u_latency = drawn
        latency = self._latency(u_latency)
        answer = entry if isinstance(entry, Answer) else self._answer(request, latency)
        return answer, timing(latency * self._first_token_share, latency, answer.usage.output_tokens)

    def _drawn(self, key: AttemptKey) -> _Drawn:
        """Return the fault that is drawn for an attempt, what a script gives outright, and the draw for its latency."""
        call, number = key
        u_fault, u_latency = two_uniforms(self._seed, call, number, _SERVER)
        draw = self._fault
        fault = None if draw is None else draw(u_fault)
        if self._script and number <= len(self._script):
            entry = self._script[number - 1]
            if isinstance(entry, Answer | AttemptFailure):
                return None, entry, u_latency
            fault = None if entry == ANSWER else FaultKind(entry)
        return fault, None, u_latency

    def _learn(self, timeouts: Timeouts) -> None:
        """Note up to which latency no phase can outlast its bound, however few tokens there are."""
        share = self._first_token_share
        bounds = ((timeouts.first_byte, share), (timeouts.between_chunks, 1.0 - share))
        self._patience = min((bound / part for bound, part in bounds if bound is not None and part), default=inf)
        self._unbounded = timeouts.first_byte is None
        self._timeouts = timeouts

    def _answer(self, request: LLMRequest, latency: float) -> Answer:
        if request is not self._answered:  # the same request again (a workload's) has the same text and tokens
            self._text_and_usage = self.compose(request)
            self._answered = request
        text, usage = self._text_and_usage
        model = request.model or self._model
        answer: Answer = _new(Answer, (text, model, usage, _STOP, latency * self._first_token_share))
        return answer

    def _disturbed(
        self, fault: FaultKind | None, request: LLMRequest, timeouts: Timeouts, latency: float, u: float
    ) -> tuple[Outcome, float]:
        """Return what an attempt meets that has a fault, or a phase that may outlast its bound, and after how long."""
        faults = self.settings.faults
        if fault is None or fault in SPOILS_THE_ANSWER:
            answer = self._answer(request, latency)
            when = timing(latency * self._first_token_share, latency, answer.usage.output_tokens)
            outcome, after = met(fault, request, answer, when, timeouts=timeouts, faults=faults)
        else:
            outcome, wait = met_nothing(fault, timeouts, faults)
            after = self._refusal_latency(u) if wait is None else wait
        return outcome, after

    def compose(self, request: LLMRequest) -> tuple[str, Usage]:
        """Return the text that answers a request, and its tokens (characters / 4)."""
        schema = request.json_schema()
        if schema is not None:
            text = json.dumps({} if schema == "json" else schema_example(schema))
        elif isinstance(self._text, str):
            text = self._text
        else:
            text = self._text(request)
            given: object = text  # the function is the user's
            if not isinstance(given, str):
                raise TypeError(f"text, a function of the request, must return a str, got {kind_of(given)}")
        return text, Usage(-(-request.characters // 4), -(-len(text) // 4))
