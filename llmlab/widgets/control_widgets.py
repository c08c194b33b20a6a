"""Each control as a widget: a slider where a value lies on a scale, a list where it is a word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from llmlab.core.settings import SettingsError

if TYPE_CHECKING:
    from llmlab.widgets.controls import Control

NONE = "none"
"""What a slider's value is where the setting's is `None`: a slider must stand somewhere."""

_STYLE = {"description_width": "150px"}
_WIDE = {"width": "98%"}


class Scale(widgets.SelectionSlider):  # type: ignore[misc]
    """A slider over given values, which says in words what it does not take."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse a value that the slider has no place for."""
        if name == "value" and value not in (offered := [each for _, each in self.options]):
            raise SettingsError(
                f"{self.description}: {value!r} is not on its slider, which has {', '.join(map(str, offered))}; "
                "`dashboard.set` takes any valid setting"
            )
        super().__setattr__(name, value)


def widget_of(control: Control, value: Any) -> Any:
    """Return the widget of a control, showing a value."""
    common: dict[str, Any] = {
        "description": control.label,
        "tooltip": control.path,
        "style": _STYLE,
        "layout": _WIDE,
    }
    if control.kind == "probability":
        made: Any = widgets.FloatSlider(value or 0.0, min=0.0, max=1.0, step=0.01, readout_format=".2f", **common)
    elif control.kind == "count":
        least, most = control.values
        made = widgets.IntSlider(value, min=least, max=max(most, value), **common)
    elif control.kind == "scale":
        options = _options(control, value)
        made = Scale(options=options, value=_on_scale(options, value), **common)
    elif control.kind == "word":
        made = widgets.Dropdown(options=[(str(word), word) for word in control.values], value=value, **common)
    else:
        made = widgets.IntText(value, **common)
    made.add_class(f"llmlab-{control.name}")
    return made


def value_of(widget: Any) -> Any:
    """Return the setting that a control's widget shows."""
    return None if isinstance(widget, Scale) and widget.value == NONE else widget.value


def show(control: Control, widget: Any, value: Any) -> None:
    """Let a control's widget show a value; a scale that lacks it gets it as a further step."""
    if value is None and control.kind == "probability":
        value = 0.0
    if control.kind == "scale":
        options = _options(control, value)
        if options != list(widget.options):
            widget.options = options
        value = _on_scale(options, value)
    elif control.kind == "count":
        widget.max = max(widget.max, value)
    widget.value = value


def _options(control: Control, value: Any) -> list[tuple[str, Any]]:
    known = list(control.values)
    if value is not None and value not in known:
        known = sorted([*(each for each in known if each is not None), value]) + ([None] if None in known else [])
    return [(NONE, NONE) if each is None else (f"{each:,g}", each) for each in known]


def _on_scale(options: list[tuple[str, Any]], value: Any) -> Any:
    """Return the value, or where there is none and the scale has no word for that, the middle of the scale."""
    values, wanted = [each for _, each in options], NONE if value is None else value
    return wanted if wanted in values else values[len(values) // 2]
