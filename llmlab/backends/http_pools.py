"""The HTTP connections of a backend's session: many small pools, and no limit of their own; and its timeouts.

Who uses them is in `http_stream.py`, what an answer may look like in `http_transport.py`.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from llmlab.backends.http_host import is_loopback
from llmlab.backends.http_loopback import LoopbackTransport
from llmlab.core.timers import Deadlines

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

_POOL_WIDTH = 4
# Seconds. httpx's 5 are shorter than many a backoff; a connection that the server closed meanwhile is noticed.
_KEEP_IDLE = 30.0


@dataclass(slots=True, eq=False)
class Pool:
    """An HTTP client with its pool of connections, and how many attempts use it."""

    client: httpx.AsyncClient
    users: int = 0

    def release(self) -> None:
        """Give back what `take` gave."""
        self.users -= 1


class Pools:
    """All the connections of a session. They never say no: how many calls run at once is the client policy's to limit.

    A pool of httpx goes over all its connections, and for each idle one again over all, whenever a request begins or
    ends. With 200 calls at once, a call cost 46 ms of CPU time in one pool; in small ones it costs 1.5 ms, as it does
    alone.
    """

    def __init__(self, base_url: str, given: httpx.AsyncClient | None = None) -> None:
        self._url = httpx.URL(base_url)
        self._given = Pool(given) if given is not None else None
        self._pools: list[Pool] = []
        self._tls: ssl.SSLContext | None = None
        self._deadlines: dict[float, Deadlines] = {}

    @property
    def users(self) -> int:
        """How many attempts hold a pool now."""
        return sum(pool.users for pool in (*self._pools, *filter(None, [self._given])))

    def take(self) -> Pool:
        """Return a pool for one attempt, which gives it back with `release`: the first one that is not busy."""
        pool = self._given or next((pool for pool in self._pools if pool.users < _POOL_WIDTH), None)
        if pool is None:
            pool = Pool(self._open())
            self._pools.append(pool)
        pool.users += 1
        return pool

    def deadlines(self, seconds: float) -> Deadlines:
        """Return the running event loop's deadlines for waits of this length; a session has few lengths."""
        found = self._deadlines.get(seconds)
        if found is None:
            found = self._deadlines[seconds] = Deadlines(asyncio.get_running_loop())
        return found

    async def aclose(self) -> None:
        """Close the connections, whoever uses them, but not those of a client that was passed in; give back timers."""
        for deadlines in self._deadlines.values():
            deadlines.close()
        pools, self._pools = self._pools, []
        if pools:
            await closed(_all_closed(pools))

    def close_later(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close the connections of a session that was dropped without being closed, from whatever thread notices it."""
        with suppress(RuntimeError):  # the loop is closed, and its sockets with it
            if self._pools:
                loop.call_soon_threadsafe(lambda: _begun(loop, self.aclose()))

    def _open(self) -> httpx.AsyncClient:
        loopback = is_loopback(self._url.host)
        if loopback and self._url.scheme == "http":
            transport = LoopbackTransport(keep_idle=_KEEP_IDLE)
            return httpx.AsyncClient(transport=transport, trust_env=False, follow_redirects=False)
        if self._tls is None:  # loading the authorities' certificates takes longer than many a call
            self._tls = httpx.create_ssl_context()
        return httpx.AsyncClient(
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=_KEEP_IDLE),
            # A proxy from the environment is for the world outside and cannot reach this machine's own loopback.
            trust_env=not loopback,
            verify=self._tls,
            follow_redirects=False,
        )


async def _all_closed(pools: Iterable[Pool]) -> None:
    for pool in pools:
        await pool.client.aclose()


async def closed(closing: Coroutine[Any, Any, None]) -> None:
    """Close a connection, to the end whoever cancels this wait meanwhile.

    httpcore's own closing must not be cut short: its shield is none against asyncio's cancellations, and a connection
    that is closed half-way stays open and is never used again.
    """
    task = _begun(asyncio.get_running_loop(), closing)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=_CLOSED_WITHIN)
        raise


def _begun(loop: asyncio.AbstractEventLoop, closing: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    task = loop.create_task(closing, name="llmlab: close connections")
    _CLOSING.add(task)
    task.add_done_callback(_CLOSING.discard)
    return task


_CLOSING: set[asyncio.Task[None]] = set()  # a loop holds its tasks weakly
_CLOSED_WITHIN = 1.0  # seconds; a transport that is passed in may take as long as it likes
