"""The backends that a file can name: `{"kind": "mock", ...}` and its like become backends here, and only here.

A backend of the user's own is an object, given in Python. Nothing is looked up by a module's name, so no file can make
code run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmlab.backends.fallback import Fallback
from llmlab.backends.layer import Layer
from llmlab.backends.mock import MockBackend
from llmlab.backends.ollama import OllamaBackend
from llmlab.backends.openai import OpenAIBackend
from llmlab.backends.with_faults import WithFaults
from llmlab.core.settings import Settings, nearest

BACKENDS: dict[str, type[Settings]] = {
    "fallback": Fallback,
    "layer": Layer,
    "mock": MockBackend,
    "ollama": OllamaBackend,
    "openai": OpenAIBackend,
    "with_faults": WithFaults,
}
"""Every built-in backend by its `kind`."""

_BEHIND = {"fallback": "targets", "layer": "backend", "with_faults": "backend"}
"""The setting of a backend that holds the one, or the list of those, that it stands in front of."""


def as_backend(given: Any) -> Any:
    """Return the backend that a table describes; anything else is returned as it is.

    Raises:
        ValueError: there is no such kind, or its settings are wrong (a `SettingsError`).
    """
    if isinstance(given, list | tuple):
        return tuple(as_backend(one) for one in given)
    if not isinstance(given, Mapping):
        return given
    kind = given.get("kind")
    if not isinstance(kind, str):
        raise ValueError(f"must say of which 'kind' it is; {nearest('', BACKENDS)}")
    if kind not in BACKENDS:
        raise ValueError(
            f"'{kind[:60]}' is not a kind of backend; {nearest(kind[:60], BACKENDS)}; "
            "one of your own is given in Python, as an object: Experiment(backend=...)"
        )
    settings = {str(name): value for name, value in given.items()}
    behind = _BEHIND.get(kind)
    if behind in settings:
        settings[behind] = as_backend(settings[behind])
    return BACKENDS[kind](**settings)


def backend_setting(kind: str) -> str | None:
    """Return the name of the setting that holds other backends, of a backend of this kind; `None` if there is none."""
    return _BEHIND.get(kind)


def backend_settings(value: Any) -> frozenset[str]:
    """Return the names of the settings of a backend that hold other backends."""
    behind = _BEHIND.get(getattr(value, "kind", ""))
    return frozenset({behind} if behind is not None and type(value) is BACKENDS[value.kind] else ())
