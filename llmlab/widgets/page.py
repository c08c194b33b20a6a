"""The dashboard's page: its widgets and where they stand. What they do is `dashboard.py`'s.

Every widget that a person or a test looks for has a class `llmlab-<name>`. Texts take their colours from the notebook's
theme, so that they read well on light and on dark; nothing is told by colour alone.
"""

from __future__ import annotations

import base64
import html
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from llmlab.core.presets import PRESETS
from llmlab.widgets.control_widgets import NONE, Scale, widget_of
from llmlab.widgets.controls import CONTROLS
from llmlab.widgets.situations import SITUATIONS
from llmlab.widgets.swept_values import text_of

if TYPE_CHECKING:
    from collections.abc import Mapping

INSTANT, SWEEP = "instant", "sweep"
SIMULATED, OLLAMA = "simulated", "Ollama"
OWN = "(as set)"

_BLANK = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="
)
_CSS = """<style>
.llmlab-dashboard .llmlab-text .widget-html-content { line-height: 1.45; font-size: 14px; }
.llmlab-dashboard .llmlab-picture { border-radius: 4px; border: 1px solid var(--jp-border-color2, #ccc); }
.llmlab-dashboard .llmlab-note { color: var(--jp-ui-font-color1, inherit); }
.llmlab-dashboard .llmlab-error-box { border-left: 4px solid #d55e00; padding: 6px 10px; margin: 4px 0;
  background: rgba(213, 94, 0, 0.12); color: var(--jp-ui-font-color1, inherit); white-space: pre-wrap; }
.llmlab-dashboard :is(.widget-toggle-buttons, .jupyter-widget-toggle-buttons),
.llmlab-dashboard :is(.widget-toggle-buttons, .jupyter-widget-toggle-buttons) > div { display: flex;
  flex-flow: row nowrap; align-items: center; }
.llmlab-dashboard .widget-toggle-button.mod-active::before { content: "\\2713\\00a0"; }
.llmlab-dashboard textarea { font-family: var(--jp-code-font-family, monospace); font-size: 13px; }
.llmlab-dashboard :focus-visible { outline: 2px solid #0072b2; outline-offset: 1px; }
</style>"""
_GROUPS = {
    "faults": "Server: faults and slots",
    "more faults": "Server: rarer faults",
    "client": "Client: retries, timeouts, limits",
    "load": "Load",
    "run": "Run",
}
_LABELLED = {"description_width": "150px"}
_WIDE = {"width": "98%"}


class Page:
    """All widgets of a dashboard, and `box`, which holds them."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.controls = {control.name: widget_of(control, values[control.name]) for control in CONTROLS}
        self.situation = _list("situation", ["", *SITUATIONS], "situation", _LABELLED)
        self.client = _list("client", [OWN, *PRESETS], "client", _LABELLED)
        self.backend = widgets.ToggleButtons(
            options=[SIMULATED, OLLAMA],
            description="backend",
            disabled=True,
            style={"button_width": "105px", "description_width": "60px"},
            layout=_WIDE,
        )
        self.backend_note = _text("backend-note")
        self.look_again = _button("look-again", "Look for Ollama", "ask again whether an Ollama server answers")
        self.mode = widgets.ToggleButtons(
            options=[INSTANT, SWEEP],
            description="mode",
            style={"button_width": "90px", "description_width": "45px"},
            layout={"width": "260px"},
        )
        self.question = widgets.Dropdown(
            options=[],
            description="chart",
            style={"description_width": "45px"},
            layout={"flex": "1 1 320px", "max_width": "420px", "width": "auto"},
        )
        self.picture = widgets.Image(value=_BLANK, format="png", layout=_WIDE)
        self.reading, self.against, self.verdict = _text("reading"), _text("against"), _text("verdict")
        self.error, self.status = _text("error"), _text("status")
        self.run = _button("run", "Run", "run it", button_style="primary")
        self.cancel = _button("cancel", "Cancel", "stop, and keep what is finished", disabled=True)
        self.progress = widgets.IntProgress(
            min=0, max=1, description="progress", style={"description_width": "70px"}, layout={"display": "none"}
        )
        self.pin = _button("pin", "Pin", "keep this result to compare with")
        self.unpin = _button("unpin", "Unpin", "compare no longer", disabled=True)
        self.swept = [
            _list("swept-1", _swept(), "over", _LABELLED),
            _list("swept-2", ["", *_swept()], "and", _LABELLED),
        ]
        self.values = [_field("values-1", "values"), _field("values-2", "values")]
        self.replicates = widgets.IntSlider(1, min=1, max=10, description="replicates", style=_LABELLED, layout=_WIDE)
        self.slo = {name: _goal(name, label, scale) for name, label, scale in _GOALS}
        self.code = widgets.Textarea(description="code", layout={"width": "98%", "height": "220px"})
        self.file = widgets.Text("dashboard", description="file name", style=_LABELLED, layout=_WIDE)
        self.files = {name: _button(f"save-{name}", label, tip) for name, label, tip in _FILES}
        self.saved = _text("saved")
        self._name()
        self.box = self._laid_out()

    def _name(self) -> None:
        named = {
            "backend": self.backend,
            "mode": self.mode,
            "question": self.question,
            "picture": self.picture,
            "progress": self.progress,
            "replicates": self.replicates,
            "code": self.code,
            "file": self.file,
        }
        for name, widget in named.items():
            widget.add_class(f"llmlab-{name}")

    def _laid_out(self) -> Any:
        groups = {
            group: [self.controls[control.name] for control in CONTROLS if control.group == group] for group in _GROUPS
        }
        accordion = widgets.Accordion([widgets.VBox(some) for some in groups.values()], layout=_WIDE)
        accordion.titles = tuple(_GROUPS.values())
        accordion.selected_index = 0
        goals = widgets.Accordion([widgets.VBox(list(self.slo.values()))], layout=_WIDE)
        goals.titles = ("What has to be kept (SLO)",)
        goals.selected_index = None
        backend = widgets.VBox([self.backend, self.look_again, self.backend_note])
        left = widgets.VBox(
            [self.situation, self.client, accordion, goals, backend], layout={"flex": "0 1 360px", "min_width": "0"}
        )
        self.sweep_box = widgets.VBox(
            [self.swept[0], self.values[0], self.swept[1], self.values[1], self.replicates], layout={"display": "none"}
        )
        top = widgets.HBox([self.mode, self.question], layout={"flex_flow": "row wrap"})
        buttons = widgets.HBox(
            [self.run, self.cancel, self.pin, self.unpin, self.progress, self.status],
            layout={"flex_flow": "row wrap"},
        )
        right = widgets.VBox(
            [
                top,
                self.sweep_box,
                buttons,
                self.error,
                self.reading,
                self.against,
                self.verdict,
                self.picture,
                self._to_take_away(),
            ],
            layout={"flex": "1 1 440px", "min_width": "0", "max_width": "920px", "overflow": "visible"},
        )
        box = widgets.VBox(
            [widgets.HTML(_CSS), widgets.HBox([left, right], layout={"flex_flow": "row wrap", "width": "100%"})]
        )
        box.add_class("llmlab-dashboard")
        return box

    def _to_take_away(self) -> Any:
        files = widgets.HBox(list(self.files.values()), layout={"flex_flow": "row wrap"})
        away = widgets.Accordion([widgets.VBox([self.code, self.file, files, self.saved])], layout=_WIDE)
        away.titles = ("Take it with you: code, settings, chart, report",)
        away.selected_index = None
        return away

    def offer(self, questions: list[str]) -> None:
        """Let the list of charts hold these questions; the one that is chosen stays if it is among them."""
        chooser = self.question
        if list(chooser.options) != questions:
            kept = chooser.value if chooser.value in questions else questions[0]
            chooser.options = questions  # which chooses the first
            chooser.value = kept

    def show_sweep_fields(self, *, shown: bool) -> None:
        """Show the fields of a sweep and its progress, or hide them."""
        for widget in (self.sweep_box, self.progress):
            widget.layout.display = "" if shown else "none"

    def ask_for(self, criterion: str, target: float) -> None:
        """Let the page ask for a criterion of an SLO; its scale gets the target as a step."""
        slider = self.slo[criterion]
        steps = sorted({target, *(value for _, value in slider.options if value != NONE)})
        slider.options = [(NONE, NONE), *((f"{value:g}", value) for value in steps)]
        slider.value = target

    def close(self) -> None:
        """Take every widget away, with its channel to the front end."""
        for widget in _below(self.box):
            widget.close()

    def say(self, widget: Any, text: str, kind: str = "note") -> None:
        """Show a text in one of the page's places; an empty one shows nothing."""
        shown = f"<div class='llmlab-{kind}'>{html.escape(text)}</div>" if text else ""
        if widget.value != shown:
            widget.value = shown


_GOALS = (
    ("success_rate", "answered, at least", (0.9, 0.95, 0.99, 0.995, 0.999)),
    ("p95_latency_s", "p95 latency (s), at most", (1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0)),
    ("max_amplification", "attempts per call, at most", (1.05, 1.1, 1.2, 1.3, 1.5, 2.0)),
)
_FILES = (
    ("toml", "Save settings (TOML)", "write the settings as a file that Sweep.load and `llmlab sweep` read"),
    ("load", "Load settings", "read the settings of such a file"),
    ("png", "Save chart (PNG)", "write the chart as an image"),
    ("svg", "Save chart (SVG)", "write the chart as a vector image"),
    ("html", "Save report (HTML)", "write all charts and numbers as one page"),
)


def _below(widget: Any) -> list[Any]:
    """Return a widget and all that it holds."""
    inside = [each for child in getattr(widget, "children", ()) for each in _below(child)]
    return [*inside, widget]


def _swept() -> list[tuple[str, str]]:
    return [(control.label, control.name) for control in CONTROLS if control.swept]


def _list(name: str, options: list[Any], label: str, style: dict[str, str]) -> Any:
    made = widgets.Dropdown(options=[(each, each) if isinstance(each, str) else each for each in options])
    made.description, made.style, made.layout = label, style, _WIDE
    made.add_class(f"llmlab-{name}")
    return made


def _field(name: str, label: str) -> Any:
    made = widgets.Text(description=label, style=_LABELLED, layout=_WIDE, continuous_update=False)
    made.add_class(f"llmlab-{name}")
    return made


def _goal(name: str, label: str, scale: tuple[float, ...]) -> Any:
    options = [(NONE, NONE), *((f"{value:g}", value) for value in scale)]
    made = Scale(options=options, value=NONE, description=label, style=_LABELLED, layout=_WIDE)
    made.add_class(f"llmlab-{name}")
    return made


def _text(name: str) -> Any:
    made = widgets.HTML("")
    made.add_class("llmlab-text")
    made.add_class(f"llmlab-{name}")
    return made


def _button(name: str, label: str, tip: str, **look: Any) -> Any:
    made = widgets.Button(description=label, tooltip=tip, layout={"width": "auto", "flex": "0 0 auto"}, **look)
    made.add_class(f"llmlab-{name}")
    return made


def default_values(name: str) -> str:
    """Return the values that a sweep over a control tries at first, as text."""
    return text_of(next(control.swept for control in CONTROLS if control.name == name))
