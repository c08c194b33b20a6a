"""What every backend that talks HTTP has beside its settings: sessions, one for each event loop.

The settings are in `ollama.py` and its likes, the sessions in `ollama_session.py` and its likes.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, Self, TypeVar

from pydantic import PrivateAttr

from llmlab.backends.http_sessions import Sessions
from llmlab.core.settings import Settings

if TYPE_CHECKING:
    from llmlab.backends.http_stream import HTTPStream
    from llmlab.core.backend import AttemptKey, Outcome, Timeouts
    from llmlab.core.messages import LLMRequest


class HTTPSession(Protocol):
    """What answers attempts on one event loop."""

    async def attempt(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> Outcome:
        """Send the request once and say what came back."""
        ...

    def stream(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> HTTPStream:
        """Begin one attempt."""
        ...


S = TypeVar("S", bound=HTTPSession)


class HTTPBackend(Settings, Generic[S]):
    """A server reached by HTTP, over connections that belong to the event loop they were opened on."""

    simulated: ClassVar[bool] = False

    _sessions: Sessions[S] = PrivateAttr(default_factory=Sessions)

    def session(self) -> S:
        """Return what answers attempts on the running event loop; the same object for the same loop.

        Raises:
            RuntimeError: no event loop is running.
            SettingsError: what the environment says cannot be used.
        """
        return self._sessions.of_running_loop(self.new_session)

    async def attempt(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> Outcome:
        """Send the request once and say what came back; a cancellation closes the connection at once."""
        return await self.session().attempt(request, timeouts=timeouts, key=key)

    def stream(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> HTTPStream:
        """Begin one attempt; nothing is sent before the first piece is asked for."""
        return self.session().stream(request, timeouts=timeouts, key=key)

    @abstractmethod
    def new_session(self) -> S:
        """Return a session that nobody else uses."""

    def __copy__(self) -> Self:
        copied = super().__copy__()
        copied._sessions = Sessions()  # not shared: the copy's settings may be about to change
        return copied


def refuse_no_json(options: dict[str, object]) -> None:
    """Refuse options that no body can hold.

    Raises:
        ValueError: they are not what JSON can hold.
    """
    try:
        json.dumps(options, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"options must be what JSON can hold: {error}") from None
