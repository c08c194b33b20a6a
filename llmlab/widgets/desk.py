"""What is set on the dashboard: the controls as one experiment or sweep, and all that changes several of them at once.

Used on the dashboard's event loop; only reading is safe elsewhere. What is shown of it is `screen.py`'s.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from llmlab.analysis.slo import CRITERIA, SLO
from llmlab.analysis.wording import counted
from llmlab.backends.faults import Faults
from llmlab.backends.ollama import OllamaBackend
from llmlab.backends.with_faults import WithFaults
from llmlab.core.presets import preset
from llmlab.core.settings import SettingsError
from llmlab.exports.as_code import as_code
from llmlab.llms import AsyncLocalLLM
from llmlab.widgets.control_widgets import show, value_of
from llmlab.widgets.controls import BY_NAME, BY_PATH, experiment_with, values_of
from llmlab.widgets.page import OLLAMA, OWN, SWEEP, default_values
from llmlab.widgets.situations import SITUATIONS
from llmlab.widgets.sweeping import sweep_over
from llmlab.widgets.swept_values import text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlab.experiments.experiment import Experiment
    from llmlab.experiments.sweep import Sweep
    from llmlab.widgets.page import Page

_FEW_CALLS = 20  # to a real server, unless more are asked for


class Desk:
    """The settings on the page."""

    def __init__(self, page: Page, base: Experiment, changed: Callable[[], object]) -> None:
        """Take the page, what no control shows, and what is to be called when a setting has changed."""
        self._page = page
        self._base = base
        self._further_goals: dict[str, Any] = {}  # of an SLO: what no slider of the page shows
        self._simulated = base.backend
        self._swept: list[str | None] = [None, None]
        self._tell = changed
        self._telling: asyncio.Handle | None = None

    @property
    def experiment(self) -> Experiment:
        """The experiment that the controls make.

        Raises:
            SettingsError: their values do not go together.
        """
        shown = {name: value_of(widget) for name, widget in self._page.controls.items() if not widget.disabled}
        return experiment_with(self._base, shown)

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
    def is_sweep(self) -> bool:
        """Whether the page is in sweep mode."""
        return bool(self._page.mode.value == SWEEP)

    @property
    def slo(self) -> SLO | None:
        """What has to be kept; `None` where nothing is asked for."""
        targets = {name: value_of(widget) for name, widget in self._page.slo.items()}
        given = self._further_goals | {name: target for name, target in targets.items() if target is not None}
        return SLO(**given) if any(criterion.name in given for criterion in CRITERIA) else None

    def ask_for(self, slo: SLO) -> None:
        """Hold results against this SLO, whose criteria the page's sliders show where it has them."""
        self._further_goals = {name: value for name, value in slo if name not in self._page.slo and value is not None}
        for criterion, target in slo.targets().items():
            if criterion.name in self._page.slo:
                self._page.ask_for(criterion.name, target)

    @property
    def code(self) -> str:
        """The Python that reproduces what is set; where a part of it is no text, a comment that says so.

        Raises:
            SettingsError: a value is wrong.
        """
        return self._code(prompts=True)

    @property
    def shown_code(self) -> str:
        """The same as the page shows it, without prompts: notebooks are stored with what their pages show."""
        return self._code(prompts=False)

    def _code(self, *, prompts: bool) -> str:
        what, name = (self.sweep, "sweep") if self.is_sweep else (self.experiment, "experiment")
        try:
            return f"{as_code(what, prompts=prompts)}result = {name}.run()\n"
        except SettingsError as error:
            return f"# {error}\n"

    def changed(self) -> None:
        """Take a control's move: tell of it once, however many others move in the same instant."""
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_soon(self._tell_once)

    def _tell_once(self) -> None:
        self._telling = None
        self._tell()

    def take(self, experiment: Experiment) -> None:
        """Let the controls show an experiment."""
        self._base = experiment
        for name, value in values_of(experiment).items():
            self._page.controls[name].disabled = not BY_NAME[name].is_in(experiment)
            show(BY_NAME[name], self._page.controls[name], value)
        self.changed()

    def take_base(self) -> None:
        """Let the controls show what the desk began with."""
        self.take(self._base)

    def take_situation(self, name: str) -> None:
        """Begin anew with one of `SITUATIONS`; an empty name changes nothing."""
        if name:
            self._page.client.value = OWN
            self.take(SITUATIONS[name])

    def take_client(self, name: str) -> None:
        """Let the client behave as a preset does."""
        if name != OWN:
            self.take(self.experiment.replace(policy=preset(name)))

    def take_backend(self, name: str) -> None:
        """Go over to Ollama, with the faults that are set put in front of it, or back to the simulated server."""
        now = self.experiment
        if name == OLLAMA:
            self._simulated = now.backend
            faults = getattr(now.backend, "faults", Faults())
            few = now.workload.replace(calls=min(_FEW_CALLS, now.workload.calls or _FEW_CALLS))
            self.take(now.replace(backend=WithFaults(OllamaBackend(), faults=faults), workload=few))
        elif not now.simulated:
            self.take(now.replace(backend=self._simulated))

    def take_sweep(self, sweep: Sweep) -> None:
        """Let the page show a sweep over one or two of its controls, or one without a grid as a single setting."""
        page = self._page
        for place, (path, axis) in enumerate(sweep.grid.items()):
            self.choose_swept(place, BY_PATH[path].name)
            page.values[place].value = text_of(axis)
        if len(sweep.grid) == 1:
            self.choose_swept(1, "")
        page.replicates.value = sweep.replicates
        page.mode.value = SWEEP if sweep.grid else page.mode.options[0]
        self.take(sweep.base)

    def choose_swept(self, place: int, name: str) -> None:
        """Sweep over this control, with the values that suit it; an empty name leaves this place free."""
        page = self._page
        if self._swept[place] == name:
            return
        self._swept[place] = page.swept[place].value = name
        page.values[place].value = default_values(name) if name else ""
        page.values[place].disabled = not name
        self.changed()

    async def look_for_ollama(self) -> None:
        """Offer Ollama where a server answers that has a model; else say why not."""
        page = self._page
        async with AsyncLocalLLM() as llm:
            found = await llm.describe()
        page.backend.disabled = not found.models
        if found.models:
            told = f"Ollama {found.version or ''} at {found.base_url}, {counted(len(found.models), 'model')}"
        else:
            told = found.problems[0] if found.problems else "Ollama has no model; try `ollama pull llama3.2`"
        page.say(page.backend_note, told)
