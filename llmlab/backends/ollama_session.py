"""Talking to an Ollama server on one event loop: which model and endpoint is asked, and what its answers mean.

How an attempt goes is in `http_stream.py`, what is said in `ollama_protocol.py`, what failures mean in
`ollama_failures.py`.
"""

from __future__ import annotations

import asyncio
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from llmlab.backends.http_answers import ProtocolBreach
from llmlab.backends.http_failures import Failed, Where, malformed
from llmlab.backends.http_pools import Pools
from llmlab.backends.http_question import Question
from llmlab.backends.http_stream import HTTPStream, Post, looked_up
from llmlab.backends.http_transport import HEADERS, content_type
from llmlab.backends.ollama_failures import (
    OLLAMA,
    failure_of_answer,
    failure_of_error,
    no_model_installed,
    read_error,
)
from llmlab.backends.ollama_protocol import LineReader, first_model, request_body
from llmlab.core.backend import ATTEMPT_HEADER, AttemptFailure, attempt_header
from llmlab.core.vocabulary import FailureReason

if TYPE_CHECKING:
    import httpx

    from llmlab.backends.ollama_protocol import Endpoint
    from llmlab.core.backend import AttemptKey, Outcome, Timeouts
    from llmlab.core.messages import LLMRequest

_HEADERS = {**HEADERS, "accept": "application/x-ndjson, application/json"}
# No content type at all leaves it to the lines to show what they are.
_CONTENT_TYPES = frozenset({"application/x-ndjson", "application/json", ""})
_LONGEST_LISTING = 4 * 1024 * 1024  # bytes of /api/tags: thousands of models


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a session talks to, and how: the backend's settings with everything resolved."""

    base_url: str
    model: str | None
    options: dict[str, Any]
    keep_alive: str | float | None
    endpoint: Literal["auto", "generate", "chat"]


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
        return OllamaStream(self, request, timeouts, key)

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
                raise Failed(found)
            name = self._chosen = found
        return name

    def forget_model(self, model: str) -> None:
        """Look the first installed model up again next time: this one has gone."""
        if self._chosen == model:
            self._chosen = None

    async def _first_installed(self, timeouts: Timeouts) -> str | AttemptFailure:
        where = Where(OLLAMA, self.target.base_url, path="/api/tags")

        def refused(status: int, headers: httpx.Headers, body: bytes | None) -> AttemptFailure:
            return failure_of_answer(status, headers, body, where)

        body = await looked_up(self.pools, where, timeouts, headers=_HEADERS, longest=_LONGEST_LISTING, refused=refused)
        if isinstance(body, AttemptFailure):
            return body
        try:
            return first_model(body) or no_model_installed(where)
        except ProtocolBreach as breach:
            return malformed(f"{where}: {breach}", 200)

    def __repr__(self) -> str:
        return f"OllamaSession({self.target.base_url!r})"


class OllamaStream(HTTPStream):
    """One attempt at an Ollama server."""

    def __init__(self, session: OllamaSession, request: LLMRequest, timeouts: Timeouts, key: AttemptKey) -> None:
        super().__init__(session.pools, Where(OLLAMA, session.target.base_url), LineReader(), request, timeouts)
        self._session = session
        self._key = key

    async def _to_send(self) -> Post:
        target = self._session.target
        endpoint = self._endpoint()
        model = await self._session.model_for(self._request, self._timeouts)
        body = request_body(
            self._request, endpoint=endpoint, model=model, options=target.options, keep_alive=target.keep_alive
        )
        headers = {**_HEADERS, ATTEMPT_HEADER: attempt_header(self._key)}
        return Post(Where(OLLAMA, target.base_url, model, f"/api/{endpoint}"), body, headers)

    def _check(self, response: httpx.Response) -> None:
        kind = content_type(response)
        if kind not in _CONTENT_TYPES:
            said = f"the content type is '{kind[:60]}', not application/x-ndjson"
            raise ProtocolBreach(f"{said}; is this an Ollama server?")

    def _refused(self, status: int, headers: httpx.Headers, body: bytes | None) -> AttemptFailure:
        failure = failure_of_answer(status, headers, body, self._where, private=self._private())
        if failure.reason is FailureReason.MODEL_NOT_FOUND:
            self._session.forget_model(self._where.model)
        return failure

    def _reported(self, error: object) -> AttemptFailure:
        return failure_of_error(200, read_error(error), self._where, private=self._private())

    def _endpoint(self) -> Endpoint:
        wanted = self._session.target.endpoint
        if wanted == "auto":
            return "generate" if self._request.messages is None else "chat"
        if wanted == "generate" and self._request.messages is not None:
            message = "the generate endpoint takes a prompt, not messages; use endpoint='auto' or 'chat'"
            raise Failed(AttemptFailure(FailureReason.INVALID_REQUEST, message))
        return wanted
