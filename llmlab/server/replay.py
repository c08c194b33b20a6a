"""A loopback HTTP server that answers from recordings, byte for byte and chunk for chunk.

    with ReplayServer() as server:
        LocalLLM(base_url=server.url, model="tiny").generate("Hello")

It stands in for a real Ollama where none runs, in notebooks and in tests, and is no simulation: it knows only what was
recorded (`recording.py`). It runs on a thread of its own, so that sync and async code can use it alike.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmlab.backends.ollama_description import tagged
from llmlab.server.hosting import HostedServer
from llmlab.server.recording import Chunk, Exchange, asked_for, recordings
from llmlab.wire.exchange import Break, Head

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from llmlab.server.served import Served
    from llmlab.wire.exchange import HTTPRequest, Step

_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came in; header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body, parsed."""
        return json.loads(self.body)


class ReplayServer(HostedServer):
    """Serves recorded exchanges on 127.0.0.1 while its `with` block runs.

    A request gets the exchange that was recorded for its method, path, model and wish for a stream; where there is
    none, one that differs in the stream, then one whose request named no model. Several that fit take turns. What was
    not recorded gets the answers that Ollama has for an unknown model, path or method.

    Args:
        exchanges: what to answer; `None` means everything that comes with llmlab (`recordings`).
        pace: 1 sends each chunk when it came in the recording, 0.1 ten times as fast, 0 at once.
        port: the port to listen on; 0 takes a free one.
    """

    def __init__(self, exchanges: Iterable[Exchange] | None = None, *, pace: float = 0.0, port: int = 0) -> None:
        super().__init__("127.0.0.1", port)
        self._exchanges = list(recordings() if exchanges is None else exchanges)
        self._pace = pace
        self._turns: dict[tuple[object, ...], int] = {}
        self._received: deque[Received] = deque(maxlen=_REMEMBERED)

    @property
    def received(self) -> list[Received]:
        """The requests so far, the last thousand of them."""
        return list(self._received)

    def wait_for_requests(self, number: int, timeout: float = 2.0) -> bool:
        """Wait until so many requests have come in, at most `timeout` seconds; return whether it came to that."""
        return self._wait_for(lambda: len(self._received) >= number, timeout)

    def __repr__(self) -> str:
        return f"ReplayServer({self.url!r}, {len(self._exchanges)} exchanges)"

    def answer(self, served: Served) -> AsyncGenerator[Step]:
        """Answer with the exchange whose turn it is."""
        request = served.request
        with self._changed:
            self._received.append(Received(request.method, request.path, dict(request.headers), request.body))
            self._changed.notify_all()
        return self._replayed(self._chosen(self._received[-1]), request)

    def ended(self, served: Served) -> None:
        """Note nothing: what was asked is remembered, what was answered is known."""

    async def _replayed(self, exchange: Exchange, request: HTTPRequest) -> AsyncGenerator[Step]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        head = Head(exchange.status, exchange.headers)
        if not exchange.chunks and exchange.ending == "complete":
            yield head
        for number, chunk in enumerate(exchange.chunks):
            await asyncio.sleep(max(0.0, began + chunk.at * self._pace - loop.time()))
            if number == 0:
                yield head
            if request.method != "HEAD":
                yield chunk.data
        if exchange.ending == "stall":
            await loop.create_future()  # until the client goes away
        elif exchange.ending != "complete":
            yield Break.RESET if exchange.ending == "reset" else Break.CUT

    def _chosen(self, request: Received) -> Exchange:
        here = [exchange for exchange in self._exchanges if exchange.path == request.path]
        fitting = [exchange for exchange in here if exchange.method == request.method]
        if not fitting:
            return _plain("405 Method Not Allowed" if here else "404 Not Found")
        model, stream = asked_for(request.body)
        name = model and tagged(model)
        of_model = [exchange for exchange in fitting if (exchange.model and tagged(exchange.model)) == name]
        exact = [exchange for exchange in of_model if exchange.stream == stream]
        found = exact or of_model or [exchange for exchange in fitting if exchange.model is None]
        if not found:
            return _unknown_model(model or "")
        return self._in_turn(found, (request.method, request.path, name, stream))

    def _in_turn(self, found: list[Exchange], key: tuple[object, ...]) -> Exchange:
        turn = self._turns.get(key, 0)
        self._turns[key] = turn + 1
        return found[turn % len(found)]


def _unknown_model(model: str) -> Exchange:
    return _written(
        "404 Not Found", "application/json; charset=utf-8", json.dumps({"error": f"model '{model}' not found"})
    )


def _plain(status: str) -> Exchange:
    code = status.partition(" ")[0]
    return _written(status, "text/plain", f"{code} {'page not found' if code == '404' else 'method not allowed'}")


def _written(status: str, kind: str, body: str) -> Exchange:
    data = body.encode()
    headers = (("Content-Type", kind), ("Content-Length", str(len(data))))
    return Exchange("", "", None, None, f"HTTP/1.1 {status}", headers, (Chunk(data),))
