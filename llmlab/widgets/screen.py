"""What the dashboard shows: runs of the setting or of a sweep, drawn and put into words; errors with a remedy.

Used on the dashboard's event loop. Nothing here blocks it: runs, charts and words are made in threads. They follow each
other as a run, its chart, its words; of each there is one at a time, and what has become out of date meanwhile is
passed over. What is finished of a sweep is kept whatever ends it.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from llmlab.core.settings import SettingsError
from llmlab.experiments.collecting import collecting_rarely
from llmlab.widgets import keeping
from llmlab.widgets.coalescing import Latest
from llmlab.widgets.instant import Runner, Shown, Stopped, picture, words
from llmlab.widgets.sweeping import SweepJob

if TYPE_CHECKING:
    from llmlab.experiments.sweep_result import SweepResult
    from llmlab.widgets.desk import Desk
    from llmlab.widgets.page import Page

_REDRAW_EVERY = 0.4  # seconds between two charts of a sweep under way
_REAL = "a real server: press Run to send it these calls"


class Screen:
    """Runs what is set, and shows what comes of it."""

    def __init__(self, page: Page, desk: Desk) -> None:
        """Take the page to show it on and the desk where it is set."""
        self._page = page
        self._desk = desk
        self.shown: Shown | None = None
        self._drawn: tuple[Shown, str | None] | None = None
        self._pinned: SweepResult | None = None
        self._runner = Runner()
        self._run_anew = False
        self._job: SweepJob | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._job_told = ""
        self._collected_at = 0.0
        self._running = Latest(self._run_setting, self.show_error)
        self._collecting = Latest(self._collect, self.show_error)
        self._drawing = Latest(self._draw, self.show_error)
        self._saying = Latest(self._say, self.show_error)

    # ---- one setting

    def changed(self) -> None:
        """Tell the code of what is set; in instant mode run it anew, where that costs nothing."""
        page, desk = self._page, self._desk
        page.say(page.error, "")
        page.code.value = desk.shown_code
        if desk.is_sweep:
            page.say(page.status, self._job_told)
            if self._job is not None and not self._shows_sweep:
                self._collecting.ask()  # back from instant mode
        elif desk.experiment.simulated:
            page.say(page.status, "")
            self._runner.out_of_date()
            self._running.ask()
        else:
            page.say(page.status, _REAL)

    async def _run_setting(self) -> None:
        """Run what is set, unless it is what is shown or the page has gone over to sweeps."""
        page, desk = self._page, self._desk
        if desk.is_sweep:
            return
        experiment = desk.experiment
        if not self._run_anew and self.shown is not None and self.shown.experiment == experiment:
            self._show(self.shown)  # whose words may be missing yet
            return
        self._run_anew = False
        page.cancel.disabled = False
        try:
            result = await self._runner.run(experiment)
        except Stopped:
            page.say(page.status, "stopped; what is shown is of an earlier setting")
            self._drawing.ask()
            return
        finally:
            page.cancel.disabled = not self._is_sweeping
        if not desk.is_sweep:
            self._show(Shown.of(experiment, result, self._pinned))

    def pin(self) -> None:
        """Keep what is shown of a single setting, to compare later ones with.

        Raises:
            SettingsError: there is none.
        """
        if self.shown is None or self.shown.experiment is None:
            raise SettingsError("there is no result of a single setting to pin; go to instant mode first")
        self._compare_with(self.shown.result)

    def unpin(self) -> None:
        """Compare no longer."""
        self._compare_with(None)

    def _compare_with(self, pinned: SweepResult | None) -> None:
        self._pinned = pinned
        self._page.unpin.disabled = pinned is None
        if self.shown is not None and self.shown.experiment is not None:
            self._show(Shown.of(self.shown.experiment, self.shown.result, pinned))

    # ---- a sweep

    @property
    def _is_sweeping(self) -> bool:
        return self._sweeping is not None and not self._sweeping.done()

    @property
    def _shows_sweep(self) -> bool:
        return self.shown is not None and self.shown.experiment is None

    def run(self) -> None:
        """Run the setting once more, or begin the sweep unless one is under way."""
        if not self._desk.is_sweep:
            self._run_anew = True
            self._page.say(self._page.status, "")
            self._running.ask()
        elif not self._is_sweeping:
            self._job = SweepJob(self._desk.sweep, self._job_went_on)
            self._sweeping = asyncio.get_running_loop().create_task(self._carry_out(self._job))

    def cancel(self) -> None:
        """Stop what runs, and keep what is finished."""
        self._runner.stop()
        if self._sweeping is not None:
            self._sweeping.cancel()

    async def _carry_out(self, job: SweepJob) -> None:
        page = self._page
        page.run.disabled, page.cancel.disabled = True, False
        page.progress.max, page.progress.value = job.planned, 0
        for place in (page.error, page.reading, page.against, page.verdict):  # of what was shown before
            page.say(place, "")
        self._tell_of_job(job.progress())
        ended = f"done: {job.planned} runs"
        try:
            await job.carry_out()
        except asyncio.CancelledError:
            ended = f"cancelled after {job.done} of {job.planned} runs, which are kept"
        except Exception as error:  # noqa: BLE001 - shown to the user, who would never see a task's exception
            self.show_error(error)
            ended = f"failed after {job.done} of {job.planned} runs, which are kept"
        finally:
            page.run.disabled, page.cancel.disabled = False, True
        page.progress.value = job.done
        self._tell_of_job(ended)
        if job.failures:
            first = job.failures[0].reason
            self.show_error(f"{len(job.failures)} of {job.planned} runs failed. The first: {first}")
        self._collecting.ask()
        self._drawing.ask()  # where nothing is finished, what was shown before gets its words back

    def _tell_of_job(self, told: str) -> None:
        self._job_told = told
        if self._desk.is_sweep:
            self._page.say(self._page.status, told)

    def _job_went_on(self) -> None:
        job = self._job
        if job is None:
            return
        self._page.progress.value = job.done
        self._tell_of_job(job.progress())
        if time.monotonic() - self._collected_at > _REDRAW_EVERY:
            self._collected_at = time.monotonic()
            self._collecting.ask()

    async def _collect(self) -> None:
        """Show what is finished of the sweep, where the page is about sweeps."""
        job = self._job
        if job is not None and job.runs and self._desk.is_sweep:
            result = await asyncio.to_thread(job.result)
            self._show(Shown.of(None, result, None))

    # ---- charts and words

    def _show(self, shown: Shown) -> None:
        self.shown = shown
        self._drawing.ask()

    def redraw(self) -> None:
        """Draw the chart that is asked for now."""
        self._drawing.ask()

    async def _draw(self) -> None:
        """Draw what is shown unless it is drawn already; then, unless more is coming, let it be put into words."""
        page, shown = self._page, self.shown
        if shown is None:
            return
        page.offer([panel.question for panel in await asyncio.to_thread(lambda: shown.panels)])
        now = (shown, page.question.value)
        if now != self._drawn:
            with collecting_rarely():  # a full collection takes as long as a chart; it follows this one
                page.picture.value = await picture(*now)
            self._drawn = now
        if not self._running.is_busy:
            self._saying.ask()

    def judge(self) -> None:
        """Hold what is shown against the SLO that is asked for now; nothing is run for that."""
        self._saying.ask()

    async def _say(self) -> None:
        """Put into words what is shown, once it is complete."""
        shown = self.shown
        if shown is None or (self._shows_sweep and self._is_sweeping):
            return
        said = await words(shown, self._desk.slo)
        if shown is self.shown:
            for place, text in said.items():
                self._page.say(getattr(self._page, place), text)

    # ---- the rest

    def keep(self, file: str, ending: str) -> None:
        """Write the chart (png, svg) or a report (html) of what is shown.

        Raises:
            SettingsError: nothing is shown yet, or there is no such folder.
            OSError: the file cannot be written.
        """
        if self.shown is None:
            raise SettingsError("there is no chart to be saved yet; run something first")
        if ending == "html":
            path = keeping.save_report(self.shown.result, f"{file}.html", self._desk.slo)
        else:
            path = keeping.save_chart(self.shown.panel(self._page.question.value), f"{file}.{ending}")
        self._page.say(self._page.saved, f"saved as {path.resolve()}")

    def show_error(self, error: BaseException | str) -> None:
        """Say on the page what went wrong and what to do."""
        self._page.say(self._page.error, keeping.told(error), "error-box")

    async def idle(self) -> None:
        """Wait until nothing runs and all is drawn and said."""
        if self._sweeping is not None:
            await asyncio.wait([self._sweeping])
        for work in (self._running, self._collecting, self._drawing, self._saying):
            await work.idle()

    async def stop(self) -> None:
        """End all work."""
        self.cancel()
        if self._sweeping is not None:
            await asyncio.wait([self._sweeping])
        for work in (self._running, self._collecting, self._drawing, self._saying):
            await work.stop()
