"""A setting by its path: `policy.retry.max_retries` is the field `max_retries` of the field `retry` of `policy`.

Sweeps change the settings of experiments by their paths, and a recommendation names them so.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

from llmlab.backends.kinds import as_backend, backend_settings
from llmlab.core.client import AsyncClient
from llmlab.core.settings import Settings, SettingsError, nearest, setting_names


def with_setting(value: Any, path: str, new: Any, *, whole: str = "") -> Any:
    """Return a copy of a settings value with the setting at this path changed.

    Raises:
        SettingsError: there is no such path, or the new value is not valid there.
    """
    name, _, rest = path.partition(".")
    whole = whole or path
    if isinstance(value, Settings):
        if not rest:
            return _replaced(value, name, new, whole)
        if name not in type(value).model_fields:
            raise SettingsError(f"there is no setting '{whole}': {_options(value, name)}")
        return value.replace(**{name: with_setting(getattr(value, name), rest, new, whole=whole)})
    if value is None:
        raise SettingsError(
            f"'{whole}' cannot be set: what it is part of is None; sweep that as a whole, or set it in the base"
        )
    if isinstance(value, tuple):
        return _with_entry(value, name, rest, new, whole)
    if isinstance(value, AsyncClient):
        raise SettingsError(f"'{whole}' cannot be set: an {type(value).__name__} is at work; give a Layer instead")
    if not hasattr(value, name):
        raise SettingsError(f"there is no setting '{whole}': a {type(value).__name__} has no attribute '{name}'")
    new = with_setting(getattr(value, name), rest, new, whole=whole) if rest else new
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(value, **{name: new})
    changed = copy.copy(value)  # a backend of the user's own
    setattr(changed, name, new)
    return changed


def _with_entry(values: tuple[Any, ...], name: str, rest: str, new: Any, whole: str) -> tuple[Any, ...]:
    """Change one of several, such as a fallback's targets or a schedule's windows, which are numbered from 0."""
    if not (name.isdecimal() and int(name) < len(values)):
        valid = ", ".join(map(str, range(len(values)))) or "none"
        raise SettingsError(f"there is no setting '{whole}': '{name}' is no number of an entry there; valid: {valid}")
    changed = list(values)
    place = int(name)
    changed[place] = with_setting(values[place], rest, new, whole=whole) if rest else new
    return tuple(changed)


def _replaced(value: Settings, name: str, new: Any, whole: str) -> Settings:
    try:
        new = as_backend(new) if name in backend_settings(value) else new
        changed: Settings = value.replace(**{name: new})
    except ValueError as error:
        raise SettingsError(f"'{whole}' cannot be {new!r}: {error}") from None
    return changed


def _options(value: Settings, name: str) -> str:
    return f"{type(value).__name__} has no '{name}'; {nearest(name, setting_names(type(value)))}"
