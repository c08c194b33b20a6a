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
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from llmlab.core import chance
from llmlab.core.backend import LayeredBackend, no_backend, session_of
from llmlab.core.batch import Batch
from llmlab.core.display import card, laid_out, stacked
from llmlab.core.emitter import Emitter, RaceEmitter
from llmlab.core.flow import Flow
from llmlab.core.inner_client import InnerClient, as_outcome, unlike
from llmlab.core.messages import LLMRequest, to_request
from llmlab.core.policy import ClientPolicy
from llmlab.core.settings import kind_of
from llmlab.core.state import ClientState
from llmlab.core.stream_flow import StreamFlow
from llmlab.core.streams import StreamedAttempt
from llmlab.core.text_stream import AsyncLLMStream

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from llmlab.core.backend import AttemptKey, AttemptStream, Backend, Outcome, Timeouts
    from llmlab.core.events import Observer
    from llmlab.core.messages import LLMFailure, LLMResponse
    from llmlab.core.streams import Steps

F = TypeVar("F", bound=Flow)

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
        ValueError: an observer is given twice.
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
        why = no_backend(backend)
        if why is not None:
            raise TypeError(f"backend: {why}")
        _check("policy", policy, ClientPolicy)
        _check("state", state, ClientState)
        _check("seed", seed, int)
        named: object = layer  # whatever a caller without a type checker gives
        if not (isinstance(named, str) and named):
            raise TypeError(f"layer must be a name, got {named!r}")
        self.backend = backend
        self.policy = ClientPolicy() if policy is None else policy
        self.state = ClientState(self.policy) if state is None else state
        self.seed = int.from_bytes(os.urandom(7)) if seed is None else seed
        self.layer = layer
        self._emitter = Emitter(observers)
        self._above: tuple[str, ...] = ()
        self._numbers = itertools.count()
        self._flow: Flow | None = None
        self._streams: StreamFlow | None = None
        self._inner: InnerClient | None = None

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

    def add_observer(self, observer: Observer) -> None:
        """Hand events to this observer too, from now on; from any thread, also while calls are in flight.

        Of a call in flight it gets the attempts that end from now on, and the call's end. It sees the layers inside
        this client as well.

        Raises:
            TypeError: it lacks `on_attempt` or `on_call`.
            ValueError: it observes this client already.
        """
        self._emitter.add(observer)

    def remove_observer(self, observer: Observer) -> None:
        """Hand no more events to this observer; one that another thread is handing over just now may still arrive.

        Raises:
            ValueError: it was neither given to this client nor added.
        """
        self._emitter.remove(observer)

    def flow(self) -> Flow:
        """Return the flow of calls on the running event loop.

        Raises:
            RuntimeError: no event loop is running, or calls are in progress on another one.
        """
        loop = asyncio.get_running_loop()
        if self._flow is not None and self._flow.loop is loop and self.state.loop is loop:
            return self._flow
        self.state.bind(loop)
        for flow in (self._flow, self._streams):
            if flow is not None:
                flow.close()
        backend, emitter = self.backend, self._emitter
        if isinstance(backend, LayeredBackend):  # also where nobody watches yet: somebody may come
            backend = backend.observed_by(emitter, (*self._above, self.layer))
        guard = self.state.guard
        hedges = guard is not None and guard.hedge_delay is not None
        self._streams = None
        self._flow = self._at_work(Flow, loop, session_of(backend), RaceEmitter(of=[emitter]) if hedges else emitter)
        return self._flow

    def _stream_flow(self) -> StreamFlow:
        """Return the flow of streamed calls on the running event loop."""
        flow = self.flow()
        if self._streams is None:
            self._streams = self._at_work(StreamFlow, flow.loop, flow.backend, self._emitter)
        return self._streams

    def _at_work(self, kind: type[F], loop: asyncio.AbstractEventLoop, session: Backend, emitter: Emitter) -> F:
        return kind(
            loop=loop,
            backend=session,
            backend_name=str(getattr(self.backend, "name", type(self.backend).__name__)),
            policy=self.policy,
            state=self.state,
            emitter=emitter,
            seed=self.seed,
            layer=self.layer,
        )

    async def generate(self, request: LLMRequest | str) -> LLMResponse | LLMFailure:
        """Ask once, with all the policy's patience, and return an answer or a failure.

        Args:
            request: what to ask, or just the prompt.

        Raises:
            TypeError: `request` is neither an `LLMRequest` nor a `str`.
            asyncio.CancelledError: the caller cancelled; the attempt is closed and recorded as cancelled.
        """
        return (await self.flow().call(to_request(request), next(self._numbers))).result()

    def stream(self, request: LLMRequest | str) -> AsyncLLMStream:
        """Ask once, like `generate`, and read the text as it is written; then the stream has the `result`.

            async with llm.stream("Tell me a story") as stream:
                async for piece in stream:
                    print(piece, end="")
            print(stream.result.ok)

        It is the same call: the same limits, deadlines, retries and events. A failure before the first piece was
        handed out is retried; after it the call ends, for a second attempt would tell another story. What is checked of
        the whole text (`response_format`, a blank answer) is known only at the end, so the result may be a failure
        although all of the text was handed out. `attempt_timeout` bounds the whole answer, `timeouts.first_byte` and
        `timeouts.between_chunks` the server's silence. Text is read as fast as the server sends it and kept for a
        slower reader, whose time counts nowhere. A stream is not hedged. A backend that cannot stream gives one piece.

        Args:
            request: what to ask, or just the prompt.

        Raises:
            TypeError: `request` is neither an `LLMRequest` nor a `str`.
        """
        asked = to_request(request)
        return AsyncLLMStream(lambda: self._stream_flow().begin(asked, self._numbers.__next__))

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
        if isinstance(requests, str | LLMRequest) or not isinstance(requests, Iterable):
            raise TypeError(
                "generate_many takes several requests, for example a list, and for one there is generate; "
                f"got {kind_of(requests)}"
            )
        _check("concurrency", concurrency, int)
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
        return as_outcome(await self.flow().call(request, number, parent=parent))

    def serve_stream(self, request: LLMRequest, number: int, parent: AttemptKey) -> AttemptStream:
        """Make one streamed call of this number for another client's attempt."""
        return StreamedAttempt(self._served(request, number, parent))

    async def _served(self, request: LLMRequest, number: int, parent: AttemptKey) -> Steps:
        call = self._stream_flow().begin(request, lambda: number, parent=parent)
        async with AsyncLLMStream(lambda: call) as stream:
            async for piece in stream:
                yield piece
        yield as_outcome(call.task.result())

    def session(self) -> InnerClient:
        """Return what answers another client's attempts."""
        if self._inner is None:
            self._inner = InnerClient(self)
        return self._inner

    def observed_by(self, observers: Sequence[Observer], above: Sequence[str]) -> Self:
        """Return this client, limits shared, as a layer of the client outside whose observers these are."""
        layer = copy.copy(self)
        layer._emitter = Emitter(of=[self._emitter, observers])
        layer._above, layer._flow, layer._streams, layer._inner = tuple(above), None, None, None
        layer.layer = unlike(self.layer, above)
        return layer

    def over(self, backend: Backend, seed: int) -> Self:
        """Return this client, limits shared, over another backend and with another seed."""
        client = copy.copy(self)
        client.backend, client.seed = backend, seed
        client._flow, client._streams, client._inner = None, None, None
        return client

    async def aclose(self) -> None:
        """End streams and close the backend's connections on this event loop; used again, the client opens new ones.

        Other calls under way lose their connections, and keep their retries and deadlines.
        """
        flow, streams = self._flow, self._streams  # kept: calls under way may yet ask the clients inside
        if flow is None or (flow.rests and (streams is None or streams.rests) and not self.state.calls_in_progress):
            return
        flow.close()
        here = flow.loop is asyncio.get_running_loop()
        if streams is not None and here:
            await streams.aclose()
        close: Any = getattr(flow.backend, "aclose", None)
        if close is not None and here:
            await close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return laid_out(type(self).__name__, [(None, self.backend), (None, self.policy)])

    def _repr_html_(self) -> str:
        return client_html(self)


def client_html(client: Any) -> str:
    """Return a client of either kind as HTML: what it is, its backend and its policy."""
    html = getattr(client.backend, "_repr_html_", None)
    inside = html() if html is not None else card(type(client.backend).__name__, [])
    return stacked(card(type(client).__name__, [("layer", client.layer)]), inside, client.policy._repr_html_())


def _check(name: str, value: object, wanted: type) -> None:
    if value is not None and not isinstance(value, wanted):
        raise TypeError(f"{name} must be of type {wanted.__name__} or None, got {kind_of(value)}")
