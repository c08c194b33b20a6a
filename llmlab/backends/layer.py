"""A client as a value, for stacks of clients and as the target of a fallback.

`AsyncClient` is at work on an event loop and holds connections and counts; a `Layer` is what it is made from: frozen,
serialisable, and swept by its paths (`backend.policy.retry.max_retries`). Look next at `fallback.py`, which tries
several of them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PrivateAttr, SkipValidation

from llmlab.backends.per_loop import PerLoop
from llmlab.core.backend import no_backend
from llmlab.core.client import AsyncClient
from llmlab.core.inner_client import InnerClient, unlike
from llmlab.core.policy import ClientPolicy
from llmlab.core.settings import Settings
from llmlab.core.state import ClientState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmlab.core.backend import AttemptKey, AttemptStream, Backend, Outcome, Timeouts
    from llmlab.core.events import Observer
    from llmlab.core.messages import LLMRequest


class Layer(Settings):
    """A backend under a policy of its own, as another client's backend: what an SDK is to the application around it.

        application, sdk = stack("stamina", "openai")
        Experiment(backend=Layer(MockBackend(), sdk, name="sdk"), policy=application)

    One attempt of the client outside is one whole call here, with its own retries, waits and limits. The outer
    attempt's timeout ends it by cancelling. Its events go to the observers of the client outside, and carry its `name`
    as `layer`; its limits are shared by all who use this very value on one event loop.

    Raises:
        SettingsError: a setting has a wrong name, type or value.
    """

    kind: Literal["layer"] = "layer"
    backend: SkipValidation[Any]
    policy: ClientPolicy = ClientPolicy()
    model: str | None = Field(default=None, min_length=1)
    """The model to ask for, whatever the request says; `None` leaves that to the request."""
    name: str = Field(default="layer", min_length=1)
    """Its name in events. Where a layer outside has the same name, it gets a number."""
    seed: int | None = None
    """Fixes its jitter; `None` takes one from the operating system. An experiment sets it."""

    _states: PerLoop[ClientState] = PrivateAttr(default_factory=PerLoop)
    _sessions: PerLoop[InnerClient] = PrivateAttr(default_factory=PerLoop)
    _observers: Sequence[Observer] | None = PrivateAttr(default=None)
    _above: tuple[str, ...] = PrivateAttr(default=())

    if not TYPE_CHECKING:

        def __init__(self, backend: Any = None, policy: ClientPolicy | None = None, **settings: Any) -> None:
            given = {} if policy is None else {"policy": policy}
            super().__init__(backend=backend, **given, **settings)

    else:

        def __init__(
            self,
            backend: Backend,
            policy: ClientPolicy | None = None,
            *,
            model: str | None = None,
            name: str = "layer",
            seed: int | None = None,
        ) -> None: ...

    def model_post_init(self, _context: Any) -> None:
        """Refuse what cannot serve as a backend."""
        super().model_post_init(_context)
        why = no_backend(self.backend)
        if why is not None:
            raise ValueError(f"backend: {why}")

    @property
    def simulated(self) -> bool:
        """Whether the backend behind is simulated."""
        return bool(getattr(self.backend, "simulated", False))

    def observed_by(self, observers: Sequence[Observer], above: Sequence[str]) -> Layer:
        """Return this layer, limits shared, with its events handed to these observers."""
        layer = self.model_copy(update={"name": unlike(self.name, above)})
        layer._sessions, layer._observers, layer._above = PerLoop(), observers, tuple(above)
        return layer

    def session(self) -> InnerClient:
        """Return what answers on the running event loop."""
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None:
            session = self._sessions.put(loop, InnerClient(self._client(loop), self.model))
        return session

    def _client(self, loop: asyncio.AbstractEventLoop) -> AsyncClient:
        state = self._states.get(loop) or self._states.put(loop, ClientState(self.policy))
        client = AsyncClient(self.backend, self.policy, seed=self.seed, state=state, layer=self.name)
        return client if self._observers is None else client.observed_by(self._observers, self._above)

    async def attempt(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> Outcome:
        """Make one call; its result is the outcome of the attempt outside."""
        return await self.session().attempt(request, timeouts=timeouts, key=key)

    def stream(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> AttemptStream:
        """Make one streamed call; its text and its result are those of the attempt outside."""
        return self.session().stream(request, timeouts=timeouts, key=key)
