"""What decides a run's result, as one short text: equal texts, equal results.

The whole experiment goes in, its seed and every default included, so that a changed setting, or a default that changed
with a release, never meets the results of another. Look next at `store.py`, which finds runs by it.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from llmlab.core.settings import SettingsError

if TYPE_CHECKING:
    from llmlab.experiments.experiment import Experiment

FORMAT_VERSION = 1
"""Of the stored columns and what they mean."""

SIMULATION_VERSION = 1
"""Of the simulation: another one may give other events for the same experiment. Raise it with the golden digests."""


def run_key(experiment: Experiment) -> str:
    """Return 32 hexadecimal digits that stand for everything that decides the experiment's result.

    A backend of your own needs an attribute `fingerprint`: a text that changes whenever it would answer differently.
    Its attributes that are plain values count as well.

    Raises:
        SettingsError: the backend does not say what decides its answers.
    """
    values = {
        "format": FORMAT_VERSION,
        "simulation": SIMULATION_VERSION,
        "backend": _backend(experiment.backend),
        "policy": experiment.policy.model_dump(mode="json"),
        "workload": experiment.workload.model_dump(mode="json"),
        "seed": experiment.seed,
    }
    return hashlib.blake2b(_json(values).encode(), digest_size=16).hexdigest()


def _backend(backend: Any) -> dict[str, Any]:
    kind = f"{type(backend).__module__}.{type(backend).__qualname__}"
    if not kind.startswith("llmlab."):
        return {"type": kind, **_own(backend)}
    inner = {name for name in type(backend).model_fields if _is_backend(getattr(backend, name))}
    try:
        settings = backend.model_dump(mode="json", exclude=inner)
    except PydanticSerializationError as error:
        raise SettingsError(
            f"backend: this {type(backend).__name__} cannot be stored, since it holds what is no plain value: {error}"
        ) from None
    return {
        "type": kind,
        "name": backend.name,
        **settings,
        **{name: _backend(getattr(backend, name)) for name in inner},
    }


def _own(backend: object) -> dict[str, Any]:
    fingerprint = getattr(backend, "fingerprint", None)
    if not isinstance(fingerprint, str):
        raise SettingsError(
            f"backend: results of a {type(backend).__name__} cannot be stored, since nothing says when another one "
            "would give the same; give it an attribute `fingerprint`, a text that changes whenever it would answer "
            "differently"
        )
    plain: dict[str, Any] = {}
    for name, value in _attributes(backend).items():
        if _is_backend(value):
            plain[name] = _backend(value)
        elif isinstance(value, BaseModel):
            plain[name] = value.model_dump(mode="json")
        elif _is_plain(value):  # all else is what the fingerprint is for
            plain[name] = value
    return {"fingerprint": fingerprint, "attributes": plain}


def _attributes(backend: object) -> dict[str, Any]:
    held = dict(getattr(backend, "__dict__", {}))
    slots = [name for kind in type(backend).__mro__ for name in _names(getattr(kind, "__slots__", ()))]
    return held | {
        name: getattr(backend, name) for name in slots if not name.startswith("__") and hasattr(backend, name)
    }


def _names(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _is_backend(value: object) -> bool:
    return callable(getattr(value, "attempt", None))


def _is_plain(value: object) -> bool:
    try:
        _json(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
