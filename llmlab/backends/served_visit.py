"""One request at a simulated server that queues, as the server sees it (`visit.py`): its machine's effects, awaited."""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING

from llmlab.backends.server_job import AWAITS_MODEL, ENDED
from llmlab.backends.visit import Phases

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from collections.abc import Callable

    from llmlab.backends.faults import FaultKind
    from llmlab.backends.server_job import Job
    from llmlab.core.backend import Answer


class TokenWatch:
    """Counts a request's tokens as they come, for who hands them on one by one."""

    every_token = True
    frozen = False

    def __init__(self) -> None:
        self.came: deque[float] = deque()
        """When each token came that was not handed on yet, on the event loop's clock."""
        self.waiter: Future[None] | None = None

    def note(self, now: float) -> None:
        """Note a token."""
        self.came.append(now)
        self.wake()

    def wake(self) -> None:
        """Wake who waits for a token or for the end."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class ServedVisit:
    """A visit to a server with a queue, which learns what comes as it comes.

    Args:
        loop: the running event loop.
        job: the request, which has arrived; `watch` counts its tokens, or is `None` where only the end counts.
        answer: the whole answer.
        fault: of the stream or of the text, or `None`.
        clock: the machine's.
        gone: tells the machine that the client has gone.
        served: called once, at the end.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        job: Job,
        answer: Answer,
        fault: FaultKind | None,
        *,
        clock: Callable[[], float],
        gone: Callable[[Job], None],
        served: Callable[[], None],
    ) -> None:
        self.answer = answer
        self.fault = fault
        self.began = self.at = loop.time()
        self._loop = loop
        self._job = job
        self._clock = clock
        self._gone = gone
        self._served = served
        self._arrived = clock()
        self._load = job.load if job.state == AWAITS_MODEL else 0.0
        self._ended_at = inf
        job.waiter.add_done_callback(self._note_end)

    async def token(self, until: float = inf) -> bool:
        """Wait for the next token; False at the end of the work, which is the last token.

        Raises:
            TimeoutError: neither has come by `until`, a time on the event loop's clock.
        """
        watch: TokenWatch = self._job.watch
        while not watch.came:
            if self._job.waiter.done():
                await self.end()
                return False
            if self._loop.time() >= until:
                raise TimeoutError
            watch.waiter = self._loop.create_future()
            timer = None if until == inf else self._loop.call_at(until, watch.wake)
            try:
                await watch.waiter
            finally:
                if timer is not None:
                    timer.cancel()
        self.at = watch.came.popleft()
        return True

    async def end(self) -> None:
        """Wait for the end of the work; a fault that breaks the answer ends it early."""
        if not self._job.waiter.done():
            await self._job.waiter
        self._note_end()
        self.at = self.began + self._ended_at - self._arrived

    def _note_end(self, _waiter: object = None) -> None:
        """Note the end, whoever learns of it first: the one that waits here, or nobody."""
        if self._ended_at == inf and not self._job.waiter.cancelled():
            self._ended_at = self._clock()
            self._served()
        if self._job.watch is not None:
            self._job.watch.wake()

    def leave(self) -> None:
        """Say that the client has gone; does nothing after the end."""
        if self._job.state < ENDED:
            self._gone(self._job)

    def phases(self) -> Phases:
        """Return what the time went to, once the work has ended."""
        job = self._job
        return Phases(self._load, job.first, self._ended_at - job.first_at, self._ended_at - self._arrived)
