"""A `MockBackend` as an HTTP server, without any socket: it speaks Ollama's native API and OpenAI's chat completions.

    async for step in SimulatedServer(MockBackend(overload_probability=0.3)).exchange(request):
        ...

Its weather is the backend's, by the same draws: a client over the wire meets at its second attempt of call 7 what a
client in memory meets at the second attempt of call 7. Everything that needs no model's work (listings, errors of the
request) is answered at once and meets no fault.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from itertools import count
from typing import TYPE_CHECKING

from llmlab.backends.mock import MockBackend
from llmlab.backends.ollama_description import tagged
from llmlab.backends.per_loop import PerLoop
from llmlab.backends.visit import Instead
from llmlab.core.backend import ATTEMPT_HEADER, AttemptKey, parse_attempt_header
from llmlab.core.settings import SettingsError, kind_of
from llmlab.wire import ollama, openai
from llmlab.wire.answering import answered, refused
from llmlab.wire.dialect import Asked, Body, Rejected, whole_answer
from llmlab.wire.exchange import Head
from llmlab.wire.listing import Listing
from llmlab.wire.reading import field, parsed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

    from llmlab.backends.faults import FaultKind
    from llmlab.wire.exchange import HTTPRequest, Step

_EPOCH = 1767225600.0  # the first second of 2026: simulated time is no date, but must have one

_METHODS = {
    "/": "GET, HEAD",
    "/api/generate": "POST",
    "/api/chat": "POST",
    "/api/show": "POST",
    "/api/embed": "POST",
    "/api/tags": "GET, HEAD",
    "/api/ps": "GET",
    "/api/version": "GET, HEAD",
    "/v1/chat/completions": "POST",
    "/v1/embeddings": "POST",
    "/v1/models": "GET",
}
_EMBEDDINGS = frozenset({"/api/embed", "/v1/embeddings"})
ANSWERS = frozenset({"/api/generate", "/api/chat", "/v1/chat/completions"})
"""The paths whose requests a model answers; they alone have a key and meet faults."""


class Exchange:
    """One answer on its way: an iterator over its steps, and what is known of it once the first step has come.

    Attributes:
        key: which attempt it was, or `None` where no model was asked.
        keyed: whether the client said so itself.
        streamed: whether the answer was wanted piece by piece; `None` where no model was asked.
        fault: what was drawn for it, or `None`.
    """

    steps: AsyncGenerator[Step, None]

    def __init__(self) -> None:
        self.key: AttemptKey | None = None
        self.keyed = False
        self.streamed: bool | None = None
        self.fault: FaultKind | None = None

    def __aiter__(self) -> AsyncIterator[Step]:
        return self.steps

    async def __anext__(self) -> Step:
        return await anext(self.steps)

    async def aclose(self) -> None:
        """Say that the client has gone; the server stops to work for it."""
        await self.steps.aclose()


class _Counts:
    """What is counted on one event loop, so that each run of a program counts alike."""

    def __init__(self) -> None:
        self.arrivals = count()
        self.answers = count(1)


def key_by_arrival(backend: MockBackend, number: int, *, since: int = 0) -> AttemptKey:
    """Return the key of a request that says none itself.

    It is a call of its own, since nothing tells which call it belongs to. Under a script all are the attempts of one
    call, so that they meet its lines in order of arrival: "first refused, then answered" is what one writes it for.

    Args:
        backend: how the server behaves.
        number: the request's place in the order of arrival, from 0.
        since: how many had arrived when this backend was put into force.
    """
    return AttemptKey(since, number - since + 1) if backend.script else AttemptKey(number, 1)


class SimulatedServer:
    """Answers HTTP requests as its backend's weather has it.

    Args:
        backend: the simulated server.
        models: the models that are there; `None` is every name that is asked for.
        wall_clock: seconds since 1970, for the times in answers; `None` counts the event loop's clock from the
            beginning of 2026, so that the same run has the same bytes.

    Raises:
        TypeError: the backend is no `MockBackend`.
    """

    def __init__(
        self,
        backend: MockBackend,
        *,
        models: Sequence[str] | None = None,
        wall_clock: Callable[[], float] | None = None,
    ) -> None:
        if not isinstance(backend, MockBackend):
            raise TypeError(f"backend must be a MockBackend, got {kind_of(backend)}; its faults are settings")
        self.backend = backend
        self._models = None if models is None else {tagged(name) for name in models}
        self._names = (backend.model,) if models is None else tuple(models)
        self._wall_clock = wall_clock or _since_2026
        self._counts: PerLoop[_Counts] = PerLoop()

    def exchange(self, request: HTTPRequest, key: AttemptKey | None = None) -> Exchange:
        """Return the answer to a request, step by step; nothing happens before the first step is asked for.

        Args:
            request: what the client sent.
            key: which attempt it is; by default what its header says (`x-llmlab-attempt`), else `key_by_arrival`,
                counted over the requests without the header that a model answers.
        """
        exchange = Exchange()
        exchange.steps = self._steps(exchange, request, key)
        return exchange

    async def _steps(
        self, exchange: Exchange, request: HTTPRequest, key: AttemptKey | None
    ) -> AsyncGenerator[Step, None]:
        try:
            asked = self._asked(request)
        except Rejected as rejection:
            error = openai.error if request.path.startswith("/v1/") else ollama.error
            asked = whole_answer(rejection.status, error(rejection.status, rejection.message))
        if isinstance(asked, Asked):
            exchange.streamed = asked.streamed
            said = parse_attempt_header(request.header(ATTEMPT_HEADER) or "")
            exchange.keyed = said is not None
            exchange.key = key or said or key_by_arrival(self.backend, next(self._count().arrivals))
            async with aclosing(self._at_work(exchange, asked, exchange.key)) as steps:
                async for step in steps:
                    yield step
            return
        head, body = asked
        yield head
        if request.method != "HEAD":
            yield body

    def _count(self) -> _Counts:
        loop = asyncio.get_running_loop()
        return self._counts.get(loop) or self._counts.put(loop, _Counts())

    async def _at_work(self, exchange: Exchange, asked: Asked, key: AttemptKey) -> AsyncGenerator[Step, None]:
        """Let the model answer."""
        loop, session = asyncio.get_running_loop(), self.backend.session()
        visit = session.visit(asked.request, key, streamed=asked.streamed)
        exchange.fault = visit.fault
        if isinstance(visit, Instead):
            told = refused(loop, visit, asked.words)
        else:
            told = answered(loop, visit, asked, self.backend.faults)
        try:
            async with aclosing(told) as steps:
                async for step in steps:
                    if isinstance(step, Head) and isinstance(asked.words, openai.OpenAIWords):
                        yield step._replace(headers=step.headers + openai.limit_headers(session.limits()))
                    else:
                        yield step
        finally:
            if not isinstance(visit, Instead):
                visit.leave()

    def _asked(self, request: HTTPRequest) -> Asked | tuple[Head, bytes]:
        """Return what a model is to answer, or the answer.

        Raises:
            Rejected: the server does not accept the request.
        """
        path = request.path
        allowed = _METHODS.get(path, "GET" if path.startswith("/v1/models/") else "")
        if not allowed:
            return whole_answer(404, Body("text/plain", b"404 page not found"))
        if request.method not in allowed.split(", "):
            return whole_answer(405, Body("text/plain", b"405 method not allowed"), (("allow", allowed),))
        if path in ANSWERS:
            try:
                asked = self._read(request)
            except SettingsError as error:  # a number beyond all bounds; its text is left out
                raise Rejected(400, f"{str(error).partition(',')[0]} in this server's requests") from None
            self._check_model(asked.model, asked.model)
            return whole_answer(200, asked.words.loaded()) if asked.words.loads else asked
        if path in _EMBEDDINGS:
            raise Rejected(501, "This server does not support embeddings. Start it with `--embeddings`")
        return whole_answer(200, self._listed(request))

    def _read(self, request: HTTPRequest) -> Asked:
        if request.path == "/v1/chat/completions":
            return openai.asked(request.body, next(self._count().answers), self._wall_clock)
        return ollama.asked(request.body, "chat" if request.path == "/api/chat" else "generate", self._wall_clock)

    def _listed(self, request: HTTPRequest) -> Body:
        """Return what the server says of itself or of its models.

        Raises:
            Rejected: the model is not there.
        """
        listing = Listing(self._names, self._wall_clock, _EPOCH)
        if request.path == "/api/show":
            name = field(parsed(request.body), "model", str, "string", of="ShowRequest", default="")
            self._check_model(name, tagged(name))
            return listing.show(name)
        if request.path.startswith("/v1/models/"):
            name = request.path.removeprefix("/v1/models/")
            self._check_model(name, tagged(name))
            return listing.v1_model(name)
        simple: dict[str, Callable[[], Body]] = {
            "/": listing.root,
            "/api/tags": listing.tags,
            "/api/version": listing.version,
            "/api/ps": listing.loaded,
            "/v1/models": listing.v1_models,
        }
        return simple[request.path]()

    def _check_model(self, name: str, shown: str) -> None:
        if not name or (self._models is not None and tagged(name) not in self._models):
            raise Rejected(404, f"model '{shown}' not found")


def _since_2026() -> float:
    return _EPOCH + asyncio.get_running_loop().time()
