"""What the dashboard shows: runs of the setting or of a sweep, drawn and put into words; errors with a remedy.

Used on the dashboard's event loop. Nothing here blocks it: runs, charts and words are made in threads, out-of-date ones
are dropped, and what is finished of a sweep is kept whatever ends it.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from llmlab.core.settings import SettingsError
from llmlab.widgets import instant, keeping
from llmlab.widgets.coalescing import Latest
from llmlab.widgets.sweeping import SweepJob

if TYPE_CHECKING:
    from llmlab.experiments.sweep_result import SweepResult
    from llmlab.widgets.desk import Desk
    from llmlab.widgets.page import Page

_REDRAW_EVERY = 0.4  # seconds between two charts of a sweep under way


class Screen:
    """Runs what is set, and shows what comes of it."""

    def __init__(self, page: Page, desk: Desk) -> None:
        """Take the page to show it on and the desk where it is set."""
        self._page = page
        self._desk = desk
        self.shown: instant.Shown | None = None
        self._pinned: SweepResult | None = None
        self._runner = instant.Runner()
        self._job: SweepJob | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._drawn_at = 0.0
        self._drawn_question: str | None = None
        self._refreshing = Latest(self._refresh, self.show_error)
        self._drawing = Latest(self._draw_job, self.show_error)

    # ---- one setting

    def changed(self) -> None:
        """Tell the code of what is set; in instant mode run it anew, where that costs nothing."""
        page, desk = self._page, self._desk
        page.say(page.error, "")
        page.code.value = desk.shown_code
        if not desk.is_sweep and desk.experiment.simulated:
            self._runner.out_of_date()
            self._refreshing.ask()

    def redraw(self) -> None:
        """Draw the chart that is asked for now."""
        if self.shown is not None and self._page.question.value != self._drawn_question:
            self._refreshing.ask()

    async def _refresh(self) -> None:
        """Run what is set unless it is what is shown, draw it, and then say it in words."""
        page, desk = self._page, self._desk
        if desk.is_sweep:
            await self._draw()
            return
        experiment, shown = desk.experiment, self.shown
        if shown is None or shown.experiment != experiment:
            page.cancel.disabled = False
            try:
                result = await self._runner.run(experiment)
            except instant.Stopped:
                return
            finally:
                page.cancel.disabled = True
            shown = await asyncio.to_thread(instant.shown, experiment, result, self._pinned)
        self.shown = shown
        await self._draw()
        if not self._refreshing.is_wanted:
            await self._put_into_words(shown)

    async def _draw(self) -> None:
        if self.shown is not None:
            self._page.offer([panel.question for panel in self.shown.panels])
            self._drawn_question = self._page.question.value
            self._page.picture.value = await instant.picture(self.shown, self._drawn_question)

    async def _put_into_words(self, shown: instant.Shown) -> None:
        for place, text in (await instant.words(shown, self._desk.slo)).items():
            self._page.say(getattr(self._page, place), text)

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
            self.shown = instant.shown(self.shown.experiment, self.shown.result, pinned)
        self._refreshing.ask()

    # ---- a sweep

    def run(self) -> None:
        """Run the setting once more, or begin the sweep unless one is under way."""
        if not self._desk.is_sweep:
            self.shown = None
            self._refreshing.ask()
        elif self._sweeping is None or self._sweeping.done():
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
        page.say(page.error, "")
        page.say(page.status, job.progress())
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
        page.say(page.status, ended)
        if job.failures:
            first = job.failures[0].reason
            self.show_error(f"{len(job.failures)} of {job.planned} runs failed. The first: {first}")
        self._drawing.ask()

    def _job_went_on(self) -> None:
        page, job = self._page, self._job
        if job is None:
            return
        page.progress.value = job.done
        page.say(page.status, job.progress())
        if time.monotonic() - self._drawn_at > _REDRAW_EVERY:
            self._drawn_at = time.monotonic()
            self._drawing.ask()

    async def _draw_job(self) -> None:
        """Draw what is finished of the sweep, and at its end say what to set."""
        job = self._job
        if job is None or not job.runs:
            return
        self.shown = await asyncio.to_thread(instant.shown, None, job.result(), None)
        await self._draw()
        if self._sweeping is None or self._sweeping.done():
            await self._put_into_words(self.shown)

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
        """Wait until nothing runs and all is drawn."""
        while self._sweeping is not None and not self._sweeping.done():
            await asyncio.wait([self._sweeping])
        await self._drawing.idle()
        await self._refreshing.idle()

    async def stop(self) -> None:
        """End all work."""
        self.cancel()
        if self._sweeping is not None:
            await asyncio.wait([self._sweeping])
        await self._drawing.stop()
        await self._refreshing.stop()
