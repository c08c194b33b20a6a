"""One attempt over HTTP as a stream of pieces of text, whatever the server's protocol is.

Every attempt is streamed, also where the caller wants the whole text: only a stream tells the time to the first token,
and a server that stalls from one that is slow. An attempt that ends early, for whatever reason, closes its connection,
and the server then stops generating. A protocol adds what is sent and how the answer is read: `ollama_session.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple, cast

import httpx

from llmlab.backends import http_failures as failures
from llmlab.backends.http_answers import ProtocolBreach, ReportedError
from llmlab.backends.http_pools import closed
from llmlab.backends.http_transport import limits_of, parsed_url, read_body, read_error_body
from llmlab.core.backend import AttemptFailure
from llmlab.core.timers import cut_short, this_task

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping

    from llmlab.backends.http_answers import AnswerReader
    from llmlab.backends.http_pools import Pool, Pools
    from llmlab.core.backend import Outcome, Timeouts
    from llmlab.core.messages import LLMRequest

_END_PATIENCE = 0.5  # seconds from the last piece to the end of the body: the answer is complete, only the reuse waits


class Post(NamedTuple):
    """What an attempt sends, and where to."""

    where: failures.Where
    body: bytes
    headers: Mapping[str, str]


class HTTPStream(ABC):
    """One attempt: its pieces of text as they arrive, and then its `outcome`."""

    outcome: Outcome

    def __init__(
        self, pools: Pools, where: failures.Where, reader: AnswerReader, request: LLMRequest, timeouts: Timeouts
    ) -> None:
        self._pools = pools
        self._where = where
        self._reader = reader
        self._request = request
        self._timeouts = timeouts
        self._pool: Pool | None = None
        self._response: httpx.Response | None = None
        self._chunks: AsyncGenerator[bytes, None] | None = None
        self._began = 0.0
        self._first_token: float | None = None
        self._first_chunk_came = False
        self._over = False

    @abstractmethod
    async def _to_send(self) -> Post:
        """Return what to send.

        Raises:
            Failed: there is nothing to send.
        """

    @abstractmethod
    def _check(self, response: httpx.Response) -> None:
        """Refuse an answer with the status 200 that is none by its headers.

        Raises:
            ProtocolBreach: the content type or encoding is another one.
        """

    @abstractmethod
    def _refused(self, status: int, headers: httpx.Headers, body: bytes | None) -> AttemptFailure:
        """Return what an error answer means; the body is `None` where it is too long."""

    @abstractmethod
    def _reported(self, error: object) -> AttemptFailure:
        """Return what an error in the middle of an answer means."""

    def __aiter__(self) -> AsyncIterator[str]:
        """Iterate over the pieces of text in order of arrival."""
        return self

    async def __anext__(self) -> str:
        while not self._reader.pieces:
            if self._over:
                raise StopAsyncIteration
            await self._advance()
        return self._reader.pieces.popleft()

    async def drained(self) -> Outcome:
        """Read to the end and return the outcome."""
        while not self._over:
            await self._advance()
            self._reader.pieces.clear()  # nobody takes them
        return self.outcome

    async def aclose(self) -> None:
        """End the attempt and close its connection; does nothing after the end."""
        if not self._over:
            self._over = True
            await self._disconnect()

    async def _advance(self) -> None:
        """Do the next thing: send the request, read once, or end; whatever happens, no connection is left behind."""
        try:
            await (self._begin() if self._response is None else self._read())
            return
        except failures.Failed as failed:
            self.outcome = failed.failure
        except httpx.TransportError as error:
            status = None if self._response is None else self._response.status_code
            self.outcome = failures.failure_of_exception(error, self._where, self._timeouts, status=status)
        except ReportedError as reported:
            self.outcome = self._reported(reported.error)
        except ProtocolBreach as breach:
            self.outcome = failures.malformed(f"{self._where}: {breach}", 200)
        except BaseException:  # a cancellation, or a bug
            await self.aclose()
            raise
        await self.aclose()

    async def _begin(self) -> None:
        """Send the request and see whether an answer begins."""
        self._began = asyncio.get_running_loop().time()
        self._where, body, headers = await self._to_send()
        limits = limits_of(self._timeouts)
        url = parsed_url(self._where.url + self._where.path)
        self._pool = self._pools.take()
        http = self._pool.client
        request = http.build_request("POST", url, content=body, headers=headers, extensions={"timeout": limits})
        response = self._response = await http.send(request, stream=True, follow_redirects=False)
        # The transport looks at this dict again before it reads the body; from here on `_read` keeps the time.
        limits["read"] = None
        if response.status_code != 200:
            error = await read_error_body(response)
            raise failures.Failed(self._refused(response.status_code, response.headers, error))
        self._check(response)
        # What httpx's own `aiter_raw` goes over: it adds nothing here but time, for every piece. It is a generator, and
        # must be closed as one.
        self._chunks = cast("AsyncGenerator[bytes, None]", aiter(cast("httpx.AsyncByteStream", response.stream)))

    async def _read(self) -> None:
        """Take in the next bytes, or the end."""
        if self._reader.is_complete:
            await self._end()
            return
        first = not self._first_chunk_came
        try:
            data = await self._next(self._timeouts.first_byte if first else self._timeouts.between_chunks)
        except TimeoutError:
            late = failures.no_first_byte if first else failures.stalled
            raise failures.Failed(late(self._where, self._timeouts, status=200)) from None
        self._first_chunk_came = True
        if data is None:
            self._reader.finish()
        else:
            self._reader.feed(data)
        if self._first_token is None and self._reader.has_token:
            self._first_token = asyncio.get_running_loop().time() - self._began

    async def _next(self, limit: float | None) -> bytes | None:
        """Return the next bytes, or `None` at the end; `asyncio.timeout` would cost more than all the rest of this.

        Raises:
            TimeoutError: nothing came within `limit` seconds.
        """
        assert self._chunks is not None  # noqa: S101 - set where the response is
        if limit is None:
            return await anext(self._chunks, None)
        loop = asyncio.get_running_loop()
        task = this_task(loop)
        cancelling = task.cancelling()
        deadline = self._pools.deadlines(limit).set(loop.time() + limit, task)
        try:
            return await anext(self._chunks, None)
        except asyncio.CancelledError:
            if cut_short(task, cancelling, deadline):
                raise TimeoutError from None
            raise
        finally:
            deadline.task = None

    async def _end(self) -> None:
        """Read what is left of a complete answer, so that the connection can be used again, and give the answer."""
        assert self._chunks is not None  # noqa: S101 - set where the response is
        with contextlib.suppress(TimeoutError, httpx.TransportError):
            async with asyncio.timeout(_END_PATIENCE):
                for _ in range(8):
                    if await anext(self._chunks, None) is None:
                        break
        self.outcome = self._reader.answer(model=self._where.model, time_to_first_token=self._first_token)
        await self.aclose()

    async def _disconnect(self) -> None:
        """Give the connection back if the answer was read to its end, else close it."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.release()
        if self._response is not None:
            await closed(self._close(self._response))

    async def _close(self, response: httpx.Response) -> None:
        if self._chunks is not None:
            # RuntimeError: another task is reading; closing the response ends that.
            with contextlib.suppress(RuntimeError):
                await self._chunks.aclose()
        await response.aclose()

    def _private(self) -> Iterator[str]:
        """What must not stand in a message: the request's texts, and the answer so far."""
        for turn in self._request.conversation():
            yield turn["content"]
        yield self._reader.text


async def looked_up(
    pools: Pools,
    where: failures.Where,
    timeouts: Timeouts,
    *,
    headers: Mapping[str, str],
    longest: int,
    refused: Callable[[int, httpx.Headers, bytes | None], AttemptFailure],
    body: bytes | None = None,
) -> bytes | AttemptFailure:
    """Return what a server answers to a question that is no attempt: a GET, or a POST where there is a body.

    Args:
        pools: the connections.
        where: whom to ask, and which path.
        timeouts: `first_byte` bounds the answer; where it is `None`, `between_chunks` does for a GET, which has no
            queue to wait in.
        headers: what to send.
        longest: the most bytes to read; of a longer answer, nothing is kept.
        refused: what an error answer means, from its status, headers and body (`None`: too long).
        body: what to post; `None` means GET.
    """
    limits = limits_of(timeouts)
    if body is None:
        limits["read"] = timeouts.first_byte or timeouts.between_chunks
    url, method = parsed_url(where.url + where.path), "GET" if body is None else "POST"
    pool, response = pools.take(), None
    try:
        http = pool.client
        request = http.build_request(method, url, content=body, headers=headers, extensions={"timeout": limits})
        response = await http.send(request, stream=True, follow_redirects=False)
        if response.status_code != 200:
            return refused(response.status_code, response.headers, await read_error_body(response))
        return await read_body(response, longest) or b""
    except httpx.TransportError as error:
        return failures.failure_of_exception(error, where, timeouts, status=200 if response else None)
    finally:
        pool.release()
        if response is not None:
            await closed(response.aclose())
