"""The dashboard's sweep: made from its controls, run with progress, stopped at will; what is finished is never lost."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from llmlab.core.settings import SettingsError
from llmlab.experiments.readable import settings_by_path
from llmlab.experiments.runs import FailedRun, Run
from llmlab.experiments.sweep import Sweep
from llmlab.experiments.sweep_result import SweepResult
from llmlab.widgets.controls import BY_NAME
from llmlab.widgets.swept_values import swept_values

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from llmlab.experiments.experiment import Experiment


def sweep_over(base: Experiment, axes: Sequence[tuple[str, str]], replicates: int) -> Sweep:
    """Return the sweep over one or two controls.

    Args:
        base: the experiment that the controls make.
        axes: names of controls, each with its values as text.
        replicates: runs of each point.

    Raises:
        SettingsError: a value is wrong, or both axes are the same; the message says what to do.
    """
    if len({name for name, _ in axes}) < len(axes):
        raise SettingsError(
            f"both parameters are '{BY_NAME[axes[0][0]].label}'; choose another, or none, as the second"
        )
    grid: dict[str, Any] = {}
    for name, text in axes:
        control = BY_NAME[name]
        grid[control.path] = swept_values(control, text)
        if control.value_in(base) is None:  # such as no rate limit: a sweep needs one to change
            base = control.put(base, control.swept[0])
    return Sweep(base, grid, replicates=replicates)


class SweepJob:
    """One sweep under way, with what is finished of it."""

    def __init__(self, sweep: Sweep, changed: Callable[[], object]) -> None:
        """Take the sweep, and what is to be called when a run has ended."""
        self.sweep = sweep
        self.planned = len(sweep)
        self.runs: list[Run] = []
        self.failures: list[FailedRun] = []
        self.began = time.monotonic()
        self._changed = changed
        self._places: dict[str, int] = {}

    async def carry_out(self) -> None:
        """Run it to its end; a cancellation stops it within half a second."""
        self._places = await asyncio.to_thread(self._places_of_points)
        async with aclosing(self.sweep.stream()) as ended:
            async for run in ended:
                if isinstance(run, Run):
                    self.runs.append(run)
                else:
                    self.failures.append(run)
                self._changed()

    @property
    def done(self) -> int:
        """How many runs have ended."""
        return len(self.runs) + len(self.failures)

    def result(self) -> SweepResult:
        """Return what is finished, in the sweep's order; any thread may ask."""
        ended = list(self.runs)  # which goes on growing
        runs = sorted(ended, key=lambda run: (self._places[repr(run.settings)], run.replicate))
        return SweepResult(
            self.sweep.parameters,
            runs,
            planned=self.planned,
            failures=list(self.failures),
            settings=settings_by_path(self.sweep.base),
        )

    def _places_of_points(self) -> dict[str, int]:
        return {repr(settings): place for place, (settings, _, _) in enumerate(self.sweep.runs())}

    def progress(self) -> str:
        """Say how far it is and how long it will take."""
        if not self.done:
            return f"0 of {self.planned} runs"
        left = (time.monotonic() - self.began) / self.done * (self.planned - self.done)
        return f"{self.done} of {self.planned} runs, about {left:.0f} s left"
