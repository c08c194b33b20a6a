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
from llmlab.backends.http_failures import Failed, Where
from llmlab.backends.http_pools import Pools
from llmlab.backends.http_question import DefaultModel
from llmlab.backends.http_stream import HTTPStream, Post
from llmlab.backends.http_transport import HEADERS, content_type
from llmlab.backends.ollama_failures import OLLAMA, failure_of_answer, failure_of_error, no_such_model, read_error
from llmlab.backends.ollama_inquiry import Inquiry, WarmUp
from llmlab.backends.ollama_protocol import LineReader, load_body, request_body
from llmlab.backends.ollama_reloads import ReloadWatch
from llmlab.core.backend import ATTEMPT_HEADER, AttemptFailure, Timeouts, attempt_header
from llmlab.core.vocabulary import FailureReason

if TYPE_CHECKING:
    import httpx

    from llmlab.backends.ollama_description import ServerDescription
    from llmlab.backends.ollama_protocol import Endpoint
    from llmlab.core.backend import AttemptKey, Outcome
    from llmlab.core.messages import LLMRequest

_HEADERS = {**HEADERS, "accept": "application/x-ndjson, application/json"}
# No content type at all leaves it to the lines to show what they are.
_CONTENT_TYPES = frozenset({"application/x-ndjson", "application/json", ""})
# Seconds for what is only told beside the result: which models there are, and how one is loaded.
_LISTING_PATIENCE = Timeouts(connect=0.5, first_byte=0.5)


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
        self._inquiry = Inquiry(self.pools, target.base_url)
        self.reloads = ReloadWatch(self._inquiry, target.base_url, target.options, target.keep_alive)
        self._default_model = DefaultModel(self._inquiry.first_installed)

    async def attempt(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> Outcome:
        """Send the request once and say what came back; a cancellation closes the connection at once."""
        return await self.stream(request, timeouts=timeouts, key=key).drained()

    def stream(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> OllamaStream:
        """Begin one attempt; nothing is sent before the first piece is asked for."""
        return OllamaStream(self, request, timeouts, key)

    async def aclose(self) -> None:
        """Close the connections of this session, whoever uses them; the next attempt opens new ones."""
        await self.pools.aclose()

    async def describe(self, timeouts: Timeouts, limit: float | None) -> ServerDescription:
        """Return what the server says of itself, each part for itself within `limit` seconds."""
        return await self._inquiry.describe(timeouts, limit)

    async def warm_up(self, model: str | None, timeouts: Timeouts, limit: float | None) -> WarmUp | AttemptFailure:
        """Load a model with these options, and say how that went; `None` means the one that a call would ask."""
        try:
            name = await self.model_for(model, timeouts)
        except Failed as failed:
            return failed.failure
        before = await self._inquiry.loaded(name, _LISTING_PATIENCE)
        if not isinstance(before, AttemptFailure):
            await self.reloads.compare(name, before[1])
        target = self.target
        body = load_body(model=name, options=target.options, keep_alive=target.keep_alive)
        took = await self._inquiry.load(name, body, timeouts, limit)
        if isinstance(took, AttemptFailure):
            return await self.explained(took, name)
        after = await self._inquiry.loaded(name, _LISTING_PATIENCE)
        return WarmUp(
            model=name,
            latency=took,
            was_loaded=None if isinstance(before, AttemptFailure) else before[0],
            loaded=None if isinstance(after, AttemptFailure) else after[1],
        )

    async def model_for(self, wanted: str | None, timeouts: Timeouts) -> str:
        """Return the model to ask: the one wanted, the backend's, or the first one installed (looked up once)."""
        return wanted or self.target.model or await self._default_model.name(timeouts)

    async def explained(self, failure: AttemptFailure, model: str) -> AttemptFailure:
        """Return a failure, with the installed models in its message where the model asked for is not one of them."""
        if failure.reason is not FailureReason.MODEL_NOT_FOUND or not model:
            return failure
        self._default_model.forget(model)
        models = await self._inquiry.installed(_LISTING_PATIENCE)
        if isinstance(models, AttemptFailure):
            return failure
        where = Where(OLLAMA, self.target.base_url, model)
        return failure._replace(message=no_such_model(where, [one.name for one in models]))

    def __repr__(self) -> str:
        return f"OllamaSession({self.target.base_url!r})"


class OllamaStream(HTTPStream):
    """One attempt at an Ollama server."""

    def __init__(self, session: OllamaSession, request: LLMRequest, timeouts: Timeouts, key: AttemptKey) -> None:
        lines = LineReader()
        super().__init__(session.pools, Where(OLLAMA, session.target.base_url), lines, request, timeouts)
        self._lines = lines
        self._session = session
        self._key = key

    async def _begin(self) -> None:
        try:
            await super()._begin()
        except Failed as failed:
            await self._disconnect()
            raise Failed(await self._session.explained(failed.failure, self._where.model)) from None

    async def _end(self) -> None:
        await super()._end()
        now = asyncio.get_running_loop().time()
        self._session.reloads.answered(self._where.model, self._began, now, self._lines.last or {})

    async def _to_send(self) -> Post:
        target = self._session.target
        endpoint = self._endpoint()
        model = await self._session.model_for(self._request.model, self._timeouts)
        await self._session.reloads.before(model)
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
        return failure_of_answer(status, headers, body, self._where, private=self._private())

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
