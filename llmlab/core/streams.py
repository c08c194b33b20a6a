"""Answers in pieces: what lies between a backend that streams and a caller who reads.

A streamed call is the same call as any other (`flow.py`, `stream_flow.py`) in a task of its own. Its text goes through
a `Handover`, which the call fills as text arrives and the caller empties when it likes: so a slow reader slows nothing
down, holds no slot longer, and is never taken for a server that stalls. The text is kept whole anyway, for the result.
Look at `text_stream.py` for what the caller holds in hand.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from llmlab.core.backend import Answer

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from collections.abc import AsyncGenerator

    from llmlab.core.backend import AttemptKey, AttemptStream, Backend, Outcome, Timeouts
    from llmlab.core.ledger import Ledger
    from llmlab.core.messages import LLMRequest

    Steps = AsyncGenerator[str | Outcome, None]


class BeginsStream(Protocol):
    """How an attempt is begun whose text comes in pieces."""

    def __call__(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> AttemptStream:
        """Begin one attempt; nothing is sent before the first piece is asked for."""
        ...


class StreamedAttempt:
    """An `AttemptStream` from an async generator, which yields pieces of text and, last, the outcome.

    async def steps():
        yield "Hello, "
        yield "world!"
        yield Answer("Hello, world!")
    """

    outcome: Outcome

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def __aiter__(self) -> StreamedAttempt:
        """Iterate over the pieces of text in order of arrival."""
        return self

    async def __anext__(self) -> str:
        try:
            step = await anext(self._steps)
        except StopAsyncIteration:
            if hasattr(self, "outcome"):
                raise
            raise TypeError(
                "a stream must yield an Answer or an AttemptFailure last; this one has ended without"
            ) from None
        if isinstance(step, str):
            return step
        self.outcome = step
        await self._steps.aclose()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the attempt and close its connection; does nothing after the end."""
        await self._steps.aclose()


def streaming(backend: Backend) -> BeginsStream:
    """Return how this backend streams an attempt; of one that cannot, the whole text comes as one piece.

    An inherited `stream` passes over an `attempt` that a class has of its own, so it does not count.
    """
    for kind in type(backend).__mro__:
        if callable(vars(kind).get("stream")):
            stream: BeginsStream = backend.stream  # type: ignore[attr-defined]
            return stream
        if "attempt" in vars(kind):
            break
    return lambda request, *, timeouts, key: StreamedAttempt(_whole(backend, request, timeouts, key))


async def _whole(backend: Backend, request: LLMRequest, timeouts: Timeouts, key: AttemptKey) -> Steps:
    outcome = await backend.attempt(request, timeouts=timeouts, key=key)
    if isinstance(outcome, Answer):
        yield outcome.text
    yield outcome


class Handover:
    """The text of one call on its way to the caller: what has arrived, and what was taken.

    Invariant: what was taken is of one attempt, because text is retracted only where none was taken, and no attempt
    begins after some was.
    """

    __slots__ = ("_arrived", "_loop", "_reader", "ledger", "over", "taken")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._arrived: deque[str] = deque()
        self._reader: Future[None] | None = None
        self.taken: list[str] = []
        self.ledger: Ledger | None = None
        """The call's accounts, once it has ended."""
        self.over = False
        """Whether nothing more arrives."""

    def put(self, piece: str) -> None:
        """Add a piece that has arrived."""
        if piece:
            self._arrived.append(piece)
            self._wake()

    def retract(self) -> None:
        """Drop what has arrived of an attempt that failed before any of it was taken."""
        if not self.taken:
            self._arrived.clear()

    def end(self) -> None:
        """Nothing more arrives."""
        self.over = True
        self._wake()

    async def take(self) -> str | None:
        """Wait for the next piece and take it; `None` where nothing more arrives.

        Raises:
            RuntimeError: another task waits for the next piece already.
        """
        while not self._arrived:
            if self.over:
                return None
            if self._reader is not None:
                raise RuntimeError("another task is reading this stream; a stream has one reader")
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        piece = self._arrived.popleft()
        self.taken.append(piece)
        return piece

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
