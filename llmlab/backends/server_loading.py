"""Which model a simulated server has loaded, and who waits for another: pure, `now` in, answers out.

The rule is Ollama's: a request for the loaded model goes straight to the slots and overtakes those who wait for another
model; a model is changed only when nothing is served or waits for a slot. Of those who need a load, one is at the head
(its model is being loaded, or will be), and at most `load_queue` wait behind it.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmlab.backends.server_job import Job
    from llmlab.backends.server_model import ServerModel


class Loader:
    """The loaded model, and the line of those who wait for theirs."""

    def __init__(self, model: ServerModel) -> None:
        self.loaded: str | None = None
        self.loading = False
        self.idle_since = 0.0
        self._bound = inf if model.load_queue is None else model.load_queue
        self._keep_alive = inf if model.keep_alive is None else model.keep_alive
        self._head: Job | None = None
        self._line: deque[Job] = deque()

    def __len__(self) -> int:
        return len(self._line) + (self._head is not None)

    def has(self, model: str, now: float, *, idle: bool) -> bool:
        """Whether this model can serve at once; one that has been idle for too long is unloaded by now."""
        if idle and now - self.idle_since >= self._keep_alive:
            self.loaded = None
        return self.loaded == model

    def line_up(self, job: Job) -> bool:
        """Let a request wait for its model; False if too many wait."""
        if self._head is None and not self.loading:
            self._head = job
        elif len(self._line) < self._bound:
            self._line.append(job)
        else:
            return False
        return True

    def leave(self, job: Job) -> None:
        """Stop waiting. A load that has begun goes on, for nobody."""
        if job is not self._head:
            self._line.remove(job)
        elif self.loading:
            self._head = None
        else:
            self._head = self._line.popleft() if self._line else None

    def begin(self) -> Job | None:
        """Begin to load for who is at the head, and return it; `None` if nobody is or a load is under way."""
        if self.loading or self._head is None:
            return None
        self.loading = True
        self.loaded = None
        return self._head

    def finish(self, now: float, model: str) -> list[Job]:
        """End the load; return those who waited for this model, in order of arrival."""
        self.loading, self.loaded, self.idle_since = False, model, now
        waited = [*([] if self._head is None else [self._head]), *self._line]
        others = [job for job in waited if job.model != model]
        self._head = others[0] if others else None
        self._line = deque(others[1:])
        return [job for job in waited if job.model == model]
