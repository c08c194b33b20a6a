"""Recorded events, from whatever holds them: a log in memory, a file of JSON lines, data frames, a loaded store.

Look next at `replay.py`, which answers by them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from llmlab.core.client import OUTERMOST
from llmlab.core.events import ATTEMPT_COLUMNS, CALL_COLUMNS, VOCABULARIES, AttemptEvent, CallEvent
from llmlab.core.settings import SettingsError, nearest
from llmlab.observers import read_json_lines

if TYPE_CHECKING:
    import pandas as pd

    from llmlab.core.events import Column

    Events: TypeAlias = "HasEvents | str | os.PathLike[str] | pd.DataFrame | Iterable[AttemptEvent | CallEvent]"
    """An `EventLog`, a result of one run, a file of JSON lines, a frame of attempts, or the events themselves."""


class HasEvents(Protocol):
    """An `EventLog` or a `SweepResult`: what holds events as lists or as data frames."""

    @property
    def attempts(self) -> list[AttemptEvent] | pd.DataFrame:
        """The attempts."""
        ...

    @property
    def calls(self) -> list[CallEvent] | pd.DataFrame:
        """The calls."""
        ...


class RecordedEvents(NamedTuple):
    """The attempts and calls of one run as one client saw them. There are no calls where only attempts were given."""

    attempts: list[AttemptEvent]
    calls: list[CallEvent]


def recorded_events(source: Events, layer: str | None = None) -> RecordedEvents:
    """Return the events of one run.

    Args:
        source: where they are.
        layer: which client's, where clients were stacked; `None` means the outermost.

    Raises:
        SettingsError: the source is of no such kind, lacks a column, has a value of another type, or holds several
            runs or no attempt.
        ValueError: a line of the file is no event.
        OSError: the file cannot be read.
    """
    found = _read(source)
    layers = sorted({event.layer for event in found.attempts} | {event.layer for event in found.calls})
    wanted = (OUTERMOST if OUTERMOST in layers else layers[0] if len(layers) == 1 else None) if layer is None else layer
    if layers and wanted not in layers:
        asked = "say which with layer=" if layer is None else f"there is no layer '{layer}'; {nearest(layer, layers)}"
        raise SettingsError(f"the events are of the layers {', '.join(layers)}: {asked}")
    attempts = [event for event in found.attempts if event.layer == wanted]
    if not attempts:
        raise SettingsError("there is no attempt among the events; record some with an EventLog or JsonLinesObserver")
    calls = [event for event in found.calls if event.layer == wanted]
    _refuse_twice("attempt", [(event.call, event.attempt) for event in attempts])
    _refuse_twice("call", [event.call for event in calls])
    return RecordedEvents(attempts, calls)


def _read(source: Any) -> RecordedEvents:
    if isinstance(source, str | os.PathLike):
        if Path(source).is_dir():
            where = f"SweepResult.load({str(source)!r})"
            raise SettingsError(f"{source} is a directory; for a store of one run give {where}")
        return _sorted_out(read_json_lines(source))
    attempts, calls = getattr(source, "attempts", None), getattr(source, "calls", None)  # once: a log makes them anew
    if attempts is not None and calls is not None:
        return RecordedEvents(_events(AttemptEvent, attempts), _events(CallEvent, calls))
    if hasattr(source, "columns"):
        return RecordedEvents(_events(AttemptEvent, source), [])
    if isinstance(source, Iterable):
        return _sorted_out(source)
    raise SettingsError(
        "events must be an EventLog, a SweepResult, the name of a file of JSON lines, a data frame of attempts, or "
        f"events; got a {type(source).__name__}"
    )


def _sorted_out(events: Iterable[Any]) -> RecordedEvents:
    found: dict[type, list[Any]] = {AttemptEvent: [], CallEvent: []}
    for event in events:
        if type(event) not in found:
            raise SettingsError(f"events must be AttemptEvents and CallEvents, got a {type(event).__name__} among them")
        found[type(event)].append(event)
    return RecordedEvents(_events(AttemptEvent, found[AttemptEvent]), _events(CallEvent, found[CallEvent]))


def _events(kind: Any, held: Any) -> list[Any]:
    """Return the rows of a data frame, or a list of events, as events that can be relied on."""
    declared = ATTEMPT_COLUMNS if kind is AttemptEvent else CALL_COLUMNS
    names = [column.name for column in declared]
    if not hasattr(held, "columns"):
        values = [list(each) for each in zip(*held, strict=True)] or [[] for _ in names]
    else:
        missing = [name for name in names if name not in held.columns]
        if missing:
            lacking = ", ".join(missing)
            raise SettingsError(f"a frame of {kind.__name__}s needs the columns {lacking}, which this one lacks")
        values = [held[name].tolist() for name in names]
    columns = [_checked(column, each) for column, each in zip(declared, values, strict=True)]
    return [kind._make(row) for row in zip(*columns, strict=True)]


def _checked(column: Column, values: list[Any]) -> list[Any]:
    """Return a column with its words made those of its vocabulary: a file has plain texts, a frame NaN for nothing."""
    name = column.name
    if column.kind != "word":
        wrong = {type(value) for value in values} - {bool, int, float}
        if wrong or (name.endswith("_at_s") and not all(map(math.isfinite, values))):
            got = f"a {wrong.pop().__name__}" if wrong else "NaN or infinity"
            raise SettingsError(f"{name} of an event must be a number, got {got}")
        return values
    words = VOCABULARIES.get(name)
    if words is None:
        return values
    known = {value: _word(name, words, value) for value in set(values)}
    return [known[value] for value in values]


def _word(name: str, words: dict[str, Any], value: Any) -> Any:
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return None
    if value not in words:
        raise SettingsError(f"{name} must be one of {', '.join(words)}, got {value!r}")
    return words[value]


def _refuse_twice(what: str, keys: list[Any]) -> None:
    if len(set(keys)) < len(keys):
        seen: set[Any] = set()
        twice = next(key for key in keys if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise SettingsError(
            f"the events hold {what} {twice} twice, so they are of several runs or clients; choose one (of a frame the "
            "rows of one replicate and setting, of a file the lines of one process)"
        )
