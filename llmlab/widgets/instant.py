"""What the dashboard shows of one setting: run, drawn and read aloud, in threads, so that nothing else waits.

A newer wish makes an older one void: a run that takes long is stopped, and nothing is drawn that is out of date.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from llmlab.analysis.recommend import recommend
from llmlab.analysis.sweep_reading import sweep_reading
from llmlab.experiments.reading import reading
from llmlab.widgets.views import BesidePinned, image_of, panels_of

if TYPE_CHECKING:
    from llmlab.analysis.slo import SLO
    from llmlab.experiments.experiment import Experiment
    from llmlab.experiments.sweep_result import SweepResult
    from llmlab.plots.selection import Panel

_PATIENCE = 0.25  # seconds after which a run that is out of date is stopped rather than shown


@dataclass(frozen=True, eq=False)
class Shown:
    """A result, the charts that there are of it, and what it says; each is made once, when it is asked for."""

    result: SweepResult
    experiment: Experiment | None = None
    beside: BesidePinned | None = None

    @classmethod
    def of(cls, experiment: Experiment | None, result: SweepResult, pinned: SweepResult | None) -> Shown:
        """Take a result, and what is pinned to be shown beside it; `experiment` is `None` for a sweep's result."""
        beside = None if pinned is None or result.parameters else BesidePinned(pinned, result)
        return cls(result, experiment, beside)

    @cached_property
    def panels(self) -> list[Panel]:
        """The charts, the one to be shown first in front."""
        whole: Any = self.result if self.beside is None else self.beside
        return panels_of(whole)

    def panel(self, question: str | None) -> Panel:
        """Return the chart that answers a question; the first one where none does."""
        return next((panel for panel in self.panels if panel.question == question), self.panels[0])

    @cached_property
    def reading(self) -> str:
        """The result in a sentence or two."""
        if self.experiment is None:
            return str(sweep_reading(self.result)) if self.result.parameters else ""
        return str(reading(self.experiment, self.result))

    @cached_property
    def against(self) -> str:
        """What differs from what is pinned."""
        return "" if self.beside is None else str(self.beside)

    def verdict(self, slo: SLO | None) -> str:
        """Return what an SLO makes of it."""
        return "" if slo is None else str(recommend(self.result, slo))


class Stopped(Exception):
    """A run was stopped before its end."""


class Runner:
    """Runs one experiment at a time, in a thread, and can be told to stop."""

    def __init__(self) -> None:
        self._run: asyncio.Task[SweepResult] | None = None
        self._began = 0.0

    async def run(self, experiment: Experiment) -> SweepResult:
        """Run an experiment and return its result.

        Raises:
            Stopped: it was stopped before its end.
            asyncio.CancelledError: whoever awaits it was cancelled; the run has ended then.
        """
        self._run, self._began = asyncio.ensure_future(experiment.run_async()), time.monotonic()
        try:
            return await self._run
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise Stopped from None
        finally:
            self._run = None

    def out_of_date(self) -> None:
        """Stop what runs if it has taken long already; a short run is soon over and worth being shown."""
        if time.monotonic() - self._began > _PATIENCE:
            self.stop()

    def stop(self) -> None:
        """Stop what runs, if anything does."""
        if self._run is not None:
            self._run.cancel()


async def picture(what: Shown, question: str | None) -> bytes:
    """Draw the chart that answers a question."""
    return await asyncio.to_thread(image_of, what.panel(question))


async def words(what: Shown, slo: SLO | None) -> dict[str, str]:
    """Say what is shown: in a sentence, against what is pinned, and against an SLO."""
    return await asyncio.to_thread(
        lambda: {"reading": what.reading, "against": what.against, "verdict": what.verdict(slo)}
    )
