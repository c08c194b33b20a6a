"""`SweepDashboard`: a laboratory bench in a notebook. Move a control, and see what becomes of the calls.

All state lives on one event loop in a thread of its own: a front end's messages come on several threads, each perhaps
with a loop of its own. Handlers only post to that loop, and what they bring about is shown by setting traits; nothing
is printed. `desk.py` is what is set, `screen.py` what is shown, `page.py` what it looks like. All of it can be had
without the dashboard: `Experiment.run`, `llmlab.plots`, `reading`, `recommend`, `as_code`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import TYPE_CHECKING, Any

from llmlab.core.settings import SettingsError, nearest
from llmlab.experiments.experiment import Experiment
from llmlab.experiments.sweep import Sweep
from llmlab.sync import LoopThread
from llmlab.widgets import keeping
from llmlab.widgets.coalescing import Latest
from llmlab.widgets.controls import check_swept, experiment_with, values_of
from llmlab.widgets.desk import Desk
from llmlab.widgets.page import SWEEP, Page
from llmlab.widgets.screen import Screen
from llmlab.widgets.situations import SITUATIONS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llmlab.analysis.slo import SLO
    from llmlab.experiments.sweep_result import SweepResult

_FIRST_SITUATION, _FIRST_SWEPT = "timeouts", "timeout_probability"


class SweepDashboard:
    """Controls for an experiment, and what becomes of its calls.

        from llmlab.widgets import SweepDashboard

        dashboard = SweepDashboard()
        dashboard

    In *instant* mode each change runs the simulation and redraws the chart; in *sweep* mode one or two settings are
    swept over. Without a front end it works the same: `dashboard.set(max_retries=2)`, `dashboard.wait()`, and look at
    `dashboard.result`. Each control's widget is in `dashboard.controls`; a slider's "none" is the value `"none"`.

    Args:
        experiment: what to start from: an experiment, or the name of one of `SITUATIONS`.
        slo: what has to be kept; the recommendation is held against it, also where the page has no slider for a
            criterion.

    Raises:
        SettingsError: there is no situation of this name.
    """

    def __init__(self, experiment: Experiment | str | None = None, *, slo: SLO | None = None) -> None:
        start = _FIRST_SITUATION if experiment is None else experiment
        base = _situation(start) if isinstance(start, str) else start
        self._loop = LoopThread.shared().loop
        self._page = page = Page(values_of(base))
        self.controls: dict[str, Any] = page.controls
        """The widget of each control, by name."""
        self._desk = Desk(page, base, lambda: self._guarded(self._changed))
        self._screen = Screen(page, self._desk)
        self._looking = Latest(self._desk.look_for_ollama, self._screen.show_error)
        self._closed = False
        if isinstance(start, str):
            page.situation.value = start
        if slo is not None:
            self._desk.ask_for(slo)
        self._wire()
        self._post(self._begin)

    # ---- what a program may ask of it

    @property
    def experiment(self) -> Experiment:
        """The experiment that the controls make.

        Raises:
            SettingsError: their values do not go together.
        """
        return self._desk.experiment

    @property
    def sweep(self) -> Sweep:
        """The sweep that the page's fields describe.

        Raises:
            SettingsError: a value is wrong.
        """
        return self._desk.sweep

    @property
    def code(self) -> str:
        """The Python that reproduces what is set: the experiment, or in sweep mode the sweep.

        Raises:
            SettingsError: a value is wrong.
        """
        return self._desk.code

    @property
    def slo(self) -> SLO | None:
        """What has to be kept; `None` where nothing is asked for."""
        return self._desk.slo

    @property
    def result(self) -> SweepResult | None:
        """What is shown, with its data frames `calls` and `attempts`; `None` before the first run has ended."""
        shown = self._screen.shown
        return None if shown is None else shown.result

    @property
    def reading(self) -> str:
        """What the page says of the result, as HTML."""
        return str(self._page.reading.value)

    @property
    def error(self) -> str:
        """What the page says went wrong, as HTML; empty where nothing did."""
        return str(self._page.error.value)

    @property
    def mode(self) -> str:
        """`"instant"` or `"sweep"`; may be set."""
        return str(self._page.mode.value)

    @mode.setter
    def mode(self, mode: str) -> None:
        if mode not in self._page.mode.options:
            raise SettingsError(f"there is no mode '{mode}'; {nearest(mode, self._page.mode.options)}")
        self._page.mode.value = mode

    def set(self, **values: Any) -> None:
        """Set controls by their names (`dashboard.controls` has them all), on their sliders' scales or off them.

        dashboard.set(calls=300, timeout_probability=0.25, total_timeout=None)

        Raises:
            SettingsError: there is no such control, or the values are not valid; nothing has changed then.
        """
        for name in values:
            if name not in self.controls:
                raise SettingsError(f"there is no control '{name}'; {nearest(name, self.controls)}")
        experiment = experiment_with(self._desk.experiment, values)
        self._on_loop(lambda: self._desk.take(experiment))

    def sweep_over(self, first: tuple[str, str], second: tuple[str, str] = ("", ""), *, replicates: int = 1) -> None:
        """Go to sweep mode and fill in its fields: names of controls, each with its values as text.

        dashboard.sweep_over(("timeout_probability", "0 to 0.5 in 6"), ("max_retries", "0, 1, 2"))

        Raises:
            SettingsError: there is no such control, or it cannot be swept over; nothing has changed then. Wrong values
                are told on the page, and by `sweep`, as those typed into it are.
        """
        check_swept([name for name, _ in (first, second) if name])

        def fill_in() -> None:
            for place, (name, values) in enumerate((first, second)):
                self._desk.choose_swept(place, name)
                self._page.values[place].value = values
            self._page.replicates.value = replicates
            self._page.mode.value = SWEEP

        self._on_loop(fill_in)

    def run(self) -> None:
        """Do what the page's Run does: run the setting, or begin the sweep."""
        self._post(self._screen.run)

    def cancel(self) -> None:
        """Stop what runs; what is finished of a sweep is kept and shown."""
        self._post(self._screen.cancel)

    def pin(self) -> None:
        """Keep what is shown, to compare later settings with, call by call."""
        self._post(self._screen.pin)

    def unpin(self) -> None:
        """Compare no longer."""
        self._post(self._screen.unpin)

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
        return (self._desk.sweep if self._desk.is_sweep else Sweep(self._desk.experiment)).save(path)

    def load(self, path: str | Path) -> None:
        """Take the settings of such a file.

        Raises:
            SettingsError: the file cannot be read, or holds a sweep that the dashboard cannot show.
        """
        sweep = keeping.shown_sweep(path)
        self._on_loop(lambda: self._desk.take_sweep(sweep))

    def close(self) -> None:
        """Stop all work and take the page away."""
        self._closed = True
        stopped = asyncio.run_coroutine_threadsafe(self._stop(), self._loop)
        if asyncio._get_running_loop() is not self._loop:
            stopped.result(5.0)
        self._page.close()

    def _repr_mimebundle_(self, **_: Any) -> Any:
        bundle = self._page.box._repr_mimebundle_()
        bundle["text/plain"] = repr(self)
        return bundle

    def __repr__(self) -> str:
        return f"<SweepDashboard: {self.mode}, {'no result yet' if self.result is None else self.result}>"

    # ---- from the front end's threads to the loop

    def _post(self, work: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(self._guarded, work)

    def _guarded(self, work: Callable[[], object]) -> None:
        if self._closed:
            return
        try:
            work()
        except Exception as error:  # noqa: BLE001 - shown on the page: nobody would see it in the loop's log
            self._screen.show_error(error)

    def _on_loop(self, work: Callable[[], None]) -> None:
        """Do something on the loop, and wait for it."""

        async def done() -> None:
            work()

        asyncio.run_coroutine_threadsafe(done(), self._loop).result()

    def _settled(self) -> concurrent.futures.Future[None]:
        async def settled() -> None:
            await asyncio.sleep(0)
            await self._screen.idle()
            await self._looking.idle()

        return asyncio.run_coroutine_threadsafe(settled(), self._loop)

    def _wire(self) -> None:
        page, desk, screen = self._page, self._desk, self._screen
        for widget in (*self.controls.values(), *page.values, page.replicates, page.mode):
            widget.observe(lambda _: self._post(desk.changed), "value")
        for widget in page.slo.values():
            widget.observe(lambda _: self._post(screen.judge), "value")
        for widget, take in (
            (page.situation, desk.take_situation),
            (page.client, desk.take_client),
            (page.backend, desk.take_backend),
            (page.swept[0], lambda name: desk.choose_swept(0, name)),
            (page.swept[1], lambda name: desk.choose_swept(1, name)),
        ):
            widget.observe(lambda change, take=take: self._post(lambda: take(change["new"])), "value")
        page.question.observe(lambda _: self._post(screen.redraw), "value")
        for button, work in (
            (page.run, screen.run),
            (page.cancel, screen.cancel),
            (page.pin, screen.pin),
            (page.unpin, screen.unpin),
            (page.look_again, self._looking.ask),
        ):
            button.on_click(lambda _, work=work: self._post(work))
        for name, button in page.files.items():
            button.on_click(lambda _, name=name: self._post(lambda: self._keep(name)))

    # ---- on the loop

    def _begin(self) -> None:
        self._desk.choose_swept(0, _FIRST_SWEPT)
        self._desk.take_base()
        self._looking.ask()

    def _changed(self) -> None:
        self._page.show_sweep_fields(shown=self._desk.is_sweep)
        self._screen.changed()

    def _keep(self, what: str) -> None:
        page = self._page
        file = page.file.value.strip() or "dashboard"
        if what == "load":
            self._desk.take_sweep(keeping.shown_sweep(f"{file}.toml"))
            page.say(page.saved, f"loaded {file}.toml")
        elif what == "toml":
            page.say(page.saved, f"saved as {self.save(f'{file}.toml').resolve()}")
        else:
            self._screen.keep(file, what)

    async def _stop(self) -> None:
        await self._looking.stop()
        await self._screen.stop()


def _situation(name: str) -> Experiment:
    if name not in SITUATIONS:
        raise SettingsError(f"there is no situation '{name}'; {nearest(name, SITUATIONS)}")
    return SITUATIONS[name]
