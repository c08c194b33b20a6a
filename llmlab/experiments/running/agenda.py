"""What comes next: planned runs in batches, and those that are to be tried once more.

A batch is what one worker gets at a time. It holds many small runs or one large one, so that handing it over costs
little beside it. A batch whose worker died is split: each of its runs is tried once more, alone, and the one that ends
its worker again is given up. So a crash costs its own run and no other.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from llmlab.core.chance import Purpose, uniform
from llmlab.experiments.running.plan import expected_calls

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from llmlab.experiments.running.plan import PlannedRun


class Agenda:
    """Hands out planned runs. Not for use from several threads at a time.

    Args:
        runs: the runs to begin with.
        max_calls: the most calls that they may make in all; `None` is no bound.
        warm_up: calls before each run of a real backend, which count as well.
    """

    def __init__(self, runs: Iterable[PlannedRun], *, max_calls: int | None = None, warm_up: int = 0) -> None:
        self._coming = iter(runs)
        self._added: deque[PlannedRun] = deque()
        self._alone: deque[PlannedRun] = deque()
        self._tried: set[int] = set()
        self._max_calls, self._warm_up = max_calls, warm_up
        self._calls = 0.0
        self.closed = ""
        """Why nothing more is handed out although there is more; empty while that is not so."""

    def batch(self, *, calls: float, runs: int) -> list[PlannedRun]:
        """Return the next runs: at least one, and more until they are about so many calls or so many runs.

        Empty where nothing is left for now.
        """
        if self._alone:
            return [self._alone.popleft()]
        batch: list[PlannedRun] = []
        while calls > 0 and len(batch) < runs and (run := self._next()) is not None:
            batch.append(run)
            calls -= max(1.0, expected_calls(run.experiment))
        return batch

    def add(self, runs: Iterable[PlannedRun]) -> None:
        """Append runs, to be handed out after all others."""
        self._added.extend(runs)

    def _next(self) -> PlannedRun | None:
        if self.closed:
            return None
        run = next(self._coming, None) or (self._added.popleft() if self._added else None)
        if run is None:
            return None
        warm_up = 0 if run.experiment.simulated else self._warm_up
        self._calls += expected_calls(run.experiment) + warm_up
        if self._max_calls is not None and self._calls > self._max_calls:
            self.closed = f"the next run would exceed procedure.max_calls={self._max_calls}"
            return None
        return run

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


def in_rounds(runs: Iterable[PlannedRun], seed: int) -> list[PlannedRun]:
    """Return runs shuffled in rounds: all points' first replicates, then their second ones, and so on."""
    return sorted(runs, key=lambda run: (run.replicate, uniform(seed, run.number, 0, Purpose.WORKLOAD)))
