"""Talking to an Ollama server on one event loop: the connections, and one attempt as a stream.

Every attempt is streamed, also where the caller wants the whole text: only a stream tells the time to the first token,
and a server that stalls from one that is slow. An attempt that ends early, for whatever reason, closes its connection,
and Ollama then stops generating. What is said is in `ollama_protocol.py`, what failures mean in `ollama_failures.py`,
and the HTTP below in `ollama_transport.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import httpx

from llmlab.backends import ollama_failures as failures
from llmlab.backends.ollama_protocol import AnswerReader, ErrorLine, ProtocolBreach, first_model, request_body
from llmlab.backends.ollama_transport import (
    HEADERS,
    Pool,
    Pools,
    Question,
    check_headers,
    failure_of_answer,
    limits_of,
    read_body,
)
from llmlab.core.backend import AttemptFailure
from llmlab.core.vocabulary import FailureReason

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

    from llmlab.backends.ollama_protocol import Endpoint
    from llmlab.core.backend import AttemptKey, Outcome, Timeouts
    from llmlab.core.messages import LLMRequest

_LONGEST_LISTING = 4 * 1024 * 1024  # bytes of /api/tags: thousands of models
_END_PATIENCE = 0.5  # seconds from the last line to the end of the body: the answer is complete, only the reuse waits


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a session talks to, and how: the backend's settings with everything resolved."""

    base_url: str
    model: str | None
    options: dict[str, Any]
    keep_alive: str | float | None
    endpoint: Literal["auto", "generate", "chat"]


class _Failed(Exception):
    """Ends an attempt with a failure."""

    def __init__(self, failure: AttemptFailure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


class OllamaSession:
    """Answers attempts on one event loop, over connections of its own or those of a client that was passed in."""

    def __init__(self, target: Target, http_client: httpx.AsyncClient | None = None) -> None:
        self.target = target
        self.pools = Pools(target.base_url, http_client)
        weakref.finalize(self, self.pools.close_later, asyncio.get_running_loop()).atexit = False
        self._chosen: str | None = None
        self._question: Question[str | AttemptFailure] | None = None

    async def attempt(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> Outcome:
        """Send the request once and say what came back; a cancellation closes the connection at once."""
        return await self.stream(request, timeouts=timeouts, key=key).drained()

    def stream(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> OllamaStream:
        """Begin one attempt; nothing is sent before the first piece is asked for."""
        del key  # it is for keyed draws, and a real server makes none
        return OllamaStream(self, request, timeouts)

    async def aclose(self) -> None:
        """Close the connections of this session, whoever uses them; the next attempt opens new ones."""
        await self.pools.aclose()

    async def model_for(self, request: LLMRequest, timeouts: Timeouts) -> str:
        """Return the model to ask: the request's, the backend's, or the first one installed (looked up once)."""
        name = request.model or self.target.model or self._chosen
        if name is None:
            if self._question is None or self._question.is_over:
                self._question = Question(self._first_installed(timeouts))
            found = await self._question.answer()
            if isinstance(found, AttemptFailure):
                raise _Failed(found)
            name = self._chosen = found
        return name

    def forget_model(self, model: str) -> None:
        """Look the first installed model up again next time: this one has gone."""
        if self._chosen == model:
            self._chosen = None

    async def _first_installed(self, timeouts: Timeouts) -> str | AttemptFailure:
        where = failures.Where(self.target.base_url, path="/api/tags")
        limits = limits_of(timeouts)
        limits["read"] = timeouts.first_byte or timeouts.between_chunks  # a listing has no queue to wait in
        pool, response = self.pools.take(), None
        http = pool.client
        request = http.build_request("GET", where.url + where.path, headers=HEADERS, extensions={"timeout": limits})
        try:
            response = await http.send(request, stream=True, follow_redirects=False)
            if response.status_code != 200:
                return await failure_of_answer(response, where, ())
            body = await read_body(response, _LONGEST_LISTING) or b""
            return first_model(body) or failures.no_model_installed(where)
        except httpx.TransportError as error:
            return failures.failure_of_exception(error, where, timeouts, status=200 if response else None)
        except ProtocolBreach as breach:
            return failures.malformed(f"Ollama at {where.url}: {breach}", 200)
        finally:
            pool.release()
            if response is not None:
                await response.aclose()

    def __repr__(self) -> str:
        return f"OllamaSession({self.target.base_url!r})"


class OllamaStream:
    """One attempt: its pieces of text as they arrive, and then its `outcome`."""

    outcome: Outcome

    def __init__(self, session: OllamaSession, request: LLMRequest, timeouts: Timeouts) -> None:
        self._session = session
        self._request = request
        self._timeouts = timeouts
        self._where = failures.Where(session.target.base_url)
        self._reader = AnswerReader()
        self._pool: Pool | None = None
        self._response: httpx.Response | None = None
        self._chunks: AsyncGenerator[bytes, None] | None = None
        self._began = 0.0
        self._first_token: float | None = None
        self._first_chunk_came = False
        self._over = False

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
        except _Failed as failed:
            self.outcome = failed.failure
        except httpx.TransportError as error:
            status = None if self._response is None else self._response.status_code
            self.outcome = failures.failure_of_exception(error, self._where, self._timeouts, status=status)
        except ErrorLine as line:
            said = failures.read_error(line.error)
            self.outcome = failures.failure_of_error(200, said, self._where, private=self._private())
        except ProtocolBreach as breach:
            self.outcome = failures.malformed(f"Ollama at {self._where.url}: {breach}", 200)
        except BaseException:  # a cancellation, or a bug
            await self.aclose()
            raise
        await self.aclose()

    async def _begin(self) -> None:
        """Send the request and see whether an answer begins."""
        self._began = asyncio.get_running_loop().time()
        session = self._session
        endpoint = self._endpoint()
        model = await session.model_for(self._request, self._timeouts)
        self._where = failures.Where(session.target.base_url, model, f"/api/{endpoint}")
        target = session.target
        body = request_body(
            self._request, endpoint=endpoint, model=model, options=target.options, keep_alive=target.keep_alive
        )
        limits = limits_of(self._timeouts)
        url = self._where.url + self._where.path
        self._pool = session.pools.take()
        http = self._pool.client
        request = http.build_request("POST", url, content=body, headers=HEADERS, extensions={"timeout": limits})
        response = self._response = await http.send(request, stream=True, follow_redirects=False)
        # The transport looks at this dict again before it reads the body; from here on `_read` keeps the time.
        limits["read"] = None
        if response.status_code != 200:
            failure = await failure_of_answer(response, self._where, self._private())
            if failure.reason is FailureReason.MODEL_NOT_FOUND:
                session.forget_model(model)
            raise _Failed(failure)
        check_headers(response)
        self._chunks = response.aiter_raw()  # type: ignore[assignment] # it is a generator, and must be closed as one

    async def _read(self) -> None:
        """Take in the next bytes, or the end."""
        assert self._chunks is not None  # noqa: S101 - set where the response is
        if self._reader.last is not None:
            await self._end()
            return
        first = not self._first_chunk_came
        try:
            async with asyncio.timeout(self._timeouts.first_byte if first else self._timeouts.between_chunks):
                data = await anext(self._chunks, None)
        except TimeoutError:
            late = failures.no_first_byte if first else failures.stalled
            raise _Failed(late(self._where, self._timeouts, status=200)) from None
        self._first_chunk_came = True
        if data is None:
            self._reader.finish()
        else:
            self._reader.feed(data)
        if self._first_token is None and self._reader.has_token:
            self._first_token = asyncio.get_running_loop().time() - self._began

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
        if self._chunks is not None:
            # RuntimeError: another task is reading; closing the response below ends that.
            with contextlib.suppress(RuntimeError):
                await self._chunks.aclose()
        if self._response is not None:
            await self._response.aclose()

    def _endpoint(self) -> Endpoint:
        wanted = self._session.target.endpoint
        if wanted == "auto":
            return "generate" if self._request.messages is None else "chat"
        if wanted == "generate" and self._request.messages is not None:
            message = "the generate endpoint takes a prompt, not messages; use endpoint='auto' or 'chat'"
            raise _Failed(AttemptFailure(FailureReason.INVALID_REQUEST, message))
        return wanted

    def _private(self) -> Iterator[str]:
        """What must not stand in a message: the request's texts, and the answer so far."""
        for turn in self._request.conversation():
            yield turn["content"]
        yield self._reader.text
