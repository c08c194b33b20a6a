"""One request at a simulated server, as the server sees it: what goes back, and when, with no client's patience in it.

`MockBackend.attempt` says what a client meets, its own timeouts included. Where the client is somebody else's, and its
timeouts are its own affair, a visit says what the server does, by the same draws. A server with a queue has its own
kind in `served_visit.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from llmlab.backends.fault_effects import NO_BOUNDS, Timing, breaks_at, met_nothing
from llmlab.backends.waiting import wait_until

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from llmlab.backends.faults import FaultKind, Faults
    from llmlab.core.backend import Answer, AttemptFailure


class Instead(NamedTuple):
    """What a request meets instead of an answer.

    Attributes:
        failure: what a client is told.
        after: seconds until then; `inf` where nothing ever comes.
        fault: the kind that was drawn, or `None` where a script or the server's own state refuses.
    """

    failure: AttemptFailure
    after: float
    fault: FaultKind | None = None


def instead(fault: FaultKind, faults: Faults, refusal_latency: float) -> Instead:
    """Return what a fault that keeps an answer from coming about brings instead."""
    failure, wait = met_nothing(fault, NO_BOUNDS, faults)
    return Instead(failure, refusal_latency if wait is None else wait, fault)


class Phases(NamedTuple):
    """What the server's time went to, in seconds; what is missing to `total` was spent waiting."""

    load: float
    prompt: float
    decode: float
    total: float


class Visit(Protocol):
    """A request that is being answered.

    Attributes:
        answer: the whole answer, without any fault.
        fault: the fault of the stream or of the text that was drawn for it, or `None`.
        began: when the request came, on the event loop's clock.
        at: when what was waited for last has happened, on the same clock; a little before now, where others waited too.
    """

    answer: Answer
    fault: FaultKind | None
    began: float
    at: float

    async def token(self) -> bool:
        """Wait for the next token; False at the end of the work, which is the last token."""
        ...

    async def end(self) -> None:
        """Wait for the end of the work; a fault that breaks the answer ends it early."""
        ...

    def leave(self) -> None:
        """Say that the client has gone; does nothing after the end."""
        ...

    def phases(self) -> Phases:
        """Return what the time went to, once the work has ended."""
        ...


class ForeseenVisit:
    """A visit to a server without a queue, which knows everything beforehand."""

    def __init__(self, loop: AbstractEventLoop, answer: Answer, fault: FaultKind | None, when: Timing) -> None:
        self.answer = answer
        self.fault = fault
        self.began = self.at = loop.time()
        self._loop = loop
        self._when = when
        self._end = breaks_at(fault, when)
        self._came = 0

    async def token(self) -> bool:
        """Wait for the next token; False at the end of the work, which is the last token."""
        due = self._when.first_token + self._came * self._when.gap
        # The last token and the end are one instant, whatever the rounding says.
        if self._came and due + self._when.gap / 2 >= self._end:
            await self.end()
            return False
        self._came += 1
        self.at = self.began + due
        await wait_until(self._loop, self.at)
        return True

    async def end(self) -> None:
        """Wait for the end of the work; a fault that breaks the answer ends it early."""
        self.at = self.began + self._end
        await wait_until(self._loop, self.at)

    def leave(self) -> None:
        """Do nothing: a server without end misses nobody."""

    def phases(self) -> Phases:
        """Return what the time went to, once the work has ended."""
        first, end, _ = self._when
        return Phases(0.0, first, end - first, end)
