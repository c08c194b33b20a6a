"""What comes next: planned runs in batches, and those that are to be tried once more.

A batch is what one worker gets at a time. It holds many small runs or one large one, so that handing it over costs
little beside it. A batch whose worker died is split: each of its runs is tried once more, alone, and the one that ends
its worker again is given up. So a crash costs its own run and no other.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from llmlab.experiments.running.plan import expected_calls

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from llmlab.experiments.running.plan import PlannedRun


class Agenda:
    """Hands out planned runs. Not for use from several threads at a time."""

    def __init__(self, runs: Iterable[PlannedRun]) -> None:
        self._coming = iter(runs)
        self._alone: deque[PlannedRun] = deque()
        self._tried: set[int] = set()
        self._closed = False

    def batch(self, *, calls: float, runs: int) -> list[PlannedRun]:
        """Return the next runs: at least one, and more until they are about so many calls or so many runs.

        Empty where nothing is left for now.
        """
        if self._closed:
            return []
        if self._alone:
            return [self._alone.popleft()]
        batch: list[PlannedRun] = []
        while calls > 0 and len(batch) < runs and (run := next(self._coming, None)) is not None:
            batch.append(run)
            calls -= max(1.0, expected_calls(run.experiment))
        return batch

    def lost(self, batch: Sequence[PlannedRun]) -> list[PlannedRun]:
        """Take back the runs of a worker that died; return those that are given up, as this was their second time.

        A run that was lost in company may be innocent, so only a run that was alone is ever given up.
        """
        given_up = []
        for run in batch:
            if len(batch) == 1 and run.number in self._tried:
                given_up.append(run)
            else:
                self._alone.append(run)
            self._tried.add(run.number)
        return given_up

    def close(self) -> None:
        """Hand out nothing more."""
        self._closed = True
