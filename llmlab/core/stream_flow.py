"""THE call, streamed: the same flow, with its text handed over as it arrives.

Each streamed call runs in a task of its own, so that its deadlines hold and its slot is given back whatever the reader
does. Two things differ from `flow.py`, and nothing else: an attempt is read piece by piece, and a failure ends the call
once text was taken, because a second attempt would tell another story. A stream is not hedged: two attempts cannot
both be read out.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from llmlab.core.events import NAN
from llmlab.core.flow import Flow
from llmlab.core.streams import Handover, streaming
from llmlab.core.timers import this_task
from llmlab.core.vocabulary import Fate

if TYPE_CHECKING:
    from asyncio import Task
    from collections.abc import Callable

    from llmlab.core.backend import AttemptFailure, AttemptKey, Outcome, Timeouts
    from llmlab.core.ledger import Ledger
    from llmlab.core.messages import LLMRequest


class StreamedCall(NamedTuple):
    """A streamed call under way: the task that makes it, and where its text arrives."""

    task: Task[Ledger]
    handover: Handover


class StreamFlow(Flow):
    """The streamed calls of one client on one event loop."""

    hedges = False

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self._begin = None  # what a backend foresees of a whole attempt is not asked
        self._send = self._relay
        self._stream = streaming(self.backend)
        self._handovers: dict[Task[Any], Handover] = {}

    def begin(
        self, request: LLMRequest, number: Callable[[], int], *, parent: AttemptKey | None = None
    ) -> StreamedCall:
        """Begin a call in a task of its own; it gets its number when that task has its first turn."""

        async def make() -> Ledger:
            return await self.call(request, number(), parent=parent)

        task = self.loop.create_task(make(), name="llmlab stream")
        task._log_destroy_pending = False  # type: ignore[attr-defined] # who drops a stream is warned of that
        handover = self._handovers[task] = Handover(self.loop)
        task.add_done_callback(self._ended)
        return StreamedCall(task, handover)

    def _ended(self, task: Task[Any]) -> None:
        self._handovers.pop(task).end()

    @property
    def _handover(self) -> Handover:
        return self._handovers[this_task(self.loop)]

    async def _relay(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> Outcome:
        """Make one attempt and hand its text over as it arrives."""
        handover = self._handover
        stream = self._stream(request, timeouts=timeouts, key=key)
        try:
            async for piece in stream:
                handover.put(piece)
        except GeneratorExit:  # the loop is gone: nothing can be awaited any more
            raise
        except BaseException:
            await stream.aclose()
            raise
        return stream.outcome

    def what_next(self, ledger: Ledger, failure: AttemptFailure | None) -> float:
        """Return the wait before the next attempt, or set the call's fate: there is no other once text was taken."""
        if failure is None:
            return super().what_next(ledger, None)
        handover = self._handover
        handover.retract()
        if not handover.taken or ledger.now >= ledger.deadline:
            return super().what_next(ledger, failure)
        ledger.backoff_source = None
        said = f"{failure.message}; not tried again, because text of this answer had been handed out"
        ledger.end(Fate.NOT_RETRYABLE, failure._replace(message=said))
        return NAN

    def _interrupted(self, ledger: Ledger, error: BaseException) -> bool:
        if isinstance(error, GeneratorExit):  # the loop is gone, and nobody drives this task any more
            return True
        return super()._interrupted(ledger, error)

    def _record_call(self, ledger: Ledger) -> Ledger:
        handover = self._handover
        handover.ledger = ledger
        if ledger.answer is None:
            handover.retract()
        return super()._record_call(ledger)

    async def aclose(self) -> None:
        """End the calls that are under way, and give back the timers that the loop still holds."""
        for task in list(self._handovers):
            await ended(task)
        self.close()


async def ended(task: Task[Any]) -> None:
    """Cancel a task and wait for its end, whoever cancels this wait meanwhile; that is passed on afterwards."""
    interruption: asyncio.CancelledError | None = None
    while not task.done():
        task.cancel()
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            interruption = error
    if interruption is not None:
        raise interruption
