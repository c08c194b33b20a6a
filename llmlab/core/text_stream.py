"""What a caller holds of a streamed call: pieces of text to iterate over, and then the result.

`AsyncLLMStream` is the one implementation, `LLMStream` its synchronous face, as `Client` is that of `AsyncClient`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from asyncio import CancelledError, sleep
from typing import TYPE_CHECKING

from llmlab.core.stream_flow import ended
from llmlab.core.vocabulary import Fate

if TYPE_CHECKING:
    from asyncio import Task
    from collections.abc import Callable, Coroutine
    from types import TracebackType
    from typing import Any, Self

    from llmlab.core.messages import LLMFailure, LLMResponse
    from llmlab.core.stream_flow import StreamedCall


class AsyncLLMStream:
    """A streamed call: iterate over its text, then look at its `result`.

        async with llm.stream("Tell me a story") as stream:
            async for piece in stream:
                print(piece, end="")
        print(stream.result.ok)

    The call begins with the `async with`, or with the first piece asked for. Leaving the block, `aclose()`, or
    cancelling the wait for a piece ends a call that is under way: its connection is closed, its slot is free, and it is
    recorded as cancelled. A plain `async for` to the end needs no block; one that is left early and dropped is ended by
    the garbage collector, with a `ResourceWarning`.
    """

    def __init__(self, begin: Callable[[], StreamedCall]) -> None:
        self._begin = begin
        self._call: StreamedCall | None = None
        self._over = False

    @property
    def text(self) -> str:
        """The text handed out so far."""
        return "" if self._call is None else "".join(self._call.handover.taken)

    @property
    def result(self) -> LLMResponse | LLMFailure:
        """What came of the call, once the iteration has ended or the stream was closed.

        A failure's `partial_text` is what had been handed out. A call that was left before its end has the reason
        `cancelled`; one that was complete by then is answered.

        Raises:
            RuntimeError: the stream is still open, was closed before it began, or the backend raised an exception.
        """
        if not self._over:
            raise RuntimeError("the stream has no result before its end; iterate over it to the end, or close it")
        ledger = None if self._call is None else self._call.handover.ledger
        if self._call is None or ledger is None:
            raise RuntimeError("the stream has no result: it was closed before it began")
        if ledger.fate is Fate.CRASHED:
            bug = self._call.task.exception()
            raise RuntimeError("the stream has no result: the backend raised an exception") from bug
        result = ledger.result()
        return result if result.ok else dataclasses.replace(result, partial_text=self.text)

    @property
    def is_under_way(self) -> bool:
        """Whether there is a call that has not ended."""
        return self._call is not None and not self._call.task.done()

    async def next_piece(self) -> str | None:
        """Wait for the next piece of text; `None` at the end."""
        if self._over:
            return None
        call = self._begun()
        try:
            piece = await call.handover.take()
        except CancelledError:
            await self.aclose()
            raise
        if piece is None:
            self._over = True
            _raise_bug_of(call.task)
        return piece

    async def begin(self) -> None:
        """Begin the call, if it has not begun."""
        if not self._over and self._call is None:
            self._begun()
            try:
                await sleep(0)  # the call's task has its first turn: from here on there is a call, and it is recorded
            except CancelledError:
                await self.aclose()
                raise

    async def aclose(self) -> None:
        """End the stream; of a call that is under way close the connection and record it as cancelled.

        Raises:
            Exception: what the backend raised, where nobody has met it yet.
        """
        task = self.leave()
        if task is not None:
            await ended(task)
            _raise_bug_of(task)

    def leave(self) -> Task[Any] | None:
        """Take no more pieces; return the task of a call that is still under way and has to be ended.

        Raises:
            Exception: what the backend raised, where nobody has met it yet.
        """
        over, self._over = self._over, True
        if over or self._call is None:
            return None
        if self._call.task.done():
            _raise_bug_of(self._call.task)
            return None
        return self._call.task

    def __aiter__(self) -> Self:
        """Iterate over the pieces of text in order of arrival."""
        return self

    async def __anext__(self) -> str:
        piece = await self.next_piece()
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def __aenter__(self) -> Self:
        await self.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _begun(self) -> StreamedCall:
        if self._call is None:
            self._call = self._begin()
        return self._call

    def __del__(self) -> None:
        task = None if self._over or self._call is None else self._call.task
        if task is not None and not task.done():
            warnings.warn(
                f"{self!r} was dropped before its end; use it in a `with` block (`async with` in async code)",
                ResourceWarning,
                stacklevel=1,
                source=self,
            )
            with contextlib.suppress(RuntimeError):  # the loop is closed, and has ended its tasks
                task.get_loop().call_soon_threadsafe(task.cancel)

    def __repr__(self) -> str:
        state = "closed" if self._over else "not begun" if self._call is None else "open"
        return f"<{type(self).__name__} {state}, {len(self.text)} characters handed out>"


class LLMStream:
    """A streamed call: iterate over its text, then look at its `result`.

    The call begins with the `with`, or with the first piece asked for; see `AsyncLLMStream`. On a real backend it goes
    on while you do something else; on a simulated one its time passes only while you wait for a piece, or call the same
    client. Ctrl-C while waiting ends the call.
    """

    def __init__(self, stream: AsyncLLMStream, run: Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any]) -> None:
        self._stream = stream
        self._run = run

    @property
    def text(self) -> str:
        """The text handed out so far."""
        return self._stream.text

    @property
    def result(self) -> LLMResponse | LLMFailure:
        """What came of the call, once the iteration has ended or the stream was closed; see `AsyncLLMStream.result`."""
        return self._stream.result

    def close(self) -> None:
        """End the stream; of a call that is under way close the connection and record it as cancelled."""
        if self._stream.is_under_way:
            self._run(self._stream.aclose)
        else:  # which needs no event loop, and may come after the client was closed
            self._stream.leave()

    def __iter__(self) -> Self:
        """Iterate over the pieces of text in order of arrival."""
        return self

    def __next__(self) -> str:
        piece: str | None = self._run(self._stream.next_piece)
        if piece is None:
            raise StopIteration
        return piece

    def __enter__(self) -> Self:
        self._run(self._stream.begin)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._stream).replace("AsyncLLMStream", "LLMStream", 1)


def _raise_bug_of(task: Task[Any]) -> None:
    if not task.cancelled():
        task.result()
