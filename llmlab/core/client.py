"""`AsyncClient`: a backend, a policy and who watches, as one thing to call.

It adds no behaviour to the flow: it numbers the calls, keeps one `Flow` for the event loop in use, and turns many
requests into many calls. A client is itself a backend (`attempt`), so clients can be stacked; the observers of the
outer one then see the events of those inside too (`backends/layer.py` is the same as a value, for experiments).
`llmlab.sync.Client` is its thin synchronous face.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import os
from typing import TYPE_CHECKING, Any

from llmlab.core import chance
from llmlab.core.backend import Answer, AttemptFailure, LayeredBackend, session_of
from llmlab.core.batch import Batch
from llmlab.core.emitter import Emitter, RaceEmitter
from llmlab.core.flow import Flow
from llmlab.core.messages import LLMRequest, to_request
from llmlab.core.policy import ClientPolicy
from llmlab.core.state import ClientState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType
    from typing import Self

    from llmlab.core.backend import AttemptKey, Backend, Outcome, Timeouts
    from llmlab.core.events import Observer
    from llmlab.core.messages import LLMFailure, LLMResponse


OUTERMOST = "client"
"""The name in events of a client that was given none: no client inside it has the same."""


class AsyncClient:
    """Calls a backend by a policy.

    Args:
        backend: what attempts are sent to: one of llmlab's, your own (see `llmlab.core.backend`), or another
            `AsyncClient`.
        policy: how to behave; `None` means `ClientPolicy()`.
        observers: what receives the events, for example an `EventLog`.
        seed: fixes the client's own chance (jitter); `None` takes one from the operating system, so that processes that
            started together do not retry together.
        state: limits shared with other clients (`other.state`); `None` makes its own. A shared state's own policy sets
            the limits.
        layer: the client's name in events, where clients are stacked; inside one of the same name it gets a number.

    Raises:
        TypeError: the backend has no `attempt` method, an observer lacks one of its methods, or an argument is of
            another type.
    """

    def __init__(
        self,
        backend: Backend,
        policy: ClientPolicy | None = None,
        *,
        observers: Iterable[Observer] = (),
        seed: int | None = None,
        state: ClientState | None = None,
        layer: str = OUTERMOST,
    ) -> None:
        if not callable(getattr(backend, "attempt", None)):
            raise TypeError(f"a backend needs a method `async def attempt(...)`; {type(backend).__name__} has none")
        _check("policy", policy, ClientPolicy)
        _check("state", state, ClientState)
        _check("seed", seed, int)
        self.backend = backend
        self.policy = ClientPolicy() if policy is None else policy
        self.state = ClientState(self.policy) if state is None else state
        self.seed = int.from_bytes(os.urandom(7)) if seed is None else seed
        self.layer = layer
        self._emitter = Emitter(observers)
        self._above: tuple[str, ...] = ()
        self._numbers = itertools.count()
        self._flow: Flow | None = None

    @property
    def name(self) -> str:
        """The client's name where it is another client's backend."""
        return self.layer

    @property
    def simulated(self) -> bool:
        """Whether calls only ever wait by the event loop's clock, so that they can run under virtual time."""
        return bool(getattr(self.backend, "simulated", False))

    @property
    def view(self) -> Any:
        """The simulated server's own view, where the backend behind has one; else `None`. Needs a running loop."""
        return getattr(self.flow().backend, "view", None)

    def flow(self) -> Flow:
        """Return the flow of calls on the running event loop.

        Raises:
            RuntimeError: no event loop is running, or calls are in progress on another one.
        """
        loop = asyncio.get_running_loop()
        if self._flow is not None and self._flow.loop is loop and self.state.loop is loop:
            return self._flow
        self.state.bind(loop)
        if self._flow is not None:
            self._flow.close()
        backend, observers = self.backend, self._emitter.observers
        if observers and isinstance(backend, LayeredBackend):
            backend = backend.observed_by(observers, (*self._above, self.layer))
        guard = self.state.guard
        hedges = guard is not None and guard.hedge_delay is not None
        self._flow = Flow(
            loop=loop,
            backend=session_of(backend),
            backend_name=str(getattr(backend, "name", type(backend).__name__)),
            policy=self.policy,
            state=self.state,
            emitter=RaceEmitter(observers) if hedges else self._emitter,
            seed=self.seed,
            layer=self.layer,
        )
        return self._flow

    async def generate(self, request: LLMRequest | str) -> LLMResponse | LLMFailure:
        """Ask once, with all the policy's patience, and return an answer or a failure.

        Args:
            request: what to ask, or just the prompt.

        Raises:
            TypeError: `request` is neither an `LLMRequest` nor a `str`.
            asyncio.CancelledError: the caller cancelled; the attempt is closed and recorded as cancelled.
        """
        return (await self.flow().call(to_request(request), next(self._numbers))).result()

    def generate_many(self, requests: Iterable[LLMRequest | str], *, concurrency: int | None = None) -> Batch:
        """Ask many; `await` gives all results in order, `async for` gives each as it is completed.

        One failed or cancelled request loses no other result. A call begins when it is its turn, so a long batch does
        not run out of its calls' total timeout.

        Args:
            requests: what to ask; all are checked before the first is sent.
            concurrency: calls in progress at once; `None` means the policy's `max_concurrency`, or 64 where it has
                none.

        Raises:
            TypeError: one of the requests is neither an `LLMRequest` nor a `str`.
        """
        if isinstance(requests, str | LLMRequest):
            raise TypeError("generate_many takes several requests, for example a list; for one there is generate")
        if concurrency is not None and concurrency < 1:
            raise ValueError(f"concurrency must be 1 or more, got {concurrency}; use None for the policy's limit")
        limit = concurrency or self.policy.max_concurrency or 64
        return Batch(self.generate, [to_request(request) for request in requests], limit)

    async def attempt(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> Outcome:
        """Serve as another client's backend: one attempt out there is one whole call in here.

        The outer attempt's timeout ends this call by cancelling it; `timeouts` are the outer client's and not used.
        """
        del timeouts
        return await self.serve(request, chance.derived(key.call, key.attempt), key)

    async def serve(self, request: LLMRequest, number: int, parent: AttemptKey) -> Outcome:
        """Make one call of this number for another client's attempt, and return it as the outcome of that attempt."""
        ledger = await self.flow().call(request, number, parent=parent)
        result = ledger.result()
        if result.ok:
            first_token = result.time_to_first_token
            if first_token is not None:  # from the outer attempt's start, so what went before in here counts too
                first_token += ledger.attempt_started - ledger.started
            return Answer(result.text, result.model, result.usage, result.finish_reason, first_token)
        return AttemptFailure(
            result.reason, result.message, result.status_code, result.retry_after, result.cause, result.retryable
        )

    def observed_by(self, observers: Sequence[Observer], above: Sequence[str]) -> Self:
        """Return this client, limits shared, as a layer of the client outside whose observers these are."""
        layer = copy.copy(self)
        own = self._emitter.observers
        layer._emitter = Emitter([*own, *(one for one in observers if all(one is not other for other in own))])
        layer._above, layer._flow = tuple(above), None
        layer.layer = unlike(self.layer, above)
        return layer

    def over(self, backend: Backend, seed: int) -> Self:
        """Return this client, limits shared, over another backend and with another seed."""
        client = copy.copy(self)
        client.backend, client.seed, client._flow = backend, seed, None
        return client

    async def aclose(self) -> None:
        """Close the backend's connections on this event loop. The client may be used again and then opens new ones."""
        flow, self._flow = self._flow, None
        if flow is None:
            return
        flow.close()
        close: Any = getattr(flow.backend, "aclose", None)
        if close is not None and flow.loop is asyncio.get_running_loop():
            await close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.backend!r}, {self.policy!r})"


def _check(name: str, value: object, wanted: type) -> None:
    if value is not None and not isinstance(value, wanted):
        raise TypeError(f"{name} must be of type {wanted.__name__} or None, got a {type(value).__name__}")


def unlike(name: str, taken: Sequence[str]) -> str:
    """Return the name, with the first number from 2 that makes it unlike those that are taken, if it is: `sdk-2`."""
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(one for one in names if one not in taken)
