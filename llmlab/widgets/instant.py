"""What the dashboard shows of one setting: run, drawn and read aloud, in threads, so that nothing else waits.

A newer wish makes an older one void: a run that takes long is stopped, and nothing is drawn that is out of date.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmlab.analysis.recommend import recommend
from llmlab.experiments.readable import settings_by_path
from llmlab.experiments.reading import reading
from llmlab.experiments.runs import Run
from llmlab.experiments.stop_signal import StopSignal
from llmlab.experiments.sweep_result import SweepResult
from llmlab.widgets.views import BesidePinned, image_of, panels_of

if TYPE_CHECKING:
    from llmlab.analysis.slo import SLO
    from llmlab.experiments.experiment import Experiment
    from llmlab.plots.selection import Panel

_PATIENCE = 0.25  # seconds after which a run that is out of date is stopped rather than shown


@dataclass
class Shown:
    """A result, and the charts that there are of it."""

    result: SweepResult
    panels: list[Panel]
    experiment: Experiment | None = None
    beside: BesidePinned | None = None
    texts: dict[str, str] = field(default_factory=dict)

    def panel(self, question: str | None) -> Panel:
        """Return the chart that answers a question; the first one where none does."""
        return next((panel for panel in self.panels if panel.question == question), self.panels[0])


class Runner:
    """Runs one experiment at a time, in a thread, and can be told to stop."""

    def __init__(self) -> None:
        self._stop: StopSignal | None = None
        self._began = 0.0

    async def run(self, experiment: Experiment) -> SweepResult:
        """Run an experiment and return its result.

        Raises:
            asyncio.CancelledError: it was stopped.
        """
        self._stop, self._began = StopSignal(), time.monotonic()
        work = asyncio.get_running_loop().run_in_executor(None, _result_of, experiment, self._stop)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            self._stop.set("cancelled")
            await asyncio.wait([work])
            if not work.cancelled():
                work.exception()  # seen: nobody wants it any more
            raise
        finally:
            self._stop = None

    def out_of_date(self) -> None:
        """Stop what runs if it has taken long already; a short run is soon over and worth being shown."""
        if self._stop is not None and time.monotonic() - self._began > _PATIENCE:
            self._stop.set("out of date")

    def stop(self) -> bool:
        """Stop what runs; return whether anything did."""
        if self._stop is None:
            return False
        self._stop.set("cancelled")
        return True


class Stopped(Exception):
    """A run was stopped before its end."""


def _result_of(experiment: Experiment, stop: StopSignal) -> SweepResult:
    try:
        record = experiment.record(stop=stop)
    except asyncio.CancelledError:
        raise Stopped from None
    return SweepResult([], [Run({}, 0, experiment.seed, record)], planned=1, settings=settings_by_path(experiment))


def shown(experiment: Experiment | None, result: SweepResult, pinned: SweepResult | None) -> Shown:
    """Return what there is to be shown of a result, beside a pinned one if there is one."""
    beside = None if pinned is None or result.parameters else BesidePinned(pinned, result)
    whole: Any = result if beside is None else beside
    return Shown(result, panels_of(whole), experiment, beside)


async def picture(what: Shown, question: str | None) -> bytes:
    """Draw the chart that answers a question."""
    return await asyncio.to_thread(image_of, what.panel(question))


async def words(what: Shown, slo: SLO | None) -> dict[str, str]:
    """Say what is shown: in a sentence, against what is pinned, and against an SLO."""
    return await asyncio.to_thread(_words, what, slo)


def _words(what: Shown, slo: SLO | None) -> dict[str, str]:
    said = {"reading": "", "against": "", "verdict": ""}
    if what.experiment is not None:
        said["reading"] = str(reading(what.experiment, what.result))
    if what.beside is not None:
        said["against"] = str(what.beside)
    if slo is not None:
        said["verdict"] = str(recommend(what.result, slo))
    return said
