"""Faults put in front of any backend, so that a timeout probability is swept against a real server too."""

from __future__ import annotations

import asyncio
from math import ceil
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import PrivateAttr, SkipValidation, model_validator

from llmlab.backends.fault_effects import NO_BOUNDS, WHOLE, breaks_at, met, met_nothing, timing
from llmlab.backends.faults import (
    FAULT_SHORTHANDS,
    FAULTS,
    SPOILS_THE_ANSWER,
    FaultKind,
    Faults,
    spoilt,
    with_fault_shorthands,
)
from llmlab.backends.per_loop import PerLoop
from llmlab.backends.waiting import wait_until
from llmlab.core.backend import Answer, LayeredBackend, Timeouts, no_backend, session_of
from llmlab.core.chance import Purpose, uniform
from llmlab.core.settings import Settings
from llmlab.core.streams import StreamedAttempt, streaming

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from llmlab.core.backend import AttemptFailure, AttemptKey, AttemptStream, Backend, Outcome
    from llmlab.core.events import Observer
    from llmlab.core.messages import LLMRequest
    from llmlab.core.streams import Steps


class WithFaults(Settings):
    """A backend whose attempts fail as often as they are told to.

        WithFaults(OllamaBackend(), timeout_probability=0.2)

    A faulty attempt is not sent, unless the fault is one of the answer: then the answer is waited for, and the client
    meets it spoilt, late or not at all. Faults are drawn by (seed, call, attempt); a schedule's times count from the
    first use on the event loop.

    Raises:
        SettingsError: a setting has a wrong name, type or value.
    """

    shorthands: ClassVar[tuple[str, ...]] = tuple(FAULT_SHORTHANDS)

    kind: Literal["with_faults"] = "with_faults"
    backend: SkipValidation[Any]
    faults: Faults = Faults()
    seed: int = 0
    name: str = ""
    """What events call it; by default the backend's own name with "+faults"."""

    _sessions: PerLoop[FaultySession] = PrivateAttr(default_factory=PerLoop)

    if not TYPE_CHECKING:

        def __init__(self, backend: Any = None, faults: Faults | None = None, **settings: Any) -> None:
            given = {} if faults is None else {"faults": faults}
            super().__init__(backend=backend, **given, **settings)

    else:

        def __init__(self, backend: Backend, faults: Faults | None = None, **settings: Any) -> None: ...

    @model_validator(mode="before")
    @classmethod
    def _take_shorthands(cls, data: Any) -> Any:
        return with_fault_shorthands(data)

    def model_post_init(self, _context: Any) -> None:
        """Refuse what cannot serve as a backend; take its name."""
        why = no_backend(self.backend)
        if why is not None:
            raise ValueError(f"backend: {why}")
        inner = str(getattr(self.backend, "name", type(self.backend).__name__))
        object.__setattr__(self, "name", self.name or f"{inner}+faults")

    @property
    def simulated(self) -> bool:
        """Whether the backend behind is simulated."""
        return bool(getattr(self.backend, "simulated", False))

    def observed_by(self, observers: Sequence[Observer], above: Sequence[str]) -> WithFaults:
        """Return this backend with the events of layers behind it, if any, handed to these observers too."""
        if not isinstance(self.backend, LayeredBackend):
            return self
        observed: WithFaults = self.replace(backend=self.backend.observed_by(observers, above))
        return observed

    def session(self) -> FaultySession:
        """Return what answers on the running event loop."""
        inner = session_of(self.backend)
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None or session.settings is not self or session.backend is not inner:
            session = self._sessions.put(loop, FaultySession(self, inner, loop))
        return session

    async def attempt(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> Outcome:
        """Make one attempt, or fail as the draw for its key says."""
        return await self.session().attempt(request, timeouts=timeouts, key=key)

    def stream(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> AttemptStream:
        """Stream one attempt, as far as the fault that is drawn for its key lets the text through."""
        return self.session().stream(request, timeouts=timeouts, key=key)


class FaultySession:
    """A `WithFaults` at work on one event loop."""

    def __init__(self, settings: WithFaults, backend: Backend, loop: asyncio.AbstractEventLoop) -> None:
        self.settings = settings
        self.backend = backend
        self._stream = streaming(backend)
        self._loop = loop
        self._fault: Callable[[float], FaultKind | None] | None = settings.faults.drawing(settings.seed, loop.time)

    @property
    def view(self) -> Any:
        """The simulated server's own view, where the backend behind has one; else `None`."""
        return getattr(self.backend, "view", None)

    async def attempt(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> Outcome:
        """Make one attempt, or fail as the draw for its key says."""
        fault = self._drawn(key)
        if fault is None:
            return await self.backend.attempt(request, timeouts=timeouts, key=key)
        if fault not in SPOILS_THE_ANSWER:
            return await self._meets_nothing(fault, timeouts)
        began = self._loop.time()
        answer = await self.backend.attempt(request, timeouts=timeouts, key=key)
        outcome, end = self._met(fault, request, answer, self._loop.time() - began, timeouts)
        await wait_until(self._loop, began + end)
        return outcome

    def stream(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> AttemptStream:
        """Stream one attempt, as far as the fault that is drawn for its key lets the text through.

        Where a fault breaks an answer is known only at its end, so a half of what has come is held back all the time.
        A slow drip lets the first piece through, and the others when the answer is complete, each at its time. What
        spoils the text waits for the whole of it.
        """
        return StreamedAttempt(self._steps(request, timeouts, key))

    async def _steps(self, request: LLMRequest, timeouts: Timeouts, key: AttemptKey) -> Steps:
        fault = self._drawn(key)
        if fault is not None and fault not in SPOILS_THE_ANSWER:
            yield await self._meets_nothing(fault, timeouts)
            return
        began = self._loop.time()
        came: list[tuple[float, str]] = []
        handed_on = 0
        stream = self._stream(request, timeouts=timeouts, key=key)
        try:
            async for piece in stream:
                if piece:
                    came.append((self._loop.time() - began, piece))
                for _, text in came[handed_on : _let_through(fault, len(came))]:
                    handed_on += 1
                    yield text
        finally:
            await stream.aclose()
        if fault is None:
            yield stream.outcome
            return
        outcome, end = self._met(fault, request, stream.outcome, self._loop.time() - began, timeouts)
        for after, text in _held_back(fault, came, outcome, self.settings.faults):
            if after < end or isinstance(outcome, Answer):
                await wait_until(self._loop, began + min(after, end))
                yield text
        await wait_until(self._loop, began + end)
        yield outcome

    def _drawn(self, key: AttemptKey) -> FaultKind | None:
        if self._fault is None:
            return None
        return self._fault(uniform(self.settings.seed, key.call, key.attempt, Purpose.FAULT))

    async def _meets_nothing(self, fault: FaultKind, timeouts: Timeouts) -> AttemptFailure:
        began = self._loop.time()
        failure, wait = met_nothing(fault, timeouts, self.settings.faults)
        await wait_until(self._loop, began + (wait or 0.0))
        return failure

    def _met(
        self, fault: FaultKind, request: LLMRequest, answer: Outcome, took: float, timeouts: Timeouts
    ) -> tuple[Outcome, float]:
        """Return what the client meets of an answer that took so long, and after how many seconds."""
        if not isinstance(answer, Answer):
            return answer, took
        if FAULTS[fault].place == "text":
            return spoilt(fault, request, answer), took
        first_token = took if answer.time_to_first_token is None else min(answer.time_to_first_token, took)
        when = timing(first_token, took, answer.usage.output_tokens)
        # The backend behind has kept the client's bounds already; only what is made slower here is held to them again.
        bounds = timeouts if fault in _SLOWS else NO_BOUNDS
        return met(fault, request, answer, when, timeouts=bounds, faults=self.settings.faults)

    async def aclose(self) -> None:
        """Close the backend behind."""
        close = getattr(self.backend, "aclose", None)
        if close is not None:
            await close()


def _let_through(fault: FaultKind | None, came: int) -> int:
    """Return how many of the pieces that have come are handed on at once."""
    if fault is not None and FAULTS[fault].place == "text":
        return 0
    if fault in _SLOWS:
        return min(came, 1)
    return ceil(came * breaks_at(fault, WHOLE))


def _held_back(
    fault: FaultKind, came: list[tuple[float, str]], outcome: Outcome, faults: Faults
) -> list[tuple[float, str]]:
    """Return the text that is handed on when the answer is complete, and in each case when, counted from its start."""
    if FAULTS[fault].place == "text":
        return [(0.0, outcome.text)] if isinstance(outcome, Answer) else []
    if fault is not FaultKind.SLOW_DRIP or not came:
        return []
    first = came[0][0]
    return [(first + (after - first) * faults.slow_drip_factor, text) for after, text in came[1:]]


_SLOWS = (FaultKind.STALL, FaultKind.SLOW_DRIP)
