"""HTTP to this machine itself at half the cost: httpcore's connections over a stream that wastes nothing.

httpx's own transport is made for all networks and two async libraries. To a server on loopback its layers cost more
than the call: two packets for a request of one, and a turn of the event loop with three context managers for each piece
of the answer. Here a request leaves when its answer is waited for, in one packet, and a piece costs one wake-up. The
protocol, the pool and their errors stay httpcore's. No TLS and no proxy: for those there is httpx's transport
(`http_pools.py` chooses).
"""

from __future__ import annotations

import asyncio
import select
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import httpcore
import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

_MOST_UNREAD = 256 * 1024
"""Bytes that are taken in beyond what was asked for; then the server waits."""
_MOST_UNSENT = 64 * 1024
"""Bytes that are kept for one packet; what is longer is sent at once, under the write timeout."""


class LoopbackTransport(httpx.AsyncBaseTransport):
    """An httpx transport over httpcore's pool, without a limit of its own.

    Args:
        keep_idle: seconds for which a connection that nobody uses is kept.
    """

    def __init__(self, *, keep_idle: float) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            max_connections=None,
            max_keepalive_connections=None,
            keepalive_expiry=keep_idle,
            network_backend=_Network(),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; the answer's body is read by who gets it."""
        url = request.url
        asked = httpcore.Request(
            method=request.method,
            url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        opened: list[_Stream] = []
        before = _OPENED.set(opened)
        try:
            with _as_httpx():
                got = await self._pool.handle_async_request(asked)
        except asyncio.CancelledError:
            for stream in opened:  # which httpcore forgets, cancelled just after it had opened it
                stream.abort()
            raise
        finally:
            _OPENED.reset(before)
        return httpx.Response(got.status, headers=got.headers, stream=_Body(got.stream), extensions=got.extensions)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


_OPENED: ContextVar[list[_Stream]] = ContextVar("opened")
"""The connections that were opened for the request under way."""


class _Body(httpx.AsyncByteStream):
    """The body of an answer, in the pieces in which it comes."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx():
            async for piece in self._stream:
                yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()


@contextmanager
def _as_httpx() -> Iterator[None]:
    """Let httpcore's errors be httpx's, which have the same names."""
    try:
        yield
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise getattr(httpx, type(error).__name__)(str(error)) from error


class _Network(httpcore.AsyncNetworkBackend):
    """Opens connections by asyncio's own means."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        del local_address, socket_options  # which no pool of ours sets
        try:
            async with asyncio.timeout(timeout):
                _, stream = await asyncio.get_running_loop().create_connection(_Stream, host, port)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        _OPENED.get().append(stream)
        return stream

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream, asyncio.Protocol):
    """A connection. What is written leaves when something is read, so that a request is one packet.

    One task uses it at a time, as httpcore does; only `aclose` may come from another.
    """

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._unread = bytearray()
        self._unsent = bytearray()
        self._over = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._full = False  # the system takes nothing more for now
        self._paused = False

    # What httpcore calls

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """Return what has come, at least one byte; nothing means that the server has closed its side."""
        self._send()
        if not self._unread and not self._over:
            try:
                await self._woken(timeout)
            except TimeoutError as error:
                raise httpcore.ReadTimeout(str(error)) from error
        if not self._unread:
            if self._error is not None:
                raise httpcore.ReadError(str(self._error)) from self._error
            return b""
        data = bytes(self._unread[:max_bytes])
        del self._unread[:max_bytes]
        if self._paused and len(self._unread) < _MOST_UNREAD:
            self._paused = False
            self._transport.resume_reading()
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Keep a little, send what is long."""
        self._unsent += buffer
        if len(self._unsent) < _MOST_UNSENT:
            return
        self._send()
        while self._full and not self._over:
            try:
                await self._woken(timeout)
            except TimeoutError as error:
                raise httpcore.WriteTimeout(str(error)) from error
        if self._over:
            raise httpcore.WriteError("the connection is closed")

    async def aclose(self) -> None:
        """Close at once, whatever is unsent; who waits gets an error."""
        self.abort()
        await asyncio.sleep(0)  # the loop closes the socket in this turn

    def abort(self) -> None:
        """Let the loop close it in its next turn."""
        self._transport.abort()

    def get_extra_info(self, info: str) -> Any:
        """Tell whether an idle connection is over, which a server may have closed this instant."""
        if info == "is_readable":
            return self._over or bool(self._unread) or _is_readable(self._transport.get_extra_info("socket").fileno())
        return None

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment] # that of a stream of bytes

    def data_received(self, data: bytes) -> None:
        self._unread += data
        if len(self._unread) >= _MOST_UNREAD and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._over = True
        self._wake()
        return True  # open until httpcore closes it: the request may still be on its way

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._over:
            self._over, self._error = True, exc or ConnectionAbortedError("the connection was closed here")
        self._wake()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._wake()

    def _send(self) -> None:
        if self._unsent and not self._transport.is_closing():
            self._transport.write(bytes(self._unsent))
        self._unsent.clear()

    async def _woken(self, timeout: float | None) -> None:  # noqa: ASYNC109
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            if timeout is None:
                await self._waiter
            else:
                async with asyncio.timeout(timeout):
                    await self._waiter
        except BaseException:  # a timeout or a cancellation: nobody reads on
            self.abort()  # here, for another cancellation would cut short httpcore's own closing
            raise
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _is_readable(file: int) -> bool:
    if file < 0:
        return True
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([file], [], [], 0)[0])
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(0))
