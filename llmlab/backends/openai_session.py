"""Talking to an OpenAI-compatible server on one event loop: what is sent, and what its answers mean.

How an attempt goes is in `http_stream.py`, what is said in `openai_request.py` and `openai_protocol.py`, what failures
mean in `openai_failures.py`. The key stands in a `SecretStr` and the headers of requests under way, and nowhere else.
"""

from __future__ import annotations

import asyncio
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmlab.backends.http_answers import ProtocolBreach
from llmlab.backends.http_failures import Where, malformed
from llmlab.backends.http_pools import Pools
from llmlab.backends.http_question import DefaultModel
from llmlab.backends.http_stream import HTTPStream, Post, looked_up
from llmlab.backends.http_transport import HEADERS, content_type
from llmlab.backends.openai_failures import (
    SERVER,
    failure_of_answer,
    failure_of_error,
    read_error,
    refuses_usage,
    without_usage,
)
from llmlab.backends.openai_protocol import StreamReader, WholeReader, models_of
from llmlab.backends.openai_request import request_body
from llmlab.core.backend import ATTEMPT_HEADER, AttemptFailure, attempt_header
from llmlab.core.vocabulary import FailureReason

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx
    from pydantic import SecretStr

    from llmlab.core.backend import AttemptKey, Outcome, Timeouts
    from llmlab.core.messages import LLMRequest

_LONGEST_LISTING = 4 * 1024 * 1024  # bytes of /models: thousands of models
_LISTED = 40  # names in a message


class _Unshown(str):
    """A text whose repr does not show it, for those who print the variables of a stack."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<hidden>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a session talks to, and how: the backend's settings with everything resolved."""

    base_url: str
    key: SecretStr | None
    key_env: str | None
    organization: str | None
    model: str | None
    options: dict[str, Any]
    max_tokens_field: str
    include_usage: bool
    strict_end: bool
    strict_schema: bool

    def headers(self) -> dict[str, str]:
        """Return what every request is sent with."""
        headers = {**HEADERS, "accept": "text/event-stream, application/json"}
        if self.key is not None:
            headers["authorization"] = _Unshown(f"Bearer {self.key.get_secret_value()}")
        if self.organization is not None:
            headers["openai-organization"] = self.organization
        return headers

    def secrets(self) -> list[str]:
        """Return what no message may repeat."""
        return [] if self.key is None else [self.key.get_secret_value()]


class OpenAISession:
    """Answers attempts on one event loop, over connections of its own or those of a client that was passed in."""

    def __init__(self, target: Target, http_client: httpx.AsyncClient | None = None) -> None:
        self.target = target
        self.pools = Pools(target.base_url, http_client)
        weakref.finalize(self, self.pools.close_later, asyncio.get_running_loop()).atexit = False
        self.include_usage = target.include_usage
        self.default_model = DefaultModel(self._only_model)

    async def attempt(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> Outcome:
        """Send the request once and say what came back; a cancellation closes the connection at once."""
        return await self.stream(request, timeouts=timeouts, key=key).drained()

    def stream(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> OpenAIStream:
        """Begin one attempt; nothing is sent before the first piece is asked for."""
        return OpenAIStream(self, request, timeouts, key)

    async def aclose(self) -> None:
        """Close the connections of this session, whoever uses them; the next attempt opens new ones."""
        await self.pools.aclose()

    async def _only_model(self, timeouts: Timeouts) -> str | AttemptFailure:
        target = self.target
        where = Where(SERVER, target.base_url, path="/models")

        def refused(status: int, headers: httpx.Headers, body: bytes | None) -> AttemptFailure:
            return failure_of_answer(status, headers, body, where, key_env=target.key_env, private=target.secrets())

        body = await looked_up(
            self.pools, where, timeouts, headers=target.headers(), longest=_LONGEST_LISTING, refused=refused
        )
        if isinstance(body, AttemptFailure):
            return body
        try:
            names = models_of(body)
        except ProtocolBreach as breach:
            return malformed(f"{where}: {breach}", 200)
        if len(names) == 1:
            return names[0]
        return AttemptFailure(FailureReason.MODEL_NOT_FOUND, _which(names, where), status_code=200)

    def __repr__(self) -> str:
        return f"OpenAISession({self.target.base_url!r})"


def _which(names: list[str], where: Where) -> str:
    if not names:
        return f"{where} serves no model"
    more = f", and {len(names) - _LISTED} more at {where.url}{where.path}" if len(names) > _LISTED else ""
    return f"{where} serves {len(names)} models; say which with model=...: {', '.join(names[:_LISTED])}{more}"


class OpenAIStream(HTTPStream):
    """One attempt at an OpenAI-compatible server."""

    def __init__(self, session: OpenAISession, request: LLMRequest, timeouts: Timeouts, key: AttemptKey) -> None:
        target = session.target
        reader = StreamReader(strict_end=target.strict_end)
        super().__init__(session.pools, Where(SERVER, target.base_url), reader, request, timeouts)
        self._session = session
        self._target = target
        self._key = key

    async def _to_send(self) -> Post:
        target, session = self._target, self._session
        model = self._request.model or target.model or await session.default_model.name(self._timeouts)
        body = request_body(
            self._request,
            model=model,
            options=target.options,
            max_tokens_field=target.max_tokens_field,
            strict_schema=target.strict_schema,
            include_usage=session.include_usage,
        )
        where = Where(SERVER, target.base_url, model, "/chat/completions")
        return Post(where, body, {**target.headers(), ATTEMPT_HEADER: attempt_header(self._key)})

    def _check(self, response: httpx.Response) -> None:
        kind = content_type(response)
        if kind == "application/json":
            self._reader = WholeReader()
        elif kind not in {"text/event-stream", ""}:
            said = f"the content type is '{kind[:60]}', not text/event-stream"
            raise ProtocolBreach(f"{said}; does base_url lead to an OpenAI-compatible server?")

    def _refused(self, status: int, headers: httpx.Headers, body: bytes | None) -> AttemptFailure:
        failure = failure_of_answer(
            status, headers, body, self._where, key_env=self._target.key_env, private=self._private()
        )
        if failure.reason is FailureReason.MODEL_NOT_FOUND:
            self._session.default_model.forget(self._where.model)
        elif self._session.include_usage and refuses_usage(status, body):
            self._session.include_usage = False
            return without_usage(failure)
        return failure

    def _reported(self, error: object) -> AttemptFailure:
        return failure_of_error(
            200, read_error(error), self._where, key_env=self._target.key_env, private=self._private()
        )

    def _private(self) -> Iterator[str]:
        yield from super()._private()
        yield from self._target.secrets()
