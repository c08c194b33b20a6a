"""What a backend is: the thing that one attempt is sent to.

A backend classifies and never decides: it sends one request once and says what came back, as an `Answer` or an
`AttemptFailure`. Retrying, waiting and timing out whole attempts is the flow's work (`flow.py`). The smallest backend:

    class Echo:
        async def attempt(self, request, *, timeouts, key):
            return Answer(f"You said: {request.prompt}")

    Client(Echo()).generate("Hello")

A backend that keeps something per event loop (connections, a simulated server) offers `session()` as well; one whose
answers arrive in pieces offers `stream()` (`StreamingBackend`; `streams.py` makes it from an async generator); one that
makes calls of its own, with events of their own, offers `observed_by()` (`LayeredBackend`); one that knows beforehand
how an attempt will end offers `begin()` (`ForeseeingBackend`). A backend that only ever waits by the event loop's
clock, and never for the outside world, says `simulated = True`; then the sync client runs it under virtual time.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from pydantic import Field

from llmlab.core.display import laid_out
from llmlab.core.hidden import hidden
from llmlab.core.messages import Usage
from llmlab.core.settings import Settings, nearest
from llmlab.core.vocabulary import RETRYABLE, FailureReason, FinishReason

if TYPE_CHECKING:
    from asyncio import Future, TimerHandle
    from collections.abc import AsyncIterator, Sequence

    from llmlab.core.events import Observer
    from llmlab.core.messages import LLMRequest


class AttemptKey(NamedTuple):
    """Which attempt this is, for keyed draws (`chance.py`) and for correlation.

    `call` is the call's number, from 0; `attempt` counts from 1. In a client that is another client's backend, `call`
    is a 63-bit number derived from the outer key, so that no two outer attempts share draws.
    """

    call: int
    attempt: int


ATTEMPT_HEADER = "x-llmlab-attempt"
"""The HTTP header in which a client says which attempt a request is: `CALL.ATTEMPT`, two decimal numbers."""


def attempt_header(key: AttemptKey) -> str:
    """Return the header's value for an attempt."""
    return f"{key.call}.{key.attempt}"


def parse_attempt_header(value: str) -> AttemptKey | None:
    """Return the attempt that a header's value names, or `None` where it names none."""
    match = _ATTEMPT.fullmatch(value)
    return None if match is None else AttemptKey(int(match[1]), int(match[2]))


_ATTEMPT = re.compile(r"(\d{1,19})\.([1-9]\d{0,8})", re.ASCII)


class Timeouts(Settings):
    """How long the phases of one attempt may take, in seconds; `None` means no bound of its own.

    The whole attempt is bounded by `ClientPolicy.attempt_timeout` whatever stands here. Only a backend sees the
    phases, so it holds these bounds and reports a breach as `attempt_timeout`, naming the phase (`connection_failed`
    for `connect`).
    """

    connect: float | None = Field(default=5.0, gt=0, description="until the connection stands")
    pool: float | None = Field(default=None, gt=0, description="until the connection pool has a connection free")
    first_byte: float | None = Field(
        default=None,
        gt=0,
        description="from the request sent to the answer's first byte; includes the server's own queue",
    )
    between_chunks: float | None = Field(default=30.0, gt=0, description="between two pieces of a streamed answer")


class Answer(NamedTuple):
    """What an attempt brought: a text that kept the protocol. Whether it is usable is for `checks.py` to say.

    `time_to_first_token` is in seconds from the start of the attempt, `None` if unknown.
    """

    text: str
    model: str = ""
    usage: Usage = Usage()
    finish_reason: FinishReason = FinishReason.STOP
    time_to_first_token: float | None = None

    def __repr__(self) -> str:
        given = self._asdict().items()
        return laid_out("Answer", [(name, hidden(value) if name == "text" else value) for name, value in given])


class AttemptFailure(NamedTuple):
    """What an attempt met instead of an answer.

    `message` says what happened and what to do, without prompt or output. `retry_after` is the wait asked for by the
    server, in seconds. `retryable` overrides what the vocabulary says of the reason, where the server said so itself.
    """

    reason: FailureReason
    message: str
    status_code: int | None = None
    retry_after: float | None = None
    cause: BaseException | None = None
    retryable: bool | None = None

    @property
    def is_retryable(self) -> bool:
        """Whether the same request may succeed later: the server's word, else the vocabulary's."""
        return self.reason in RETRYABLE if self.retryable is None else self.retryable


Outcome = Answer | AttemptFailure
"""What one attempt ends with."""


def in_our_words(failure: AttemptFailure, backend: str) -> AttemptFailure:
    """Return a failure whose reason is one of the vocabulary: a backend of one's own may give it as a plain text.

    Raises:
        TypeError: it is no reason; a misspelt one would not be retried, without a word.
    """
    given: object = failure.reason
    if isinstance(given, FailureReason):
        return failure
    valid = [str(reason) for reason in FailureReason]
    if given not in valid:
        raise TypeError(f"backend '{backend}' gave the reason {given!r}, which is none; {nearest(str(given), valid)}")
    return failure._replace(reason=FailureReason(str(given)))


class Backend(Protocol):
    """Anything that answers one attempt. It raises nothing for an expected failure; what it raises is a bug."""

    async def attempt(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> Outcome:
        """Send the request once and say what came back.

        On `asyncio.CancelledError` (the attempt timed out, or the caller cancelled) close the connection and let it
        pass.
        """
        ...


def no_backend(given: object) -> str | None:
    """Return why this cannot serve as a backend, or `None` where it can."""
    if isinstance(given, type):
        return f"needs an object and not the class {given.__name__}; write {given.__name__}(...)"
    if not callable(getattr(given, "attempt", None)):
        client = callable(getattr(given, "generate", None)) and hasattr(given, "backend")
        hint = "; it is a client: give its `backend`, or a `Layer` with its policy" if client else ""
        return f"needs a method `async def attempt(...)`; a {type(given).__name__} has none{hint}"
    return None


@runtime_checkable
class SessionBackend(Protocol):
    """A backend that keeps something per event loop."""

    def session(self) -> Backend:
        """Return what answers attempts on the running event loop; the same object for the same loop.

        It may have an `async def aclose(self) -> None`, called when the client is closed.
        """
        ...


def session_of(backend: Backend) -> Backend:
    """Return what answers a backend's attempts on the running event loop: its session, or where it has none itself.

    Only a method `session` of its class counts: an attribute of this name may be anything, such as a library's session.

    Raises:
        TypeError: its class has an `attempt` of its own, but inherits the `session` that would be asked instead.
    """
    kinds = type(backend).__mro__
    sessions = next((kind for kind in kinds if callable(vars(kind).get("session"))), None)
    if sessions is None:
        return backend
    attempts = next((kind for kind in kinds if "attempt" in vars(kind)), sessions)
    if attempts is not sessions and issubclass(attempts, sessions):
        base = kinds[kinds.index(attempts) + 1].__name__
        raise TypeError(
            f"{attempts.__name__} has an `attempt` of its own, but inherits `session` from {base}, which is asked "
            f"instead; add `def session(self): return self` to it, or put it around a {base} instead of deriving it"
        )
    session: Backend = backend.session()  # type: ignore[attr-defined]
    return session


class ForeseeingBackend(Protocol):
    """A backend that knows at an attempt's beginning what will come of it and when, as a simulation may.

    Its attempts need no coroutine and no cancelling, which makes a simulation a good deal faster.
    """

    def begin(
        self, request: LLMRequest, timeouts: Timeouts, key: AttemptKey, limit: float
    ) -> tuple[Future[Outcome], TimerHandle | None]:
        """Begin one attempt; return the future of its outcome and the timer that will set it, to be cancelled with it.

        The future is set at `limit` at the latest, a time on the running event loop's clock which may be `inf`. What it
        is set to at the limit does not matter: that is too late.
        """
        ...


@runtime_checkable
class LayeredBackend(Protocol):
    """A backend whose attempts are calls of clients inside it: layers, with events of their own."""

    def observed_by(self, observers: Sequence[Observer], above: Sequence[str]) -> Backend:
        """Return this backend with its layers' events handed to these observers too; limits stay shared with it.

        Args:
            observers: those of the client outside, which see everything below it. The sequence always holds those of
                now: hand it on, or read it at each event; a copy of it would miss who comes later.
            above: the names of the layers outside; a layer of such a name gets a number, so that events can be told
                apart.
        """
        ...


class AttemptStream(Protocol):
    """One attempt whose text arrives in pieces. `outcome` exists when the iteration has ended.

    Closing it early (`aclose`) closes the connection.
    """

    outcome: Outcome

    def __aiter__(self) -> AsyncIterator[str]:
        """Iterate over the pieces of text in order of arrival."""
        ...

    async def aclose(self) -> None:
        """End the attempt and close its connection; does nothing after the end."""
        ...


@runtime_checkable
class StreamingBackend(Protocol):
    """A backend that can hand over an answer piece by piece."""

    def stream(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> AttemptStream:
        """Begin one attempt; nothing is sent before the first piece is asked for."""
        ...
