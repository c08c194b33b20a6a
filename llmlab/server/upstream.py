"""A real server behind the fault server: what it answers is passed on, piece by piece, with faults in front of it.

Which attempt meets a fault is drawn as ever, from the seed and the attempt's key. What keeps an answer from coming
about (a refusal, a timeout, a reset) is the simulated server's doing, and the real one is not asked; of the faults of
an answer those are possible that need no understanding of it: `POSSIBLE` has them all.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import TYPE_CHECKING

import httpx

from llmlab.backends.faults import FAULTS, FaultKind
from llmlab.backends.http_host import is_loopback
from llmlab.core.chance import Purpose, two_uniforms
from llmlab.core.settings import SettingsError
from llmlab.wire.exchange import Break, Head
from llmlab.wire.simulated_server import ANSWERS, Exchange

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from llmlab.backends.mock import MockBackend
    from llmlab.core.backend import AttemptKey
    from llmlab.wire.exchange import HTTPRequest, Step
    from llmlab.wire.simulated_server import SimulatedServer

_K = FaultKind
_OF_ANSWERS = (_K.STALL, _K.SLOW_DRIP, _K.CUT, _K.WRONG_CONTENT_TYPE, _K.INVALID_UTF8)
POSSIBLE = (*(kind for kind, row in FAULTS.items() if row.place in {"connection", "refusal"}), *_OF_ANSWERS)
"""The faults that there are in front of a real server."""

_CONNECT_S = 5.0
_BETWEEN_HOPS = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding"}
    | {"upgrade", "host", "date"}
)


def checked(url: str, backend: MockBackend) -> str:
    """Return the address of the real server, if these faults are possible in front of it.

    Raises:
        SettingsError: it is no address, or the backend asks for what only a simulated server can do.
    """
    try:
        address = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        raise SettingsError("upstream must be an address such as http://127.0.0.1:11434") from None
    whole = address.scheme in {"http", "https"} and address.host
    if not whole or address.userinfo or address.query or address.fragment:  # it is shown, and in these may be a key
        wanted = "without a name and password, and without a query"
        raise SettingsError(f"upstream must be an address such as http://127.0.0.1:11434, {wanted}")
    if backend.server is not None or backend.script:
        raise SettingsError("a real server has slots and answers of its own; leave out server, profile and script")
    scheduled = {entry.kind for entry in backend.faults.schedule}
    asked = [kind for kind in FaultKind if getattr(backend.faults, kind) or kind in scheduled]
    impossible = [kind for kind in asked if kind not in POSSIBLE]
    if impossible:
        valid = ", ".join(POSSIBLE)
        raise SettingsError(f"'{impossible[0]}' is not possible in front of a real server; valid: {valid}")
    return str(address).rstrip("/")


class Upstream:
    """Answers as the real server at `url` does, with the weather of the simulated server in front of it."""

    def __init__(self, url: str, simulated: SimulatedServer, http: httpx.AsyncClient) -> None:
        """Begin on the running event loop; the times of a schedule count from here.

        Args:
            url: where the real server is.
            simulated: the weather in front of it, and what refuses.
            http: the connections to it (`connections`), which outlive this weather.
        """
        backend = simulated.backend
        self._url = checked(url, backend)
        self._simulated = simulated
        self._faults = backend.faults
        self._draw = backend.faults.drawing(backend.seed, asyncio.get_running_loop().time)
        self._http = http

    def exchange(self, request: HTTPRequest, key: AttemptKey) -> Exchange:
        """Return the answer to a request, step by step; nothing happens before the first step is asked for."""
        exchange = Exchange()
        exchange.steps = self._steps(exchange, request, key)
        return exchange

    async def _steps(self, exchange: Exchange, request: HTTPRequest, key: AttemptKey) -> AsyncGenerator[Step, None]:
        fault = None
        if request.path in ANSWERS:
            exchange.key = key
            u, _ = two_uniforms(self._simulated.backend.seed, key.call, key.attempt, Purpose.SERVER)
            fault = exchange.fault = None if self._draw is None else self._draw(u)
        steps: AsyncGenerator[Step, None]
        if fault is not None and fault not in _OF_ANSWERS:
            inner = self._simulated.exchange(request, key)
            steps = inner.steps
        else:
            steps = self._spoilt(fault, self._passed_on(request))
        async with aclosing(steps):
            async for step in steps:
                yield step

    async def _passed_on(self, request: HTTPRequest) -> AsyncGenerator[Step, None]:
        """Ask the real server, and pass its answer on as it comes; leaving it closes the connection."""
        headers = [pair for pair in request.headers if pair[0] not in _BETWEEN_HOPS and pair[0] != "content-length"]
        begun = False
        try:
            address = f"{self._url}{request.path}{'?' if request.query else ''}{request.query}"
            asked = self._http.stream(request.method, address, headers=headers, content=request.body)
            async with asked as answer:
                begun = True
                given = [pair for pair in answer.headers.multi_items() if pair[0] not in _BETWEEN_HOPS]
                yield Head(answer.status_code, tuple(given) or (("content-type", "text/plain"),))
                async for chunk in answer.aiter_raw():
                    yield chunk
        except httpx.TransportError as error:
            if begun:
                yield Break.CUT
                return
            said = json.dumps({"error": f"the upstream server does not answer ({type(error).__name__})"}).encode()
            yield Head(502, (("content-type", "application/json"), ("content-length", str(len(said)))))
            yield said

    async def _spoilt(self, fault: FaultKind | None, steps: AsyncGenerator[Step, None]) -> AsyncGenerator[Step, None]:
        """Pass steps on as the fault leaves them."""
        loop = asyncio.get_running_loop()
        pieces, last_at = 0, loop.time()
        async with aclosing(steps):
            async for step in steps:
                if isinstance(step, Head):
                    yield step if fault is None else _without_length(step, fault)
                    continue
                if isinstance(step, bytes) and fault is not None:
                    pieces += 1
                    if pieces > 1 and fault is _K.SLOW_DRIP:
                        await asyncio.sleep((loop.time() - last_at) * (self._faults.slow_drip_factor - 1))
                    last_at = loop.time()
                    if fault is _K.CUT:
                        yield step[: max(1, len(step) // 2)]
                        yield Break.CUT
                        return
                    if fault is _K.INVALID_UTF8 and pieces == 1:
                        yield b"\xff\xfe\n"
                yield step
                if fault is _K.STALL and pieces == 1:
                    await loop.create_future()


def connections(url: str) -> httpx.AsyncClient:
    """Return an HTTP client without bounds of its own: the clients' patience and number are what is on trial."""
    return httpx.AsyncClient(
        timeout=httpx.Timeout(None, connect=_CONNECT_S),
        limits=httpx.Limits(max_connections=None),
        follow_redirects=False,
        trust_env=not is_loopback(httpx.URL(url).host),
    )


def _without_length(head: Head, fault: FaultKind) -> Head:
    """Return the head of an answer that will be shorter or longer than it was, perhaps of another type."""
    kept = [(name, value) for name, value in head.headers if name.lower() != "content-length"]
    if fault is _K.WRONG_CONTENT_TYPE:
        kept = [(name, "text/html" if name.lower() == "content-type" else value) for name, value in kept]
    return Head(head.status, tuple(kept) or (("content-type", "text/plain"),))
