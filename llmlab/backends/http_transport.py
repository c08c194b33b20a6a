"""HTTP as the backends speak it: timeouts, and reading answers that may be longer than they should be.

Nothing here knows a call or an attempt; those are in `http_stream.py`. The connections are in `http_pools.py`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, cast

import httpx

from llmlab.backends.http_answers import ProtocolBreach
from llmlab.core.retry_after import parse_http_date, parse_retry_after

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmlab.core.backend import Timeouts

HEADERS = {
    # No compression: it would hold pieces back, and a few bytes could unpack to gigabytes.
    "accept-encoding": "identity",
    "content-type": "application/json",
}
"""What every request is sent with."""

LONGEST_ERROR = 64 * 1024
"""Bytes of an error body. A longer one is not read to its end: the status is what counts."""
ERROR_PATIENCE = 2.0
"""Seconds for an error body: its status is known, and the next attempt should not wait for prose."""


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


@lru_cache(maxsize=64)
def parsed_url(text: str) -> httpx.URL:
    """Return a URL. To parse it takes as long as all the rest of building a request, and attempts ask the same few."""
    return httpx.URL(text)


def content_type(response: httpx.Response) -> str:
    """Return the answer's media type in lower case, "" where it has none, and refuse one that is packed.

    Raises:
        ProtocolBreach: the answer has an encoding.
    """
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise ProtocolBreach(f"the answer is encoded as '{encoding[:60]}', which was not asked for")
    kind: str = response.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower()


async def read_body(response: httpx.Response, longest: int) -> bytes | None:
    """Return the whole body, or `None` where it is longer than `longest` bytes; the rest is then not read."""
    body = bytearray()
    # Not `aiter_raw`, which closes the connection at its end; `http_pools.closed` has why that is not left to it.
    async for data in cast("httpx.AsyncByteStream", response.stream):
        body += data
        if len(body) > longest:
            return None
    return bytes(body)


async def read_error_body(response: httpx.Response) -> bytes | None:
    """Return the body of an answer with an error status, as far as that is reasonable; `None` where it is too long."""
    with suppress(TimeoutError, httpx.TransportError):
        async with asyncio.timeout(ERROR_PATIENCE):
            return await read_body(response, LONGEST_ERROR)
    return b""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the wait that an answer asks for, in seconds, or `None`."""
    value = headers.get("retry-after")
    if value is None:
        return None
    # The server's own clock, where it tells the time: then it does not matter that ours goes differently.
    now = parse_http_date(headers.get("date", "")) or datetime.now(UTC)
    return parse_retry_after(value, now)
