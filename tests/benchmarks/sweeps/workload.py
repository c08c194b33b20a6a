"""The sweeps that are measured, and one measurement of each kind."""

from __future__ import annotations

import tempfile
import time
from typing import Any, NamedTuple

from llmlab import ClosedLoop, Experiment, MockBackend, Sweep


class Measured(NamedTuple):
    """Seconds until the first run had ended, from then to the end, and how many runs there were."""

    start_s: float
    rest_s: float
    runs: int

    @property
    def total_s(self) -> float:
        """Seconds in all."""
        return self.start_s + self.rest_s


def sweep(points: int, calls: int) -> Sweep:
    """Return a sweep of so many points with so many calls each."""
    base = Experiment(backend=MockBackend(timeout_probability=0.1), workload=ClosedLoop(calls=calls))
    return Sweep(base, {"seed": range(points)})


def measured(points: int, calls: int, *, stored: bool = False, **how: Any) -> Measured:
    """Carry a sweep out, and return how long it took; with `stored` into a store that is deleted again."""
    asked = sweep(points, calls)
    firsts: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        result = asked.run(
            store=folder if stored else None,
            progress=False,
            on_point=lambda _: firsts or firsts.append(time.perf_counter()),
            **how,
        )
        ended = time.perf_counter()
    return Measured(firsts[0] - began, ended - firsts[0], len(result.runs))
