"""Faults put in front of any backend, so that a timeout probability is swept against a real server too."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, SkipValidation, model_validator

from llmlab.backends.faults import FAULT_SHORTHANDS, SPOILS_THE_ANSWER, FaultKind, Faults, drawn, refused, spoilt
from llmlab.backends.mock import with_fault_shorthands
from llmlab.core.backend import Answer, SessionBackend
from llmlab.core.chance import Purpose, uniform
from llmlab.core.settings import Settings

if TYPE_CHECKING:
    from llmlab.core.backend import AttemptKey, Backend, Outcome, Timeouts
    from llmlab.core.messages import LLMRequest


class WithFaults(Settings):
    """A backend whose attempts fail as often as they are told to.

        WithFaults(OllamaBackend(), timeout_probability=0.2)

    A faulty attempt is not sent, unless the fault is one of the answer's text. Faults are drawn by (seed, call,
    attempt).

    Raises:
        SettingsError: a setting has a wrong name, type or value.
    """

    shorthands: ClassVar[tuple[str, ...]] = tuple(FAULT_SHORTHANDS)

    backend: SkipValidation[Any]
    faults: Faults = Faults()
    seed: int = 0
    name: str = Field(default="", exclude=True)

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
        if not callable(getattr(self.backend, "attempt", None)):
            kind = type(self.backend).__name__
            raise ValueError(f"backend: needs a method `async def attempt(...)`; a {kind} has none")
        inner = str(getattr(self.backend, "name", type(self.backend).__name__))
        object.__setattr__(self, "name", self.name or f"{inner}+faults")

    @property
    def simulated(self) -> bool:
        """Whether the backend behind is simulated."""
        return bool(getattr(self.backend, "simulated", False))

    def session(self) -> FaultySession:
        """Return what answers on the running event loop."""
        inner = self.backend.session() if isinstance(self.backend, SessionBackend) else self.backend
        return FaultySession(inner, self.faults, self.seed)

    async def attempt(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> Outcome:
        """Make one attempt, or fail as the draw for its key says."""
        return await self.session().attempt(request, timeouts=timeouts, key=key)


class FaultySession:
    """A `WithFaults` at work on one event loop."""

    def __init__(self, backend: Backend, faults: Faults, seed: int) -> None:
        self._backend = backend
        self._thresholds = faults.thresholds()
        self._retry_after = faults.retry_after
        self._seed = seed

    async def attempt(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> Outcome:
        """Make one attempt, or fail as the draw for its key says."""
        fault = drawn(self._thresholds, uniform(self._seed, key.call, key.attempt, Purpose.FAULT))
        if fault is FaultKind.TIMEOUT:
            await asyncio.get_running_loop().create_future()  # never answers; a timeout or a cancellation ends this
        if fault is not None and fault not in SPOILS_THE_ANSWER:
            return refused(fault, self._retry_after)
        outcome = await self._backend.attempt(request, timeouts=timeouts, key=key)
        return spoilt(fault, request, outcome) if fault is not None and isinstance(outcome, Answer) else outcome

    async def aclose(self) -> None:
        """Close the backend behind."""
        close = getattr(self._backend, "aclose", None)
        if close is not None:
            await close()
