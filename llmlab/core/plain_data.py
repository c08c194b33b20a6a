"""Settings as plain data: what JSON and TOML can hold, and from which an equal value is built again.

Only llmlab's own settings have such a form. A function, an open connection or an object of the user's is refused by
its path, since a file could neither hold it nor, without running code, bring it back. pydantic's own `model_dump` would
turn some of these into texts or lists without a word. Look next at `experiments/experiment.py`, which is saved and told
apart by this.
"""

from __future__ import annotations

import json
import math
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from llmlab.core.backend import Answer, AttemptFailure
from llmlab.core.settings import Settings, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic.fields import FieldInfo

_ROOT = __name__.partition(".")[0]
_UNCHANGED = frozenset({bool, int, str})


def plain_data(value: Any, path: str = "", *, complete: bool = True) -> Any:
    """Return a value as plain data: dicts, lists, texts, numbers, booleans and `None`.

    Args:
        value: settings, or what stands in them.
        path: where it stands, for errors.
        complete: whether settings that were left at their defaults are written out as well. Without them a file reads
            better; with them it means the same under other defaults.

    Raises:
        SettingsError: something in it has no such form; the message names its path.
    """
    if value is None or type(value) in _UNCHANGED:
        return value
    if isinstance(value, Settings):
        return _settings(value, path, complete)
    if isinstance(value, Answer | AttemptFailure):
        return {"kind": "answer" if isinstance(value, Answer) else "failure", **_named(value, path)}
    if isinstance(value, list | tuple):
        return _named(value, path) if hasattr(value, "_fields") else _list(value, path, complete)
    if isinstance(value, frozenset):
        return sorted(_list(value, path, complete))
    if isinstance(value, dict):
        return {_text_key(key, path): free_data(entry, _join(path, key)) for key, entry in value.items()}
    return _scalar(value, path)


def free_data(value: Any, path: str) -> Any:
    """Return data whose form is the user's (options, metadata, a JSON schema): only what JSON gives back unchanged.

    Raises:
        SettingsError: something in it is of another type; the message names its path.
    """
    if isinstance(value, dict):
        return {_text_key(key, path): free_data(entry, _join(path, key)) for key, entry in value.items()}
    if isinstance(value, list):
        return [free_data(entry, _join(path, number)) for number, entry in enumerate(value)]
    return _scalar(value, path)


def canonical_json(data: Any) -> bytes:
    """Return plain data as JSON of one spelling: equal data, in the same order, give the same bytes everywhere."""
    return json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")


def _settings(value: Settings, path: str, complete: bool) -> dict[str, Any]:
    kind = type(value)
    if kind.__module__.partition(".")[0] != _ROOT:
        raise _refusal(value, path)
    tags, others = _fields(kind)
    if complete:  # such data are compared, so they are of one order however the class is written
        names = (*tags, *sorted(others))
    else:
        names = (*tags, *(name for name in others if name in value.model_fields_set))
    return {name: plain_data(getattr(value, name), _join(path, name), complete=complete) for name in names}


@cache
def _fields(kind: type[Settings]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the fields that are tags, in order, and of all others as the class has them."""
    tags = tuple(sorted(name for name, field in kind.model_fields.items() if _is_tag(field)))
    return tags, tuple(name for name in kind.model_fields if name not in tags)


def _is_tag(field: FieldInfo) -> bool:
    """Whether a field only says of which kind its settings are."""
    return get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1


def _list(values: Iterable[Any], path: str, complete: bool) -> list[Any]:
    return [plain_data(entry, _join(path, number), complete=complete) for number, entry in enumerate(values)]


def _named(value: Any, path: str) -> dict[str, Any]:
    return {name: plain_data(entry, _join(path, name)) for name, entry in value._asdict().items()}


def _scalar(value: Any, path: str) -> Any:
    if isinstance(value, Enum):
        return value.value
    if value is None or type(value) in _UNCHANGED or (type(value) is float and math.isfinite(value)):
        return value
    raise _refusal(value, path)


def _text_key(key: Any, path: str) -> str:
    if type(key) is not str:
        raise SettingsError(f"'{path}' has a key that is not a text, a {type(key).__name__}; no file can hold that")
    return key


def _join(path: str, part: str | int) -> str:
    return f"{path}.{part}" if path else str(part)


def _refusal(value: Any, path: str) -> SettingsError:
    if isinstance(value, float):
        what = f"the number {value}"
    elif isinstance(value, type):
        what = f"the class {value.__name__}"
    else:
        what = f"of type {type(value).__name__}"
    where = f"'{path}'" if path else "this"
    return SettingsError(f"{where} is {what}, which no file can hold; use it in Python, or take one of llmlab's own")
