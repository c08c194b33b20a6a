"""A setting by its path: `policy.retry.max_retries` is the field `max_retries` of the field `retry` of `policy`.

Sweeps change the settings of experiments by their paths, and a recommendation names them so.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

from llmlab.backends.faults import FAULT_SHORTHANDS, Faults
from llmlab.backends.kinds import as_backend, backend_settings
from llmlab.core.client import AsyncClient
from llmlab.core.hidden import PRIVATE
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
        entry = with_setting(getattr(value, name), rest, new, whole=whole)
        return value.replace(**{name: as_backend(entry) if name in backend_settings(value) else entry})
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
    try:
        setattr(changed, name, new)
    except AttributeError as error:
        raise SettingsError(f"'{whole}' cannot be set: {error}") from None
    return changed


def setting_at(value: Any, path: str, *, whole: str = "") -> Any:
    """Return the setting at this path; `None` where what it is part of is `None`.

    Raises:
        SettingsError: there is no such path.
    """
    name, _, rest = path.partition(".")
    whole = whole or path
    if value is None:
        return None
    faults = getattr(value, "faults", None)
    if name in FAULT_SHORTHANDS and isinstance(faults, Faults):
        value, name = faults, FAULT_SHORTHANDS[name]
    if isinstance(value, tuple):
        found = value[_place(value, name, whole)]
    elif isinstance(value, Settings) and name not in type(value).model_fields:
        raise SettingsError(f"there is no setting '{whole}': {_options(value, name)}")
    elif not hasattr(value, name):
        raise SettingsError(f"there is no setting '{whole}': a {type(value).__name__} has no attribute '{name}'")
    else:
        found = getattr(value, name)
    return setting_at(found, rest, whole=whole) if rest else found


def _with_entry(values: tuple[Any, ...], name: str, rest: str, new: Any, whole: str) -> tuple[Any, ...]:
    """Change one of several, such as a fallback's targets or a schedule's windows, which are numbered from 0."""
    changed = list(values)
    place = _place(values, name, whole)
    changed[place] = with_setting(values[place], rest, new, whole=whole) if rest else new
    return tuple(changed)


def _place(values: tuple[Any, ...], name: str, whole: str) -> int:
    if not (name.isdecimal() and int(name) < len(values)):
        valid = ", ".join(map(str, range(len(values)))) or "none"
        raise SettingsError(f"there is no setting '{whole}': '{name}' is no number of an entry there; valid: {valid}")
    return int(name)


def _replaced(value: Settings, name: str, new: Any, whole: str) -> Settings:
    try:
        new = as_backend(new) if name in backend_settings(value) else new
        changed: Settings = value.replace(**{name: new})
    except ValueError as error:
        raise SettingsError(f"'{whole}' cannot be {_brief(new, whole)}: {error}") from None
    return changed


def _brief(value: Any, whole: str) -> str:
    shown = repr(value)
    private = whole == "workload" or not PRIVATE.isdisjoint(whole.split("."))  # an error quotes no prompt, no answer
    return shown if len(shown) <= 60 and not private else f"this {type(value).__name__}"


def _options(value: Settings, name: str) -> str:
    return f"{type(value).__name__} has no '{name}'; {nearest(name, setting_names(type(value)))}"
