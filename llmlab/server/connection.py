"""One connection of a server that may break its protocol: h11 reads requests, and the answer's steps go out.

A step is a status with headers, one chunk of the body, or a way in which the connection breaks (`wire/exchange.py`).
What h11 would not let a server do is done beneath it, on the socket: a reset is a close with SO_LINGER 0, a cut is a
close in the middle of the body. A refused connection is a reset, and one that "neither stands nor is refused" is
accepted and never answered: once a process is asked, the kernel has accepted already.

A client that closes its side has gone, as for Ollama: the answer's iterator is closed at once, so that the simulated
server stops work on it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal, Protocol

import h11

from llmlab.server.served import Served
from llmlab.wire.exchange import Break, Head, HTTPRequest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from llmlab.server.served import Ending
    from llmlab.wire.exchange import Step

logger = logging.getLogger("llmlab")

LARGEST_HEAD = 64 * 1024
"""The most bytes that a request's line and headers may have; more is answered with 431."""
LARGEST_BODY = 64 * 1024 * 1024
"""The most bytes that a request's body may have; more is answered with 413."""
_LARGEST_AHEAD = 1024 * 1024
"""The most that a client may send before it has its answer: requests ahead (pipelining) are answered in order."""
_ONE_WRITE = 64 * 1024
"""What is handed to the socket together; a longer answer lets others have their turn in between."""
_WHOLE_REQUEST_S = 30.0
"""How long a request may take to come in once it has begun; longer is answered with 408."""
_LINGER_S = 2.0
"""How long a client may go on sending what it was already told is refused."""


class Answering(Protocol):
    """What a connection needs of the server it belongs to."""

    def opened(self, connection: Connection) -> int:
        """Note a new connection; return its number."""
        ...

    def closed(self, connection: Connection) -> None:
        """Note that it is closed."""
        ...

    def answer(self, served: Served) -> AsyncGenerator[Step]:
        """Begin to answer a request."""
        ...

    def ended(self, served: Served) -> None:
        """Note that an answer has ended, whichever way."""
        ...


class Connection(asyncio.Protocol):
    """Reads requests from one client, one after another, and plays their answers."""

    def __init__(self, server: Answering) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=LARGEST_HEAD)
        self._transport: asyncio.Transport
        self._request: h11.Request | None = None
        self._body: list[bytes] = []
        self._length = 0
        self._played: asyncio.Task[None] | None = None
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._writable: asyncio.Future[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._deaf = self._begun = False
        self._ended_early: Ending | None = None
        self.number = 0
        self.requests = 0
        self.closed_by: Literal["client", "server"] = "server"

    # ---- what asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker; TCP's always is
        self._transport = transport
        # asyncio does it only for sockets that name their protocol; without it each piece waits for the last one's
        # acknowledgement, 40 ms
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.number = self._server.opened(self)

    def data_received(self, data: bytes) -> None:
        """Read what came; while an answer is being sent, keep it for later."""
        if self._deaf:
            return
        self._http.receive_data(data)
        if self._played is None:
            self._read()
        elif len(self._http.trailing_data[0]) > _LARGEST_AHEAD:
            self._transport.abort()

    def eof_received(self) -> None:
        """Take a client that closes its side for gone; asyncio closes the connection."""
        self._client_gone()

    def connection_lost(self, error: Exception | None) -> None:
        """Stop work for a client that has gone."""
        if error is not None:
            self.closed_by = "client"
        self._client_gone()
        if self._deadline is not None:
            self._deadline.cancel()
        self._server.closed(self)

    def pause_writing(self) -> None:
        """Wait with further chunks: the client reads more slowly than we send."""
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """Go on sending."""
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def stop(self) -> asyncio.Task[None] | None:
        """End at once, because the server is stopped; return what is still at work on the end of an answer."""
        self._deaf = True
        self._end_early("server_stopped")
        self._transport.abort()
        return self._played

    def _client_gone(self) -> None:
        if not self._transport.is_closing():
            self.closed_by = "client"
        self._deaf = True
        self._end_early("client_gone")

    def _end_early(self, end: Ending) -> None:
        """End the answer that is being sent; one whose task has not begun yet ends as soon as it does."""
        if self._played is not None and self._ended_early is None:
            self._ended_early = end
            if self._begun:
                self._played.cancel()

    # ---- reading

    def _read(self) -> None:
        """Take the events that h11 has, up to the end of one request."""
        http = self._http
        try:
            while True:
                event = http.next_event()
                if isinstance(event, h11.Request):
                    self._begin(event)
                elif isinstance(event, h11.Data):
                    self._take(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage):
                    self._arrived()
                    return
                else:  # NEED_DATA; or the end of a connection that is no longer kept
                    break
                if self._deaf:
                    return
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint)
            return
        if self._deadline is None and (self._request is not None or http.trailing_data[0]):
            self._deadline = self._loop.call_later(_WHOLE_REQUEST_S, self._refuse, 408)

    def _begin(self, request: h11.Request) -> None:
        self._request = request
        declared = next((value for name, value in request.headers if name == b"content-length"), b"0")
        # h11 bounds a head that is still incomplete; one that comes in a single piece is for us to measure
        if sum(len(name) + len(value) for name, value in request.headers) > LARGEST_HEAD:
            self._refuse(431)
        elif int(declared) > LARGEST_BODY:
            self._refuse(413)
        elif self._http.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
            self._put(self._http.send(go_on))

    def _take(self, data: bytes) -> None:
        self._length += len(data)
        self._body.append(data)
        if self._length > LARGEST_BODY:  # one that came in chunks and did not say so beforehand
            self._refuse(413)

    def _arrived(self) -> None:
        raw = self._request
        if raw is None:
            return
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        path, _, query = raw.target.decode("ascii").partition("?")
        request = HTTPRequest(
            raw.method.decode("ascii"),
            path,
            tuple((name.decode("ascii"), value.decode("latin-1")) for name, value in raw.headers),
            b"".join(self._body),
            query,
        )
        self._request, self._body, self._length = None, [], 0
        served = Served(request, self.number, reused=self.requests > 0, arrived_at=self._loop.time())
        self.requests += 1
        self._begun = False
        self._played = self._loop.create_task(self._play(served, self._server.answer(served)))

    def _refuse(self, status: int) -> None:
        """Answer what is no request we take, and close; what the client still sends is read and thrown away.

        Closed at once, the connection would be reset under the client's hands before it has read why.
        """
        if self._http.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            text = f"{status} {HTTPStatus(status).phrase}".encode()
            head = (("Content-Type", "text/plain"), ("Content-Length", str(len(text))), ("Connection", "close"))
            self._send_head(Head(status, head))
            self._put(self._http.send(h11.Data(data=text)))
            self._put(self._http.send(h11.EndOfMessage()))
        self._deaf = True
        self._flush()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._loop.call_later(_LINGER_S, self._transport.abort)

    # ---- answering

    async def _play(self, served: Served, steps: AsyncGenerator[Step]) -> None:
        """Send an answer's steps as they come, and see to it that its iterator is closed and its end is noted."""
        self._begun = True
        try:
            served.end = self._ended_early or await self._sent(steps, served)
        except asyncio.CancelledError:
            served.end = self._ended_early or "server_stopped"
        except Exception:  # a bug, ours or in a text function of the user's: told, and no reason to stop serving
            logger.exception("the answer to %s %s could not be made", served.request.method, served.request.path)
            served.end = "crashed"
        with suppress(asyncio.CancelledError):  # the client has gone just as the answer ended
            await steps.aclose()
        served.ended_at = self._loop.time()
        self._server.ended(served)
        self._after(served.end)

    async def _sent(self, steps: AsyncGenerator[Step], served: Served) -> Ending:
        async for step in steps:
            if self._writable is not None:
                await self._writable
            if isinstance(step, Head):
                served.status, served.headers, served.head_at = step.status, step.headers, self._loop.time()
                self._send_head(step)
            elif isinstance(step, bytes):
                if served.first_chunk_at is None:
                    served.first_chunk_at = self._loop.time()
                self._put(self._http.send(h11.Data(data=step)))
                if self._unsent_bytes >= _ONE_WRITE:
                    self._flush()
                    await asyncio.sleep(0)
            elif step is Break.NO_CONNECTION:
                await self._loop.create_future()  # until the client has had enough
            else:
                return _END_OF[step]
        self._put(self._http.send(h11.EndOfMessage()))
        return "complete"

    def _after(self, end: Ending) -> None:
        """Go on with the next request, or end the connection in the way that the answer did."""
        self._played = None
        self._flush()
        if end == "complete":
            if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
                self._http.start_next_cycle()
                self._read()
            else:
                self._transport.close()
        elif end in {"refused", "reset", "crashed"}:
            self._reset()
        elif end == "cut":
            self._transport.close()

    def _reset(self) -> None:
        """Close with a reset (RST) instead of a proper end (FIN)."""
        no_time_to_linger = struct.pack("ii", 1, 0)
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_time_to_linger)
        self._transport.abort()

    # ---- writing

    def _send_head(self, head: Head) -> None:
        self._put(
            self._http.send(
                h11.Response(status_code=head.status, headers=list(head.headers), reason=_reason(head.status))
            )
        )

    def _put(self, data: bytes | None) -> None:
        """Hand over what is sent in this turn of the loop, together at its end: one system call in place of three."""
        if data:
            if not self._unsent:
                self._loop.call_soon(self._flush)
            self._unsent.append(data)
            self._unsent_bytes += len(data)

    def _flush(self) -> None:
        if self._unsent:
            self._transport.write(b"".join(self._unsent))
            self._unsent.clear()
            self._unsent_bytes = 0


_END_OF: dict[Break, Ending] = {Break.REFUSED: "refused", Break.RESET: "reset", Break.CUT: "cut"}


def _reason(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""
