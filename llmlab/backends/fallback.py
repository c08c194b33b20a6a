"""Fallback: where one backend or model does not answer, ask the next.

    Fallback([LocalModel, Layer(Hosted, ClientPolicy(attempt_timeout=20), name="hosted")])

Within one attempt of the client outside, the targets are asked in order until one answers. Each is a client of its
own, with its own retries, limits and breaker (`layer.py`), so a target whose circuit is open is passed over at once.
The outer client sees one attempt: its timeouts bound all targets together, and its retries begin again at the first.

Deciding is pure: `falls_back` says whether a failure moves on to the next target, `of_all` what the attempt has failed
with when none has answered. Which reasons move on by default, and why:

| reason | moves on | why |
| --- | --- | --- |
| `attempt_timeout`, `connection_failed`, `connection_lost` | yes | another server need not be slow or unreachable too |
| `rate_limited`, `overloaded`, `server_error` | yes | another server has limits and troubles of its own |
| `empty_output`, `malformed_output`, `malformed_response` | yes | another model may do better |
| `total_deadline_exceeded`, `rejected_by_limit` | yes | the target's own client gave up |
| `circuit_open`, `budget_exhausted` | yes | the same |
| `context_length_exceeded` | yes | another model may have a longer context |
| `model_not_found`, `not_authorised` | yes | they are of this target, not of the request |
| `invalid_request`, `empty_prompt` | no | the request is wrong everywhere, and says so sooner |
| `truncated_output` | no | the request's own `max_tokens` would cut the next answer too |
| `refused` | no | to ask elsewhere what one model declined is for you to decide: add it to `on` |
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeGuard

from pydantic import BeforeValidator, Field, PrivateAttr

from llmlab.backends.layer import Layer
from llmlab.backends.per_loop import PerLoop
from llmlab.core.backend import AttemptFailure
from llmlab.core.chance import derived
from llmlab.core.client import AsyncClient
from llmlab.core.policy import ClientPolicy
from llmlab.core.retry import RetryPolicy
from llmlab.core.settings import Settings
from llmlab.core.streams import StreamedAttempt
from llmlab.core.vocabulary import RETRYABLE, FailureReason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmlab.core.backend import AttemptKey, AttemptStream, Backend, Outcome, Timeouts
    from llmlab.core.events import Observer
    from llmlab.core.inner_client import InnerClient
    from llmlab.core.messages import LLMRequest
    from llmlab.core.streams import Steps

MOVES_ON: frozenset[FailureReason] = RETRYABLE | {
    FailureReason.CONTEXT_LENGTH_EXCEEDED,
    FailureReason.MODEL_NOT_FOUND,
    FailureReason.NOT_AUTHORISED,
}
"""The reasons that move on to the next target, unless said otherwise; the module's docstring has the grounds."""

_NO_OUTCOME = frozenset({FailureReason.CANCELLED, FailureReason.CRASHED, FailureReason.EMPTY_PROMPT})
"""What no target ever fails with: a cancellation and a bug are exceptions, an empty prompt is never sent."""

ONE_TRY = ClientPolicy(retry=RetryPolicy(max_retries=0), attempt_timeout=10.0, total_timeout=10.0)
"""The policy of a target that is given as a plain backend: asked once, for so long that three of them have their turn
within the 30 s that an attempt of the client outside may take by default."""


def falls_back(outcome: Outcome, on: frozenset[FailureReason]) -> TypeGuard[AttemptFailure]:
    """Whether the next target is asked after this outcome."""
    return isinstance(outcome, AttemptFailure) and outcome.reason in on


def of_all(failures: Sequence[tuple[str, AttemptFailure]]) -> AttemptFailure:
    """Return what an attempt has failed with whose targets, by name, all failed so.

    It can be tried again if one of the targets can be: the failure is the retryable one that asks for the shortest wait
    (one without a Retry-After asks for none), of several the last; where none is retryable, the last of all.
    """
    if len(failures) == 1:
        return failures[0][1]
    again = [failure for _, failure in failures if failure.is_retryable]
    chosen = min(reversed(again), key=lambda failure: failure.retry_after or 0.0) if again else failures[-1][1]
    said = "; ".join(f"{name}: {failure.reason}: {failure.message}" for name, failure in failures)
    return chosen._replace(message=f"none of {len(failures)} targets answered: {said}")


def _as_targets(given: object) -> tuple[Any, ...]:
    """Make clients of plain backends, and give targets without a name one by their place."""
    if not isinstance(given, list | tuple):
        raise ValueError(f"a list of at least one backend is needed, got a {type(given).__name__}")
    if not given:
        raise ValueError("a list of at least one backend is needed, got an empty one")
    return tuple(_as_target(one, f"target{place}") for place, one in enumerate(given, 1))


def _as_target(given: Any, name: str) -> Any:
    if isinstance(given, AsyncClient):
        return given
    if isinstance(given, Layer):
        return given if "name" in given.model_fields_set else given.replace(name=name)
    return Layer(given, ONE_TRY, name=name)


class Fallback(Settings):
    """Several backends or models, asked in order until one answers.

        Fallback([OllamaBackend(model="llama3.2"), MockBackend()])
        Fallback([Layer(server, model="large", name="large"), Layer(server, model="small", name="small")])

    A plain backend is asked once, for at most 10 s (`ONE_TRY`); a `Layer` or an `AsyncClient` by its own policy. What a
    target may take must fit into the outer client's `attempt_timeout`, which ends the attempt wherever it is.

    Raises:
        SettingsError: a setting has a wrong name, type or value.
    """

    kind: Literal["fallback"] = "fallback"
    targets: Annotated[tuple[Any, ...], BeforeValidator(_as_targets)]
    on: frozenset[FailureReason] = MOVES_ON
    """The reasons that move on to the next target; any other failure ends the attempt."""
    name: str = Field(default="fallback", min_length=1)
    """What the attempts of the client outside are sent to, in its events."""

    _sessions: PerLoop[FallbackSession] = PrivateAttr(default_factory=PerLoop)

    if not TYPE_CHECKING:

        def __init__(self, targets: Any = None, **settings: Any) -> None:
            super().__init__(**{} if targets is None else {"targets": targets}, **settings)

    else:

        def __init__(
            self,
            targets: Sequence[Backend | Layer | AsyncClient],
            *,
            on: frozenset[FailureReason] | set[FailureReason] = ...,
            name: str = "fallback",
        ) -> None: ...

    def model_post_init(self, _context: Any) -> None:
        """Refuse names that do not tell targets apart, and reasons that no target can fail with."""
        super().model_post_init(_context)
        names = [target.name for target in self.targets]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"targets: several are called {', '.join(map(repr, twice))}; give each a name of its own, a Layer by "
                "name= and a client by layer="
            )
        for reason in sorted(self.on & _NO_OUTCOME):
            raise ValueError(
                f"on: no target fails with '{reason}'; valid: {', '.join(sorted(set(FailureReason) - _NO_OUTCOME))}"
            )

    @property
    def simulated(self) -> bool:
        """Whether all targets are simulated."""
        return all(target.simulated for target in self.targets)

    def observed_by(self, observers: Sequence[Observer], above: Sequence[str]) -> Fallback:
        """Return this backend, limits shared, with its targets' events handed to these observers."""
        targets, names = [], list(above)
        for target in self.targets:
            targets.append(target.observed_by(observers, names))
            names.append(targets[-1].name)
        observed = self.model_copy(update={"targets": tuple(targets)})
        observed._sessions = PerLoop()
        return observed

    def session(self) -> FallbackSession:
        """Return what answers on the running event loop."""
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None:
            session = self._sessions.put(loop, FallbackSession(self, loop))
        return session

    async def attempt(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> Outcome:
        """Ask the targets in order until one answers."""
        return await self.session().attempt(request, timeouts=timeouts, key=key)

    def stream(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> AttemptStream:
        """Ask the targets in order until one begins to answer."""
        return self.session().stream(request, timeouts=timeouts, key=key)


class FallbackSession:
    """A `Fallback` at work on one event loop."""

    def __init__(self, settings: Fallback, loop: asyncio.AbstractEventLoop) -> None:
        self._on = settings.on
        self._loop = loop
        self._targets: list[tuple[str, InnerClient]] = [(target.name, target.session()) for target in settings.targets]

    @property
    def view(self) -> Any:
        """The first target's simulated server's own view, where there is one; else `None`."""
        return self._targets[0][1].view

    async def attempt(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> Outcome:
        """Ask the targets in order until one answers."""
        del timeouts  # each target has its own
        failures: list[tuple[str, AttemptFailure]] = []
        began = self._loop.time()
        for place, (name, target) in enumerate(self._targets):
            asked = self._loop.time()
            # Numbered by the target's place, or all targets would meet the same weather: then none is of any help.
            outcome = await target.serve(request, derived(key.call, key.attempt, place), key)
            if not falls_back(outcome, self._on):
                return _later(outcome, asked - began)
            failures.append((name, outcome))
        return of_all(failures)

    def stream(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> AttemptStream:
        """Ask the targets in order until one begins to answer; the text is then its own, whatever becomes of it."""
        del timeouts
        return StreamedAttempt(self._steps(request, key))

    async def _steps(self, request: LLMRequest, key: AttemptKey) -> Steps:
        failures: list[tuple[str, AttemptFailure]] = []
        began = self._loop.time()
        for place, (name, target) in enumerate(self._targets):
            asked, spoke = self._loop.time(), False
            stream = target.serve_stream(request, derived(key.call, key.attempt, place), key)
            try:
                async for piece in stream:
                    spoke = True
                    yield piece
            finally:
                await stream.aclose()
            outcome = stream.outcome
            if spoke or not falls_back(outcome, self._on):
                yield _later(outcome, asked - began)
                return
            failures.append((name, outcome))
        yield of_all(failures)

    async def aclose(self) -> None:
        """Close the targets."""
        for _, target in self._targets:
            await target.aclose()


def _later(outcome: Outcome, by: float) -> Outcome:
    """Return an outcome whose time to first token counts from so many seconds earlier."""
    if isinstance(outcome, AttemptFailure) or outcome.time_to_first_token is None:
        return outcome
    return outcome._replace(time_to_first_token=by + outcome.time_to_first_token)
