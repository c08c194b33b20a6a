"""An httpx transport to a simulated server: a client that takes an httpx client of yours runs on simulated time.

    http = httpx.AsyncClient(transport=SimulatedTransport(MockBackend(overload_probability=0.3)))
    openai.AsyncOpenAI(api_key="any", base_url="http://simulated/v1", http_client=http)

There is no socket. The client's own timeouts hold, on the event loop's clock, and it gets the exceptions that it would
get from a real connection; so its own retries are what is tested, and under `llmlab.virtual_time` an hour of them takes
a second.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from functools import cache
from math import inf
from typing import TYPE_CHECKING, Any

import httpx

from llmlab.backends.per_loop import PerLoop
from llmlab.backends.waiting import wait_until
from llmlab.wire.exchange import Break, Head, HTTPRequest
from llmlab.wire.record import ServerRecord
from llmlab.wire.simulated_server import SimulatedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pandas as pd

    from llmlab.backends.mock import MockBackend
    from llmlab.conduct.recording import Recording
    from llmlab.wire.exchange import Step
    from llmlab.wire.record import RequestLine
    from llmlab.wire.simulated_server import Exchange


class SimulatedTransport(httpx.AsyncBaseTransport):
    """Answers an `httpx.AsyncClient` (or one of its successor, `httpx2`) as a simulated server would.

        httpx.AsyncClient(transport=SimulatedTransport(MockBackend(overload_probability=0.3)))

    Every address is this server's. It knows no connections: each request is one, so `pool` timeouts never come.

    Args:
        backend: the simulated server, or one as HTTP (`SimulatedServer`), which several transports may share.

    Raises:
        TypeError: the backend is neither.
    """

    def __init__(self, backend: MockBackend | SimulatedServer) -> None:
        self.server = backend if isinstance(backend, SimulatedServer) else SimulatedServer(backend)
        self._records: PerLoop[ServerRecord] = PerLoop()
        self._latest = ServerRecord(0.0)

    def requests(self) -> pd.DataFrame:
        """Return a row for each request of the latest event loop, in order of arrival, as the server saw them.

        Times are seconds since the first request, which is also when a fault schedule begins. `claimed_retry` is the
        number of the retry where the client says it, as the SDK of OpenAI does.
        """
        return self._latest.frame()

    def recording(self) -> Recording:
        """Return the same as a recording, whose conduct can be judged."""
        return self._latest.recording()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and wait for the answer's head.

        Raises:
            httpx.ConnectError: there is no connection.
            httpx.ConnectTimeout: there was none within the client's `connect` timeout.
            httpx.ReadTimeout: nothing came within its `read` timeout.
            httpx.ReadError: the connection was reset.
            httpx.RemoteProtocolError: the connection was closed before the answer.
        """
        asked = HTTPRequest(
            request.method,
            request.url.path,
            tuple((name.lower(), value) for name, value in request.headers.items()),
            await request.aread(),
        )
        library = _library_of(request)
        loop = asyncio.get_running_loop()
        exchange = self.server.exchange(asked)
        line = self._record(loop).begin(asked, exchange, loop.time())
        body = _body_class(library)(exchange, line, request.extensions.get("timeout", {}))
        try:
            head = await body.head()
        except BaseException:
            await body.aclose()
            raise
        response: httpx.Response = library.Response(head.status, headers=list(head.headers), stream=body)
        return response

    def handle_request(self, _request: object) -> httpx.Response:
        """Refuse a sync client.

        Raises:
            TypeError: always. Such a client waits for its retries with `time.sleep`, which nothing simulated can hurry.
        """
        raise TypeError(
            "SimulatedTransport is for async clients (httpx.AsyncClient, openai.AsyncOpenAI, ollama.AsyncClient): a "
            "sync client's own waiting is real time; take the async one, or put a sync one on trial against "
            "`llmlab serve`"
        )

    def _record(self, loop: asyncio.AbstractEventLoop) -> ServerRecord:
        record = self._records.get(loop)
        if record is None:
            record = self._latest = self._records.put(loop, ServerRecord(loop.time()))
        return record


def _library_of(request: object) -> Any:
    """Return the library that a request is of: its responses and exceptions are what its client understands."""
    return sys.modules[type(request).__module__.partition(".")[0]]


@cache
def _body_class(library: Any) -> Any:
    """Return the class of bodies for a library, which asks that they be its own streams."""
    return type("SimulatedBody", (_Body, library.AsyncByteStream), {"library": library})


class _Body:
    """An answer as it comes, its head first."""

    library: Any

    def __init__(self, exchange: Exchange, line: RequestLine, limits: dict[str, Any]) -> None:
        self._exchange = exchange
        self._line = line
        self._limits = limits
        self._clock = asyncio.get_running_loop().time

    async def head(self) -> Head:
        """Wait for the answer's head."""
        step = await self._next()
        if step is Break.NO_CONNECTION:
            loop, patience = asyncio.get_running_loop(), self._limits.get("connect")
            await wait_until(loop, inf if patience is None else loop.time() + patience)
            raise self.library.ConnectTimeout("")
        if not isinstance(step, Head):
            raise self._broken(step, "Server disconnected without sending a response.")
        return step

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (step := await self._next()) is not None:
            if not isinstance(step, bytes):
                raise self._broken(step, "peer closed connection without sending complete message body")
            yield step

    async def aclose(self) -> None:
        """Close the connection: the server learns that the client has gone."""
        self._line.end("client", self._clock())
        with suppress(RuntimeError):  # another task is reading; its own end closes the exchange
            await self._exchange.aclose()

    async def _next(self) -> Step | None:
        """Return the next step, `None` at the end."""
        try:
            async with asyncio.timeout(self._limits.get("read")):
                step = await anext(self._exchange, None)
            self._line.note(step, self._clock())
        except TimeoutError:
            raise self.library.ReadTimeout("") from None
        return step

    def _broken(self, step: Step | None, closed: str) -> Exception:
        """Return what the library raises where this comes instead of the next part; `closed` tells of a cut."""
        error: Exception
        if step is Break.REFUSED:
            error = self.library.ConnectError("All connection attempts failed")
        elif step is Break.RESET:
            error = self.library.ReadError("")
        else:
            error = self.library.RemoteProtocolError(closed)
        return error
