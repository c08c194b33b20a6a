"""`SweepDashboard`: a laboratory bench in a notebook. Move a control, and see what becomes of the calls.

All state lives on one event loop in a thread of its own: a front end's messages come on several threads, each perhaps
with a loop of its own. Handlers only post to that loop, work is done in further threads, and results are shown by
setting traits; nothing is printed. What is shown, said and given back comes from public functions (`Experiment.run`,
`llmlab.plots`, `reading`, `recommend`, `as_code`), so that all of it can be had without the dashboard.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from typing import TYPE_CHECKING, Any

from llmlab.analysis.slo import SLO
from llmlab.core.presets import preset
from llmlab.core.settings import SettingsError, nearest
from llmlab.experiments.experiment import Experiment
from llmlab.experiments.sweep import Sweep
from llmlab.exports.as_code import as_code
from llmlab.sync import LoopThread
from llmlab.widgets import instant, keeping
from llmlab.widgets.coalescing import Latest
from llmlab.widgets.control_widgets import show, value_of
from llmlab.widgets.controls import BY_NAME, BY_PATH, experiment_with, values_of
from llmlab.widgets.page import INSTANT, OWN, SWEEP, Page, default_values
from llmlab.widgets.situations import SITUATIONS
from llmlab.widgets.sweeping import SweepJob, sweep_over
from llmlab.widgets.swept_values import text_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llmlab.experiments.sweep_result import SweepResult

_REDRAW_EVERY = 0.4  # seconds between two charts of a sweep under way
_FIRST_SITUATION = "timeouts"


class SweepDashboard:
    """Controls for an experiment, and what becomes of its calls.

        from llmlab.widgets import SweepDashboard

        dashboard = SweepDashboard()
        dashboard

    In *instant* mode each change runs the simulation and redraws the chart; in *sweep* mode one or two settings are
    swept over. Without a front end it works the same: set `dashboard.controls["max_retries"].value`, call
    `dashboard.wait()`, and look at `dashboard.result`.

    Args:
        experiment: what to start from: an experiment, or the name of one of `SITUATIONS`.
        slo: what has to be kept; the recommendation is held against it.

    Raises:
        SettingsError: there is no situation of this name.
    """

    def __init__(self, experiment: Experiment | str | None = None, *, slo: SLO | None = None) -> None:
        start = _FIRST_SITUATION if experiment is None else experiment
        self._base = _situation(start) if isinstance(start, str) else start
        self._loop = LoopThread.shared().loop
        self._page = page = Page(values_of(self._base))
        self.controls: dict[str, Any] = page.controls
        """The widget of each control, by name."""
        self._runner = instant.Runner()
        self._shown: instant.Shown | None = None
        self._pinned: SweepResult | None = None
        self._job: SweepJob | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._quiet = False
        self._closed = False
        self._drawn_at = 0.0
        self._refreshing = Latest(self._refresh, self._show_error)
        self._drawing = Latest(self._draw_job, self._show_error)
        if isinstance(start, str):
            page.situation.value = start
        for name, target in ({} if slo is None else {c.name: t for c, t in slo.targets().items()}).items():
            if name in page.slo:
                page.slo[name].value = target
        self._choose_swept(0, "timeout_probability")
        self._wire()
        self._post(self._changed)

    # ---- what a program may ask of it

    @property
    def experiment(self) -> Experiment:
        """The experiment that the controls make.

        Raises:
            SettingsError: their values do not go together.
        """
        return experiment_with(self._base, {name: value_of(widget) for name, widget in self.controls.items()})

    @property
    def sweep(self) -> Sweep:
        """The sweep that the page's fields describe.

        Raises:
            SettingsError: a value is wrong.
        """
        page = self._page
        chosen = [(widget.value, field.value) for widget, field in zip(page.swept, page.values, strict=True)]
        return sweep_over(self.experiment, [axis for axis in chosen if axis[0]], page.replicates.value)

    @property
    def result(self) -> SweepResult | None:
        """What is shown, with its data frames `calls` and `attempts`; `None` before the first run has ended."""
        return None if self._shown is None else self._shown.result

    @property
    def code(self) -> str:
        """The Python that reproduces what is set."""
        if self._page.mode.value == SWEEP:
            return f"{as_code(self.sweep)}result = sweep.run()\n"
        return f"{as_code(self.experiment)}result = experiment.run()\n"

    @property
    def slo(self) -> SLO | None:
        """What has to be kept; `None` where nothing is asked for."""
        targets = {name: widget.value for name, widget in self._page.slo.items() if value_of(widget) is not None}
        return SLO(**targets) if targets else None

    @property
    def error(self) -> str:
        """What the page says went wrong, as HTML; empty where nothing did."""
        return str(self._page.error.value)

    def run(self) -> None:
        """Do what the page's Run does: run the setting, or begin the sweep."""
        self._post(self._run)

    def cancel(self) -> None:
        """Stop what runs; what is finished of a sweep is kept and shown."""
        self._post(self._cancel)

    def pin(self) -> None:
        """Keep what is shown, to compare later settings with, call by call."""
        self._post(self._pin)

    def unpin(self) -> None:
        """Compare no longer."""
        self._post(self._unpin)

    async def idle(self) -> None:
        """Wait until nothing is under way; works on any event loop."""
        await asyncio.wrap_future(self._settled())

    def wait(self, timeout: float | None = 60.0) -> None:
        """Wait until nothing is under way, at most so many seconds.

        Raises:
            TimeoutError: it took longer.
        """
        try:
            self._settled().result(timeout)
        except concurrent.futures.TimeoutError:
            raise TimeoutError(f"the dashboard is still at work after {timeout} s; see dashboard.cancel()") from None

    def save(self, path: str | Path) -> Path:
        """Write what is set to a file that `Sweep.load`, `llmlab sweep` and `load` read (TOML or JSON).

        Raises:
            SettingsError: it holds what no file can hold, or the file's name has another ending.
            OSError: the file cannot be written.
        """
        return (self.sweep if self._page.mode.value == SWEEP else Sweep(self.experiment)).save(path)

    def load(self, path: str | Path) -> None:
        """Take the settings of such a file.

        Raises:
            SettingsError: the file cannot be read, or holds a sweep that the dashboard cannot show.
        """
        sweep = keeping.shown_sweep(path)
        self._on_loop(lambda: self._take_sweep(sweep))

    def close(self) -> None:
        """Stop all work and take the page away."""
        self._closed = True
        self._runner.stop()
        stopped = asyncio.run_coroutine_threadsafe(self._stop_all(), self._loop)
        if not _is_on(self._loop):
            stopped.result(5.0)
        self._page.close()

    def _repr_mimebundle_(self, **_: Any) -> Any:
        bundle = self._page.box._repr_mimebundle_()
        bundle["text/plain"] = repr(self)
        return bundle

    def __repr__(self) -> str:
        return f"<SweepDashboard: {self._page.mode.value}, {'no result yet' if self.result is None else self.result}>"

    # ---- from the front end's threads to the loop

    def _post(self, work: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(self._guarded, work)

    def _guarded(self, work: Callable[[], object]) -> None:
        if self._closed:
            return
        try:
            work()
        except Exception as error:  # noqa: BLE001 - shown on the page: nobody would see it in the loop's log
            self._show_error(error)

    def _on_loop(self, work: Callable[[], None]) -> None:
        """Do something on the loop, and wait for it."""

        async def done() -> None:
            work()

        asyncio.run_coroutine_threadsafe(done(), self._loop).result()

    def _settled(self) -> concurrent.futures.Future[None]:
        async def settled() -> None:
            await asyncio.sleep(0)
            while self._sweeping is not None and not self._sweeping.done():
                await asyncio.wait([self._sweeping])
            await self._drawing.idle()
            await self._refreshing.idle()

        return asyncio.run_coroutine_threadsafe(settled(), self._loop)

    def _wire(self) -> None:
        page = self._page
        for widget in (*self.controls.values(), *page.slo.values()):
            widget.observe(lambda _: self._post(self._changed), "value")
        for widget in (*page.values, page.replicates):
            widget.observe(lambda _: self._post(self._tell_code), "value")
        page.situation.observe(lambda change: self._post(lambda: self._take_situation(change["new"])), "value")
        page.client.observe(lambda change: self._post(lambda: self._take_client(change["new"])), "value")
        page.mode.observe(lambda _: self._post(self._change_mode), "value")
        page.question.observe(lambda _: self._post(self._redraw), "value")
        page.swept[0].observe(lambda change: self._post(lambda: self._choose_swept(0, change["new"])), "value")
        page.swept[1].observe(lambda change: self._post(lambda: self._choose_swept(1, change["new"])), "value")
        for button, work in (
            (page.run, self._run),
            (page.cancel, self._cancel),
            (page.pin, self._pin),
            (page.unpin, self._unpin),
        ):
            button.on_click(lambda _, work=work: self._post(work))
        for name, button in page.files.items():
            button.on_click(lambda _, name=name: self._post(lambda: self._keep(name)))

    # ---- on the loop: what is set

    def _changed(self) -> None:
        """Take a control's move: in instant mode run anew, in both tell the code."""
        if self._quiet:
            return
        self._tell_code()
        if self._page.mode.value == INSTANT and self.experiment.simulated:
            self._runner.out_of_date()
            self._refreshing.ask()

    def _take(self, experiment: Experiment) -> None:
        """Let the controls show an experiment, as one change."""
        self._base, self._quiet = experiment, True
        try:
            for name, value in values_of(experiment).items():
                show(BY_NAME[name], self.controls[name], value)
        finally:
            self._quiet = False
        self._changed()

    def _take_situation(self, name: str) -> None:
        if name:
            self._page.client.value = OWN
            self._take(SITUATIONS[name])

    def _take_client(self, name: str) -> None:
        if name != OWN:
            self._take(self.experiment.replace(policy=preset(name)))

    def _take_sweep(self, sweep: Sweep) -> None:
        page = self._page
        for place, (path, axis) in enumerate(sweep.grid.items()):
            page.swept[place].value = BY_PATH[path].name
            page.values[place].value = text_of(axis)
        page.replicates.value = sweep.replicates
        page.mode.value = SWEEP if sweep.grid else INSTANT
        self._take(sweep.base)

    def _choose_swept(self, place: int, name: str) -> None:
        page = self._page
        page.swept[place].value = name
        page.values[place].value = default_values(name) if name else ""
        page.values[place].disabled = not name

    def _change_mode(self) -> None:
        page = self._page
        page.sweep_box.layout.display = "" if page.mode.value == SWEEP else "none"
        self._changed()

    def _tell_code(self) -> None:
        self._page.say(self._page.error, "")
        self._page.code.value = self.code

    # ---- on the loop: instant mode

    def _redraw(self) -> None:
        if not self._quiet and self._shown is not None:
            self._refreshing.ask()

    async def _refresh(self) -> None:
        """Run what is set unless it is what is shown, draw it, and then say it in words."""
        page = self._page
        if page.mode.value == SWEEP:
            await self._draw()
            return
        experiment = self.experiment
        shown = self._shown
        if shown is None or shown.experiment != experiment:
            try:
                result = await self._runner.run(experiment)
            except instant.Stopped:
                return
            shown = await asyncio.to_thread(instant.shown, experiment, result, self._pinned)
        self._shown = shown
        await self._draw()
        page.say(page.error, "")
        if not self._refreshing.is_wanted:
            for place, text in (await instant.words(shown, self.slo)).items():
                page.say(getattr(page, place), text)

    async def _draw(self) -> None:
        shown = self._shown
        if shown is None:
            return
        page = self._page
        self._offer([panel.question for panel in shown.panels])
        page.picture.value = await instant.picture(shown, page.question.value)

    def _offer(self, questions: list[str]) -> None:
        """Let the list of charts hold these questions; the one that is chosen stays if it is among them."""
        chooser = self._page.question
        if list(chooser.options) == questions:
            return
        kept = chooser.value if chooser.value in questions else questions[0]
        self._quiet = True
        try:
            chooser.options = questions
            chooser.value = kept
        finally:
            self._quiet = False

    def _pin(self) -> None:
        if self._shown is None or self._shown.experiment is None:
            raise SettingsError("there is no result of a single setting to pin; go to instant mode first")
        self._pinned = self._shown.result
        self._page.unpin.disabled = False
        self._show_pinned()

    def _unpin(self) -> None:
        self._pinned = None
        self._page.unpin.disabled = True
        self._show_pinned()

    def _show_pinned(self) -> None:
        shown = self._shown
        if shown is not None and shown.experiment is not None:
            self._shown = instant.shown(shown.experiment, shown.result, self._pinned)
        self._refreshing.ask()

    # ---- on the loop: sweep mode

    def _run(self) -> None:
        if self._page.mode.value == INSTANT:
            self._shown = None
            self._refreshing.ask()
        elif self._sweeping is None or self._sweeping.done():
            self._job = SweepJob(self.sweep, self._job_went_on)
            self._sweeping = asyncio.get_running_loop().create_task(self._carry_out(self._job))

    def _cancel(self) -> None:
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
        except Exception as error:  # noqa: BLE001 - shown to the user
            self._show_error(error)
            ended = "failed"
        finally:
            page.run.disabled, page.cancel.disabled = False, True
        page.progress.value = job.done
        page.say(page.status, ended)
        if job.failures:
            first = job.failures[0]
            self._show_error(f"{len(job.failures)} of {job.planned} runs failed. The first: {first.reason}")
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
        job, page = self._job, self._page
        if job is None or not job.runs:
            return
        self._shown = await asyncio.to_thread(instant.shown, None, job.result(), None)
        await self._draw()
        if job.done == job.planned or self._sweeping is None or self._sweeping.done():
            for place, text in (await instant.words(self._shown, self.slo)).items():
                page.say(getattr(page, place), text)

    # ---- on the loop: what is kept, and what went wrong

    def _keep(self, what: str) -> None:
        page = self._page
        file = page.file.value.strip() or "dashboard"
        if what == "load":
            self._take_sweep(keeping.shown_sweep(f"{file}.toml"))
            page.say(page.saved, f"loaded {file}.toml")
            return
        if what == "toml":
            path = self.save(f"{file}.toml")
        elif self._shown is None:
            raise SettingsError("there is no chart to be saved yet; run something first")
        elif what == "html":
            path = keeping.save_report(self._shown.result, f"{file}.html", self.slo)
        else:
            path = keeping.save_chart(self._shown.panel(page.question.value), f"{file}.{what}")
        page.say(page.saved, f"saved as {path.resolve()}")

    def _show_error(self, error: BaseException | str) -> None:
        self._page.say(self._page.error, keeping.told(error), "error-box")

    async def _stop_all(self) -> None:
        self._cancel()
        if self._sweeping is not None:
            await asyncio.wait([self._sweeping])
        await self._drawing.stop()
        await self._refreshing.stop()


def _situation(name: str) -> Experiment:
    if name not in SITUATIONS:
        raise SettingsError(f"there is no situation '{name}'; {nearest(name, SITUATIONS)}")
    return SITUATIONS[name]


def _is_on(loop: asyncio.AbstractEventLoop) -> bool:
    return asyncio._get_running_loop() is loop
