"""Settings as people and files may see them: prompts and answers are counted, with a digest that tells them apart.

What a result calls its runs ends up in frames, stores, reports and messages, so these are taken out where runs are
named: in `Sweep.runs`. Look next at `sweep_result.py`, whose `settings` are made here.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from llmlab.core.backend import Answer
from llmlab.core.plain_data import plain_data
from llmlab.core.settings import Settings, SettingsError, changed_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_WORKLOAD, _REQUESTS = "workload", "workload.requests"
_MOST_VALUES = 20  # of a list, a trace's arrivals say, that are written out
_OPEN = frozenset({"model", "max_tokens", "temperature", "seed"})
"""What may be seen of a request: everything else in it is the user's own text."""


def readable(path: str, value: Any) -> Any:
    """Return a swept setting's value, or where it holds prompts or answers what tells it from others.

    That is a text such as `3 requests (a1b2c3d4)`.
    """
    name = path.rpartition(".")[2]
    if value is None:
        return None
    if path == _WORKLOAD:
        return _workload(value)
    if path == _REQUESTS:
        return _counted(value)
    if path.startswith(_REQUESTS):
        return value if name in _OPEN else f"{'request' if name.isdecimal() else name} ({_digest(value)})"
    return _answers(path, value)


def _answers(path: str, value: Any) -> Any:
    """Return a setting of a backend; where it holds the texts of answers, their number and a digest."""
    *_, holder, name = ("", *path.split("."))
    if name == "text" and holder == "backend" and isinstance(value, str):
        return f"{len(value):,} characters ({_digest(value)})"
    if isinstance(value, list | tuple) and any(isinstance(entry, Answer | dict) for entry in value):
        return f"{len(value):,} scripted ({_digest(value)})"
    return value


def readable_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the swept settings of a point, without prompts; see `readable`."""
    return {path: readable(path, value) for path, value in settings.items()}


def settings_by_path(experiment: Settings) -> dict[str, Any]:
    """Return every setting of an experiment as plain data by its path, for reading; prompts and answers are counted.

    What is the user's own, such as a backend, is named by its type: its repr could be anything.
    """
    return dict(_leaves(experiment, ""))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if path == _REQUESTS:
        yield path, _counted(value)
    elif isinstance(value, Settings):
        for name in type(value).model_fields:
            yield from _leaves(getattr(value, name), f"{path}.{name}" if path else name)
    elif isinstance(value, tuple) and any(isinstance(entry, Settings) for entry in value):
        for number, entry in enumerate(value):
            yield from _leaves(entry, f"{path}.{number}")
    else:
        yield path, _plain(_answers(path, value), path)


def _plain(value: Any, path: str) -> Any:
    if isinstance(value, tuple) and len(value) > _MOST_VALUES:
        return f"{len(value):,} values ({_digest(value)})"
    try:
        return plain_data(value, path)
    except SettingsError:
        return f"a {type(value).__name__}"


def _workload(value: Any) -> str:
    """Return a whole workload as what differs from its defaults."""
    given = changed_settings(value) if isinstance(value, Settings) else dict(value)
    shown = (f"{name}={readable(f'{_WORKLOAD}.{name}', entry)}" for name, entry in given.items())
    return f"{type(value).__name__}({', '.join(shown)})"


def _counted(requests: Any) -> str:
    count = len(requests) if isinstance(requests, list | tuple) else 1
    return f"{count:,} request{'' if count == 1 else 's'} ({_digest(requests)})"


def _digest(value: Any) -> str:
    """Return eight hexadecimal digits that tell a value from others. Reprs hide prompts, so fields are written out."""
    return hashlib.blake2b(repr(_fields(value)).encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()


def _fields(value: Any) -> Any:
    if isinstance(value, Settings):
        return value.model_dump()
    return [_fields(entry) for entry in value] if isinstance(value, list | tuple) else value
