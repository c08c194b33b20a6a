"""The values of a sweep as a user writes them in a text field: `0, 0.1, 0.2`, `0 to 0.5 in 6`, `1 to 100 in 5 log`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from llmlab.core.settings import SettingsError
from llmlab.experiments.axes import LinearRange, LogRange

if TYPE_CHECKING:
    from llmlab.widgets.controls import Control

_NUMBER = r"[-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?"
_RANGE = re.compile(rf"\s*({_NUMBER})\s+to\s+({_NUMBER})\s+in\s+([0-9]{{1,6}})\s*(log)?\s*")
_HOW = "write them as '0, 0.1, 0.2', as '0 to 0.5 in 6' or as '1 to 100 in 5 log'"


def swept_values(control: Control, text: str) -> tuple[Any, ...] | LinearRange | LogRange:
    """Return the values that a text names for a control, in the form that a `Sweep` takes.

    Raises:
        SettingsError: it names none, or none of the right kind; the message says how to write them.
    """
    whole = _is_whole(control)
    if match := _RANGE.fullmatch(text):
        kind = LogRange if match[4] else LinearRange
        return kind(float(match[1]), float(match[2]), int(match[3]), whole=whole)
    words = [word.strip().strip("'\"") for word in text.split(",") if word.strip()]
    if not words:
        raise SettingsError(f"{control.label}: no values to sweep over; {_HOW}")
    return tuple(_value(control, word, whole=whole) for word in words)


def text_of(values: Any) -> str:
    """Return values as they are written in a text field."""
    if isinstance(values, LinearRange | LogRange):
        log = " log" if isinstance(values, LogRange) else ""
        return f"{values.low:g} to {values.high:g} in {values.num}{log}"
    return ", ".join("none" if value is None else str(value) for value in values)


def _is_whole(control: Control) -> bool:
    return all(isinstance(value, int) for value in control.swept)


def _value(control: Control, word: str, *, whole: bool) -> Any:
    if word.lower() == "none" and None in control.values:
        return None
    if control.kind == "word":
        return word  # the experiment says which words there are
    try:
        return int(word) if whole else float(word)
    except ValueError:
        kind = "a whole number" if whole else "a number"
        raise SettingsError(f"{control.label}: '{word[:40]}' is not {kind}; {_HOW}") from None
