"""What the servers here share: a listening socket, the connections that came of it, and a thread with an event loop.

On a thread of its own a server can be used by sync and async code alike; `serve` runs it on the present loop instead,
for a process that does nothing else.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import threading
from abc import ABC, abstractmethod
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

from llmlab.core.settings import SettingsError
from llmlab.server.connection import Connection

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from types import TracebackType

    from llmlab.server.served import Served
    from llmlab.wire.exchange import Step

logger = logging.getLogger("llmlab")

_LISTEN_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, and never bound by default
_BACKLOG = 1024
_AT_ONCE = 64
"""Connections that are taken before others have their turn."""
_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_UNTIL_RESOURCES_S = 0.1


class HostedServer(ABC):
    """A server on a socket: `with` starts and stops it, and `async with` does so, too.

    Args:
        host: the address to listen on.
        port: the port; 0 takes a free one.

    Raises:
        SettingsError: one of them cannot be meant.
    """

    def __init__(self, host: str, port: int) -> None:
        given: tuple[object, object] = host, port  # whatever a caller without a type checker gives
        if not isinstance(given[0], str) or not host:  # "" would listen on every address there is
            raise SettingsError(f"host must be an address to listen on, such as '127.0.0.1', got {host!r}")
        if not isinstance(given[1], int) or not 0 <= port <= 65535:
            raise SettingsError(f"port must be a whole number from 0 to 65535, got {port!r}; 0 takes a free one")
        self._host = host
        self._port = port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop: asyncio.Event | None = None
        self._listener: socket.socket | None = None
        self._held: socket.socket | None = None
        self._taking: set[asyncio.Task[None]] = set()
        self._open: set[Connection] = set()
        self._last_closed: asyncio.Event | None = None
        self._accepted = 0
        self._changed = threading.Condition()

    @property
    def port(self) -> int:
        """The port it listens on; 0 before it has taken a free one."""
        return self._port

    @property
    def url(self) -> str:
        """Where the server is reached from this machine."""
        host = _LISTEN_ANYWHERE.get(self._host, self._host)
        return f"http://[{host}]:{self._port}" if ":" in host else f"http://{host}:{self._port}"

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return len(self._open)

    @property
    def connections(self) -> int:
        """How many connections there have been."""
        return self._accepted

    def wait_until_closed(self, timeout: float = 2.0) -> bool:
        """Wait until no connection is open, at most `timeout` seconds; return whether it came to that."""
        return self._wait_for(lambda: not self._open, timeout)

    # ---- start and stop

    def start(self) -> None:
        """Begin to listen, on a thread of its own; `with` does it.

        Raises:
            OSError: the port is taken, or the address is not this machine's.
        """
        # Bound here, so that a port that is taken raises here and not on the server's thread.
        listener = self._bind()
        started = threading.Event()
        failed: list[BaseException] = []

        def run() -> None:
            try:
                asyncio.run(self._serve(listener, started.set))
            except BaseException as error:  # noqa: BLE001 - raised by the thread that waits
                failed.append(error)
            finally:
                started.set()

        self._thread = threading.Thread(target=run, name=f"llmlab {type(self).__name__}", daemon=True)
        self._thread.start()
        started.wait()
        if failed:
            raise failed[0]

    def stop(self) -> None:
        """Close all connections and stop listening; does nothing where the server does not run."""
        if self._thread is not None and self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
        self._thread = None

    async def serve(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve on the running event loop until cancelled; `ready` is called once it listens.

        Raises:
            OSError: the port is taken, or the address is not this machine's.
        """
        await self._serve(self._bind(), ready)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    # ---- what each server says for itself

    @abstractmethod
    def answer(self, served: Served) -> AsyncGenerator[Step]:
        """Begin to answer a request."""

    @abstractmethod
    def ended(self, served: Served) -> None:
        """Note that an answer has ended."""

    @asynccontextmanager
    async def _at_work(self) -> AsyncIterator[None]:
        """Do what belongs around the time in which the server listens."""
        yield

    # ---- connections

    def opened(self, connection: Connection) -> int:
        """Count a connection; return its number, from 0."""
        with self._changed:
            self._open.add(connection)
            self._accepted += 1
        return self._accepted - 1

    def closed(self, connection: Connection) -> None:
        """Count it off."""
        with self._changed:
            self._open.discard(connection)
            self._changed.notify_all()
        if self._last_closed is not None and not self._open:
            self._last_closed.set()

    # ---- on the loop

    async def _serve(self, listener: socket.socket, ready: Callable[[], None]) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with self._at_work():
                self._listen(listener)
                ready()
                try:
                    await self._stop.wait()
                finally:
                    await self._close()
        finally:
            listener.close()
            self._loop = self._stop = None

    def _bind(self) -> socket.socket:
        """Take the port, without listening yet: until then a connection is refused."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        taken = socket.socket(family, socket.SOCK_STREAM)
        try:
            if os.name == "posix":  # elsewhere it would let two servers have the same port
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind((self._host, self._port))
        except OSError as error:
            taken.close()
            said = f"cannot listen on {self._host}, port {self._port}: {error.strerror}"
            raise type(error)(error.errno, said) from None
        self._port = taken.getsockname()[1]
        return taken

    def _listen(self, listener: socket.socket) -> None:
        """Begin to take connections.

        By hand, and not by `loop.create_server`: that one leaves a connection behind which it was just taking as it
        was closed.
        """
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        self._listener = listener
        self._notify()
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _stop_listening(self) -> None:
        """Take no more connections, and close the port; those that are open go on."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        if self._held is not None:
            self._held.close()
            self._held = None

    def _suspend(self) -> None:
        """Refuse connections, but let nobody else have the port."""
        self._stop_listening()
        self._held = self._bind()
        self._notify()

    def _resume(self) -> None:
        """Take connections again, where they were refused."""
        if self._held is not None:
            held, self._held = self._held, None
            self._listen(held)

    def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(_AT_ONCE):
            try:
                accepted, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return  # there is no more, or it was given up before it was taken
            except OSError as error:
                if error.errno not in _OUT_OF_RESOURCES:
                    raise
                logger.warning("no connection can be taken now: %s; trying again", error)
                loop.remove_reader(listener)
                loop.call_later(_UNTIL_RESOURCES_S, self._listen_again, listener)
                return
            accepted.setblocking(False)
            taking = loop.create_task(self._take(accepted))
            self._taking.add(taking)
            taking.add_done_callback(self._taking.discard)

    def _listen_again(self, listener: socket.socket) -> None:
        if self._listener is listener:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    async def _take(self, accepted: socket.socket) -> None:
        await asyncio.get_running_loop().connect_accepted_socket(lambda: Connection(self), accepted)

    async def _close(self) -> None:
        """Stop listening, and end every connection."""
        self._stop_listening()
        await asyncio.gather(*self._taking, return_exceptions=True)
        ending = [connection.stop() for connection in self._open]
        await asyncio.gather(*filter(None, ending), return_exceptions=True)
        if self._open:
            self._last_closed = asyncio.Event()
            await self._last_closed.wait()

    def _notify(self) -> None:
        """Let those look again who wait for something to change."""
        with self._changed:
            self._changed.notify_all()

    def _wait_for(self, so: Callable[[], bool], timeout: float) -> bool:
        with self._changed:
            return self._changed.wait_for(so, timeout)
