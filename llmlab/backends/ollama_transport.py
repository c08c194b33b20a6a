"""HTTP for the Ollama backend: connections, timeouts, and reading answers that may be longer than they should be.

Nothing here knows a call or an attempt; those are in `ollama_session.py`.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import httpx

from llmlab.backends.ollama_failures import ServerError, Where, failure_of_error, read_error
from llmlab.backends.ollama_host import is_loopback
from llmlab.backends.ollama_protocol import ProtocolBreach
from llmlab.core.retry_after import parse_http_date, parse_retry_after

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from llmlab.core.backend import AttemptFailure, Timeouts

T = TypeVar("T")

HEADERS = {
    "accept": "application/x-ndjson, application/json",
    # No compression: it would hold pieces back, and a few bytes could unpack to gigabytes.
    "accept-encoding": "identity",
    "content-type": "application/json",
}

LONGEST_ERROR = 64 * 1024
"""Bytes of an error body. A longer one is not read to its end: the status is what counts."""
ERROR_PATIENCE = 2.0
"""Seconds for an error body: its status is known, and the next attempt should not wait for prose."""

# No content type at all leaves it to the lines to show what they are.
_CONTENT_TYPES = frozenset({"application/x-ndjson", "application/json", ""})
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

    async def aclose(self) -> None:
        """Close the connections, whoever uses them, but not those of a client that was passed in."""
        pools, self._pools = self._pools, []
        for pool in pools:
            await pool.client.aclose()

    def close_later(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close the connections of a session that was dropped without being closed, from whatever thread notices it."""

        def close() -> None:
            task = loop.create_task(self.aclose(), name="llmlab: close the connections of a dropped Ollama session")
            _CLOSING.add(task)
            task.add_done_callback(_CLOSING.discard)

        with suppress(RuntimeError):  # the loop is closed, and its sockets with it
            if self._pools:
                loop.call_soon_threadsafe(close)

    def _open(self) -> httpx.AsyncClient:
        loopback = is_loopback(self._url.host)
        if self._tls is None:
            # Loading the authorities' certificates takes longer than many a call. Where they are not needed they are
            # left out, not their check: the bare context trusts nobody.
            bare = loopback and self._url.scheme == "http"
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if bare else httpx.create_ssl_context()
        return httpx.AsyncClient(
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=_KEEP_IDLE),
            # A proxy from the environment is for the world outside and cannot reach this machine's own loopback.
            trust_env=not loopback,
            verify=self._tls,
            follow_redirects=False,
        )


_CLOSING: set[asyncio.Task[None]] = set()  # a loop holds its tasks weakly


def limits_of(timeouts: Timeouts) -> dict[str, float | None]:
    """Return httpx's timeouts for a request whose answer begins within `first_byte`.

    httpx has one timeout for all reads. The transport looks it up when it begins to read the headers, and again when it
    begins to read the body; so the caller sets `"read"` to `None` in between and times the body's pieces itself.
    """
    return {
        "connect": timeouts.connect,
        "pool": timeouts.pool,
        "write": timeouts.between_chunks,
        "read": timeouts.first_byte,
    }


def check_headers(response: httpx.Response) -> None:
    """Refuse what cannot be an Ollama answer.

    Raises:
        ProtocolBreach: the content type or encoding is another one.
    """
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in _CONTENT_TYPES:
        raise ProtocolBreach(f"the content type is '{kind[:60]}', not application/x-ndjson; is this an Ollama server?")
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise ProtocolBreach(f"the answer is encoded as '{encoding[:60]}', which was not asked for")


async def read_body(response: httpx.Response, longest: int) -> bytes | None:
    """Return the whole body, or `None` where it is longer than `longest` bytes; the rest is then not read."""
    body = bytearray()
    async for data in response.aiter_raw():
        body += data
        if len(body) > longest:
            return None
    return bytes(body)


async def failure_of_answer(response: httpx.Response, where: Where, private: Iterable[str]) -> AttemptFailure:
    """Return the failure that an answer with an error status means; its body is read as far as that is reasonable."""
    body: bytes | None = b""
    with suppress(TimeoutError, httpx.TransportError):
        async with asyncio.timeout(ERROR_PATIENCE):
            body = await read_body(response, LONGEST_ERROR)
    error = ServerError(f"(more than {LONGEST_ERROR} bytes, not read)") if body is None else read_error(body)
    return failure_of_error(
        response.status_code, error, where, private=private, retry_after=_retry_after(response.headers)
    )


def _retry_after(headers: httpx.Headers) -> float | None:
    value = headers.get("retry-after")
    if value is None:
        return None
    # The server's own clock, where it tells the time: then it does not matter that ours goes differently.
    now = parse_http_date(headers.get("date", "")) or datetime.now(UTC)
    return parse_retry_after(value, now)


class Question(Generic[T]):
    """A look-up that any number of tasks wait for, and that is given up when none of them waits any more."""

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._task = asyncio.get_running_loop().create_task(work)
        self._waiting = 0
        self._given_up = False

    @property
    def is_over(self) -> bool:
        """Whether it is too late to wait for it."""
        return self._given_up or self._task.done()

    async def answer(self) -> T:
        """Wait for the answer; to cancel this wait leaves the others their answer."""
        self._waiting += 1
        try:
            return await asyncio.shield(self._task)
        finally:
            self._waiting -= 1
            if not self._waiting and not self._task.done():
                self._given_up = True
                self._task.cancel()
