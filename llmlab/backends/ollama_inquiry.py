"""What is asked of an Ollama server beside attempts: which models it has, what is loaded, and to load one.

Each question is one request without retries, and each answer a value: what was asked for, or an `AttemptFailure`. What
the listings hold is in `ollama_description.py`; who asks during attempts is `ollama_session.py`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from llmlab.backends.http_answers import ProtocolBreach, ReportedError
from llmlab.backends.http_failures import Where, malformed
from llmlab.backends.http_stream import looked_up
from llmlab.backends.http_transport import HEADERS
from llmlab.backends.ollama_description import (
    InstalledModel,
    LoadedModel,
    ServerDescription,
    read_installed,
    read_loaded,
    read_slots,
    read_version,
    tagged,
)
from llmlab.backends.ollama_failures import OLLAMA, failure_of_answer, failure_of_error, no_model_installed, read_error
from llmlab.backends.ollama_protocol import LineReader
from llmlab.core.backend import AttemptFailure
from llmlab.core.vocabulary import FailureReason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import httpx

    from llmlab.backends.http_pools import Pools
    from llmlab.core.backend import Timeouts

T = TypeVar("T")

_HEADERS = {**HEADERS, "accept": "application/json"}
_LONGEST = 4 * 1024 * 1024  # bytes of a listing: thousands of models


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """A model that was made ready: it is in the server's memory now.

    Attributes:
        model: its name.
        latency: seconds until the server said so, its own queue included.
        was_loaded: whether it was in memory before; `None` if the server did not say.
        loaded: how it lies in memory now; `None` if the server did not say.
    """

    model: str
    latency: float
    was_loaded: bool | None = None
    loaded: LoadedModel | None = None

    @property
    def ok(self) -> Literal[True]:
        """True: the model is loaded."""
        return True

    def unwrap(self) -> WarmUp:
        """Return this; a failure raises here instead."""
        return self


class Inquiry:
    """Asks one server on one event loop."""

    def __init__(self, pools: Pools, base_url: str) -> None:
        self._pools = pools
        self._url = base_url

    async def installed(self, timeouts: Timeouts) -> tuple[InstalledModel, ...] | AttemptFailure:
        """Return the models on the server's disk."""
        return await self._asked("/api/tags", read_installed, timeouts)

    async def first_installed(self, timeouts: Timeouts) -> str | AttemptFailure:
        """Return the name of the model changed last among those that write text."""
        models = await self.installed(timeouts)
        if isinstance(models, AttemptFailure):
            return models
        writers = (model.name for model in models if model.writes_text)
        return next(writers, None) or no_model_installed(Where(OLLAMA, self._url))

    async def loaded(self, model: str, timeouts: Timeouts) -> tuple[bool, LoadedModel | None] | AttemptFailure:
        """Return whether a model is in the server's memory, and how."""
        found = await self._asked("/api/ps", read_loaded, timeouts)
        if isinstance(found, AttemptFailure):
            return found
        one = next((one for one in found if one.name == tagged(model)), None)
        return one is not None, one

    async def load(self, model: str, body: bytes, timeouts: Timeouts, limit: float | None) -> float | AttemptFailure:
        """Load a model; return how many seconds that took.

        Args:
            model: its name.
            body: what to post to `/api/generate`.
            timeouts: of these only `connect` and `pool` hold: to load a model is what other attempts' `first_byte`
                may be too short for.
            limit: seconds for the whole of it, or `None`.
        """
        where = Where(OLLAMA, self._url, model, "/api/generate")
        loop = asyncio.get_running_loop()
        began = loop.time()
        patient = timeouts.replace(first_byte=None)
        asked = self._within(limit, where, self._asked(where.path, _check_loaded, patient, body=body, model=model))
        answered = await asked
        return answered if isinstance(answered, AttemptFailure) else loop.time() - began

    async def describe(self, timeouts: Timeouts, limit: float | None) -> ServerDescription:
        """Return what the server says of itself, each part for itself within `limit` seconds."""

        def ask(path: str, read: Callable[[bytes], T]) -> Awaitable[T | AttemptFailure]:
            return self._within(limit, Where(OLLAMA, self._url, path=path), self._asked(path, read, timeouts))

        version, models, loaded, slots = await asyncio.gather(
            ask("/api/version", read_version),
            ask("/api/tags", read_installed),
            ask("/api/ps", read_loaded),
            ask("/props", read_slots),
        )
        failed = [answer.message for answer in (version, models, loaded) if isinstance(answer, AttemptFailure)]
        return ServerDescription(
            base_url=self._url,
            version=_known(version),
            models=_known(models),
            loaded=_known(loaded),
            slots=_known(slots),
            problems=tuple(dict.fromkeys(failed)),
        )

    async def _asked(
        self,
        path: str,
        read: Callable[[bytes], T],
        timeouts: Timeouts,
        *,
        body: bytes | None = None,
        model: str = "",
    ) -> T | AttemptFailure:
        where = Where(OLLAMA, self._url, model, path)

        def refused(status: int, headers: httpx.Headers, said: bytes | None) -> AttemptFailure:
            return failure_of_answer(status, headers, said, where)

        answer = await looked_up(
            self._pools, where, timeouts, headers=_HEADERS, longest=_LONGEST, refused=refused, body=body
        )
        if isinstance(answer, AttemptFailure):
            return answer
        try:
            return read(answer)
        except ProtocolBreach as breach:
            return malformed(f"{where}: {breach}", 200)
        except ReportedError as reported:
            return failure_of_error(200, read_error(reported.error), where)

    @staticmethod
    async def _within(limit: float | None, where: Where, asked: Awaitable[T | AttemptFailure]) -> T | AttemptFailure:
        try:
            async with asyncio.timeout(limit):
                return await asked
        except TimeoutError:
            message = f"{where} gave no complete answer to {where.path} within {limit:g} s"
            return AttemptFailure(FailureReason.ATTEMPT_TIMEOUT, message)


def _check_loaded(body: bytes) -> None:
    """Read the answer to an empty prompt: a single line, but some servers stream it all the same."""
    lines = LineReader()
    lines.feed(body)
    lines.finish()


def _known(answer: T | AttemptFailure) -> T | None:
    return None if isinstance(answer, AttemptFailure) else answer
