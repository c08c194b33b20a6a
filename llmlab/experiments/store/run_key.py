"""What decides a run's result, as one short text: equal texts, equal results.

The whole experiment goes in, its seed and every default included, so that a changed setting, or a default that changed
with a release, never meets the results of another. Look next at `store.py`, which finds runs by it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from llmlab.backends.kinds import backend_settings
from llmlab.core.plain_data import canonical_json, plain_data
from llmlab.core.settings import Settings, SettingsError
from llmlab.experiments.store.manifest import FORMAT_VERSION

if TYPE_CHECKING:
    from llmlab.experiments.experiment import Experiment

SIMULATION_VERSION = 1
"""Of the simulation: another one may give other events for the same experiment. Raise it with the golden digests."""

_CANONICAL = b'{"format":%d,"simulation":%d,"backend":%b,"policy":%b,"workload":%b,"seed":%d}'
_REMEMBERED = 1_000


class RunKeys:
    """Makes the keys of many runs. Runs that share their policy, workload or backend share the work on it.

    Whatever an object holds when it is met first is what counts.
    """

    def __init__(self) -> None:
        self._texts: dict[str, dict[int, tuple[object, bytes]]] = {"backend": {}, "policy": {}, "workload": {}}

    def key(self, experiment: Experiment) -> str:
        """Return the experiment's key; see `run_key`."""
        text = _CANONICAL % (
            FORMAT_VERSION,
            SIMULATION_VERSION,
            self._text("backend", experiment.backend),
            self._text("policy", experiment.policy),
            self._text("workload", experiment.workload),
            experiment.seed,
        )
        return hashlib.blake2b(text, digest_size=16).hexdigest()

    def _text(self, name: str, value: object) -> bytes:
        known = self._texts[name]
        if id(value) not in known:
            if len(known) == _REMEMBERED:
                known.clear()
            data = _backend(value, name) if name == "backend" else plain_data(value, name)
            known[id(value)] = value, canonical_json(data)  # the object is held, so that no other has its id
        return known[id(value)][1]


def run_key(experiment: Experiment) -> str:
    """Return 32 hexadecimal digits that stand for everything that decides the experiment's result.

    A backend of your own needs an attribute `fingerprint`: a text that changes whenever it would answer differently.
    Its attributes that are plain values count as well. For many experiments there is `RunKeys`.

    Raises:
        SettingsError: the backend does not say what decides its answers.
    """
    return RunKeys().key(experiment)


def _backend(backend: Any, path: str) -> Any:
    if isinstance(backend, list | tuple):
        return [_backend(one, f"{path}.{place}") for place, one in enumerate(backend)]
    kind = f"{type(backend).__module__}.{type(backend).__qualname__}"
    if not (isinstance(backend, Settings) and kind.startswith("llmlab.")):
        return {"type": kind, **_own(backend, path)}
    behind = backend_settings(backend)
    fields = ((name, getattr(backend, name), f"{path}.{name}") for name in sorted(type(backend).model_fields))
    return {"type": kind, **{name: (_backend if name in behind else _stored)(*value) for name, *value in fields}}


def _stored(value: Any, path: str) -> Any:
    try:
        return plain_data(value, path)
    except SettingsError as error:
        raise SettingsError(f"the results cannot be stored, since nothing tells them from others: {error}") from None


def _own(backend: object, path: str) -> dict[str, Any]:
    fingerprint = getattr(backend, "fingerprint", None)
    if not isinstance(fingerprint, str):
        raise SettingsError(
            f"{path}: results of a {type(backend).__name__} cannot be stored, since nothing says when another one "
            "would give the same; give it an attribute `fingerprint`, a text that changes whenever it would answer "
            "differently"
        )
    held = {name: _attribute(value, f"{path}.{name}") for name, value in sorted(_attributes(backend).items())}
    return {
        "fingerprint": fingerprint,
        "attributes": {name: value for name, value in held.items() if value is not _OTHER},
    }


_OTHER = object()


def _attribute(value: object, path: str) -> Any:
    """Return an attribute as plain data; what has no such form is what the fingerprint is for."""
    if callable(getattr(value, "attempt", None)):
        return _backend(value, path)
    try:
        return plain_data(value)
    except SettingsError:
        return _OTHER


def _attributes(backend: object) -> dict[str, Any]:
    state = object.__getstate__(backend)  # the attributes; where there are slots, these beside them
    parts = state if isinstance(state, tuple) else (state,)
    return {name: value for part in parts for name, value in (part or {}).items() if not name.startswith("__")}
