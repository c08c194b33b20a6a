"""Recorded events, from whatever holds them: a log in memory, a file of JSON lines, data frames, a loaded store.

Look next at `replay.py`, which answers by them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, TypeVar

from llmlab.core.client import OUTERMOST
from llmlab.core.events import AttemptEvent, CallEvent
from llmlab.core.settings import SettingsError, nearest
from llmlab.core.vocabulary import BackoffSource, FailureReason, Fate, FinishReason
from llmlab.observers import read_json_lines

if TYPE_CHECKING:
    import pandas as pd

    Events: TypeAlias = "HasEvents | str | os.PathLike[str] | pd.DataFrame | Iterable[AttemptEvent | CallEvent]"
    """An `EventLog`, a result of one run, a file of JSON lines, a frame of attempts, or the events themselves."""

E = TypeVar("E", AttemptEvent, CallEvent)

_WORDS: dict[str, Any] = {
    "reason": FailureReason,
    "last_reason": FailureReason,
    "fate": Fate,
    "finish_reason": FinishReason,
    "backoff_source": BackoffSource,
}


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
        SettingsError: the source is of no such kind, lacks a column, or holds several runs or no attempt.
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
    if hasattr(source, "attempts") and hasattr(source, "calls"):
        return RecordedEvents(_events(AttemptEvent, source.attempts), _events(CallEvent, source.calls))
    if hasattr(source, "columns"):
        return RecordedEvents(_events(AttemptEvent, source), [])
    if isinstance(source, Iterable):
        return _sorted_out(source)
    raise SettingsError(
        "events must be an EventLog, a SweepResult, the name of a file of JSON lines, a data frame of attempts, or "
        f"events; got a {type(source).__name__}"
    )


def _sorted_out(events: Iterable[Any]) -> RecordedEvents:
    attempts: list[AttemptEvent] = []
    calls: list[CallEvent] = []
    for event in events:
        if isinstance(event, AttemptEvent):
            attempts.append(_worded(event))
        elif isinstance(event, CallEvent):
            calls.append(_worded(event))
        else:
            raise SettingsError(f"events must be AttemptEvents and CallEvents, got a {type(event).__name__} among them")
    return RecordedEvents(attempts, calls)


def _events(kind: Any, held: Any) -> list[Any]:
    """Return the rows of a data frame, or a list of events, as events."""
    if not hasattr(held, "columns"):
        return [_worded(event) for event in held]
    missing = [name for name in kind._fields if name not in held.columns]
    if missing:
        raise SettingsError(f"a frame of {kind.__name__}s needs the columns {', '.join(missing)}, which this one lacks")
    columns = [held[name].tolist() for name in kind._fields]
    return [_worded(kind(*row)) for row in zip(*columns, strict=True)]


def _worded(event: E) -> E:
    """Return an event whose words are of their vocabularies: a file has plain texts, a data frame NaN for nothing."""
    changed: dict[str, Any] = {}
    for name, words in _WORDS.items():
        value = getattr(event, name, None)
        if value is not None and not isinstance(value, words):
            changed[name] = None if value != value else _word(name, words, value)  # noqa: PLR0124 - NaN
    worded: Any = event
    return worded._replace(**changed) if changed else event


def _word(name: str, words: Any, value: object) -> Any:
    try:
        return words(value)
    except ValueError:
        raise SettingsError(f"{name} must be one of {', '.join(words)}, got {value!r}") from None


def _refuse_twice(what: str, keys: list[Any]) -> None:
    if len(set(keys)) < len(keys):
        seen: set[Any] = set()
        twice = next(key for key in keys if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise SettingsError(
            f"the events hold {what} {twice} twice, so they are of several runs or clients; choose one (of a frame the "
            "rows of one replicate and setting, of a file the lines of one process)"
        )
