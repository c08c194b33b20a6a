"""A loopback HTTP server that answers from recordings, byte for byte and chunk for chunk.

    with ReplayServer() as server:
        LocalLLM(base_url=server.url, model="tiny").generate("Hello")

It stands in for a real Ollama where none runs, in notebooks and in tests, and is no simulation: it knows only what was
recorded (`recording.py`). It runs on a thread of its own, so that sync and async code can use it alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from llmlab.server.recording import Chunk, Exchange, asked_for, recordings

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

_LARGEST_REQUEST = 64 * 1024 * 1024
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


class ReplayServer:
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
        self._exchanges = list(recordings() if exchanges is None else exchanges)
        self._pace = pace
        self._port = port
        self._turns: dict[tuple[object, ...], int] = {}
        self._received: deque[Received] = deque(maxlen=_REMEMBERED)
        self._open = 0
        self._accepted = 0
        self._changed = threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop: asyncio.Event | None = None

    @property
    def url(self) -> str:
        """Where the server listens."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def received(self) -> list[Received]:
        """The requests so far, the last thousand of them."""
        return list(self._received)

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return self._open

    @property
    def connections(self) -> int:
        """How many connections there have been."""
        return self._accepted

    def wait_until_closed(self, timeout: float = 2.0) -> bool:
        """Wait until no connection is open, at most `timeout` seconds; return whether it came to that."""
        with self._changed:
            return self._changed.wait_for(lambda: self._open == 0, timeout)

    def wait_for_requests(self, number: int, timeout: float = 2.0) -> bool:
        """Wait until so many requests have come in, at most `timeout` seconds; return whether it came to that."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._received) >= number, timeout)

    def start(self) -> None:
        """Begin to listen; `with` does it.

        Raises:
            OSError: the port is taken.
        """
        # Bound here, so that a port that is taken raises here and not on the server's thread.
        listener = socket.create_server(("127.0.0.1", self._port), backlog=1024)
        self._port = listener.getsockname()[1]
        started = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(listener, started)), name="llmlab replay server", daemon=True
        )
        self._thread.start()
        started.wait()

    def stop(self) -> None:
        """Close all connections and stop listening; does nothing where the server does not run."""
        if self._thread is not None and self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
        self._thread = self._loop = self._stop = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"ReplayServer({self.url!r}, {len(self._exchanges)} exchanges)"

    async def _serve(self, listener: socket.socket, started: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        connections: set[asyncio.Task[None]] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            if task is not None:
                connections.add(task)
                task.add_done_callback(connections.discard)
            await self._connection(reader, writer)

        server = await asyncio.start_server(connected, sock=listener)
        started.set()
        await self._stop.wait()
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._accepted += 1
        self._count(+1)
        try:
            # asyncio does it only for sockets that name their protocol; without it each piece waits for the last one's
            # acknowledgement, 40 ms
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # CancelledError: the server stops; that is no error of this task
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while (request := await _read_request(reader)) is not None:
                    with self._changed:
                        self._received.append(request)
                        self._changed.notify_all()
                    exchange = self._chosen(request)
                    await self._answer(exchange, request, reader, writer)
                    if exchange.closes:
                        break
        finally:
            # an abort where something is unsent, so that a reset stays one and nobody waits for a slow reader
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()
            self._count(-1)

    async def _answer(
        self, exchange: Exchange, request: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        began = asyncio.get_running_loop().time()
        head = exchange.head()
        if not exchange.chunks and exchange.ending == "complete":
            writer.write(head + exchange.end())
        for number, chunk in enumerate(exchange.chunks):
            wait = began + chunk.at * self._pace - asyncio.get_running_loop().time()
            await _pause(max(0.0, wait), reader)
            if number == 0:
                writer.write(head)
            if request.method != "HEAD":
                writer.write(exchange.framed(chunk))
            await writer.drain()
        if exchange.chunks:
            writer.write(exchange.end())
        await writer.drain()
        if exchange.ending == "stall":
            await reader.read()  # until the client goes away
        elif exchange.ending == "reset":
            _reset_on_close(writer)

    def _chosen(self, request: Received) -> Exchange:
        here = [exchange for exchange in self._exchanges if exchange.path == request.path]
        fitting = [exchange for exchange in here if exchange.method == request.method]
        if not fitting:
            return _plain("405 Method Not Allowed" if here else "404 Not Found")
        model, stream = asked_for(request.body)
        name = _tagged(model)
        of_model = [exchange for exchange in fitting if _tagged(exchange.model) == name]
        exact = [exchange for exchange in of_model if exchange.stream == stream]
        found = exact or of_model or [exchange for exchange in fitting if exchange.model is None]
        if not found:
            return _unknown_model(model or "")
        return self._in_turn(found, (request.method, request.path, name, stream))

    def _in_turn(self, found: list[Exchange], key: tuple[object, ...]) -> Exchange:
        turn = self._turns.get(key, 0)
        self._turns[key] = turn + 1
        return found[turn % len(found)]

    def _count(self, change: int) -> None:
        with self._changed:
            self._open += change
            self._changed.notify_all()


async def _read_request(reader: asyncio.StreamReader) -> Received | None:
    """Read one request; `None` where the client has closed the connection, or sends what is no HTTP."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return None
    line, *rest = head.split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (text.partition(":") for text in rest if text)}
    length = headers.get("content-length", "0")
    if line.count(" ") != 2 or not length.isdecimal() or int(length) > _LARGEST_REQUEST:
        return None
    method, target, _ = line.split(" ")
    return Received(method, target.partition("?")[0], headers, await reader.readexactly(int(length)))


async def _pause(seconds: float, reader: asyncio.StreamReader) -> None:
    """Sleep, unless the client goes away meanwhile.

    Raises:
        ConnectionAbortedError: it has gone, or has sent something before it had its answer.
    """
    if not seconds:
        await asyncio.sleep(0)
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await reader.read(1)
        raise ConnectionAbortedError


def _reset_on_close(writer: asyncio.StreamWriter) -> None:
    """Let the connection end with a reset (RST) instead of a proper close (FIN)."""
    linger_for_no_time = b"\x01\x00\x00\x00\x00\x00\x00\x00"
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_for_no_time)


def _tagged(model: str | None) -> str | None:
    """Return the name as Ollama takes it: without a tag, `latest` is meant."""
    return model if model is None or ":" in model else f"{model}:latest"


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
