"""The controls of the dashboard as data: each one setting of an experiment, how it is read from one and put into one.

No widget is made here, so that what a control means can be tested without a front end. `control_widgets.py` gives each
its slider or list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple, get_args

from llmlab.backends.fault_kinds import FAULTS, FaultKind
from llmlab.backends.mock import MockBackend
from llmlab.backends.server_model import ServerModel
from llmlab.backends.setting_paths import setting_at, with_setting
from llmlab.core.limits import RateLimit
from llmlab.core.retry import Jitter
from llmlab.core.settings import SettingsError, nearest
from llmlab.experiments.experiment import Experiment
from llmlab.experiments.workload import ClosedLoop, OpenLoop

Kind = Literal["probability", "count", "scale", "word", "integer"]
"""How a value is chosen: from 0 to 1, a small whole number, one of a scale, a word, any whole number."""

Group = Literal["faults", "more faults", "client", "load", "run"]


class Control(NamedTuple):
    """One setting that the dashboard shows.

    Attributes:
        name: by which it is known in code and in tests.
        label: what it is called on the page, with its unit.
        group: where it stands.
        kind: how its value is chosen.
        path: of the setting in an experiment.
        values: those to choose from: of a count the least and the most, of a scale or words all of them.
        swept: the values that a sweep over it tries unless others are given; empty where it cannot be swept.
        read: how it is read from an experiment; by its path if `None`.
        write: how it is put into one; by its path if `None`.
    """

    name: str
    label: str
    group: Group
    kind: Kind
    path: str
    values: tuple[Any, ...] = ()
    swept: tuple[Any, ...] = ()
    read: Callable[[Experiment], Any] | None = None
    write: Callable[[Experiment, Any], Experiment] | None = None

    def value_in(self, experiment: Experiment) -> Any:
        """Return the setting's value in an experiment; `None` where it has none."""
        if self.read is not None:
            return self.read(experiment)
        try:
            return setting_at(experiment, self.path)
        except SettingsError:  # such as faults of a backend of the user's own
            return None

    def is_in(self, experiment: Experiment) -> bool:
        """Whether an experiment has this setting at all."""
        if self.name == "slots":
            return isinstance(experiment.backend, MockBackend)
        return self.kind != "probability" or self.value_in(experiment) is not None

    def put(self, experiment: Experiment, value: Any) -> Experiment:
        """Return the experiment with this value.

        Raises:
            SettingsError: the value is not valid there.
        """
        return _set(experiment, self.path, value) if self.write is None else self.write(experiment, value)


def _set(experiment: Experiment, path: str, value: Any) -> Experiment:
    changed: Experiment = with_setting(experiment, path, value)
    return changed


def _rate_limit(experiment: Experiment) -> float | None:
    limit = experiment.policy.rate_limit
    return None if limit is None or limit.requests is None else limit.requests / limit.per


def _with_rate_limit(experiment: Experiment, per_second: float | None) -> Experiment:
    limit = experiment.policy.rate_limit
    if per_second == _rate_limit(experiment):
        return experiment
    changed = None if per_second is None else (limit or RateLimit(requests=1.0)).replace(requests=per_second, per=1.0)
    return _set(experiment, "policy.rate_limit", changed)


def _slots(experiment: Experiment) -> int | None:
    server = getattr(experiment.backend, "server", None)
    return None if server is None else server.slots


def _with_slots(experiment: Experiment, slots: int | None) -> Experiment:
    if slots == _slots(experiment):
        return experiment
    server = getattr(experiment.backend, "server", None)
    changed = None if slots is None else (ServerModel(slots=slots) if server is None else server.replace(slots=slots))
    return _set(experiment, "backend.server", changed)


def _load(experiment: Experiment) -> str:
    return "users" if isinstance(experiment.workload, ClosedLoop) else "rate"


def _with_load(experiment: Experiment, load: str) -> Experiment:
    old = experiment.workload
    if load == _load(experiment):
        return experiment
    calls, requests = old.calls or 1000, old.requests
    new = ClosedLoop(calls=calls, requests=requests) if load == "users" else OpenLoop(calls=calls, requests=requests)
    return _set(experiment, "workload", new)


def _users(experiment: Experiment) -> int | None:
    workload = experiment.workload
    return workload.users if isinstance(workload, ClosedLoop) else None


def _with_users(experiment: Experiment, users: int | None) -> Experiment:
    closed = _with_load(experiment, "users")
    return experiment if users is None else _set(closed, "workload.users", users)


def _rate(experiment: Experiment) -> float | None:
    rate = getattr(experiment.workload, "rate", None)
    return rate if isinstance(rate, int | float) else None


def _with_rate(experiment: Experiment, rate: float | None) -> Experiment:
    opened = _with_load(experiment, "rate")
    return experiment if rate is None else _set(opened, "workload.rate", rate)


_OFTEN = ("timeout", "connection_error", "overload", "rate_limit", "server_error", "malformed")
_PROBABILITIES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)


def _fault(kind: FaultKind) -> Control:
    group: Group = "faults" if kind in _OFTEN else "more faults"
    path = f"backend.{kind}_probability"
    return Control(f"{kind}_probability", str(kind).replace("_", " "), group, "probability", path, (), _PROBABILITIES)


_RETRY, _SECONDS = "policy.retry", (1, 2, 3, 5, 10, 15, 20, 30, 45, 60, 120, 300, 600)
CONTROLS: tuple[Control, ...] = (
    *map(_fault, sorted(FAULTS, key=lambda kind: _OFTEN.index(kind) if kind in _OFTEN else len(_OFTEN))),
    Control(
        "slots",
        "server slots",
        "faults",
        "scale",
        "backend.server.slots",
        (1, 2, 4, 8, 16, 32, 64, 128, None),
        (1, 2, 4, 8, 16),
        _slots,
        _with_slots,
    ),
    Control("max_retries", "max retries", "client", "count", f"{_RETRY}.max_retries", (0, 10), (0, 1, 2, 3, 4)),
    Control(
        "backoff",
        "backoff base (s)",
        "client",
        "scale",
        f"{_RETRY}.backoff.base",
        (0.0, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0),
        (0.1, 0.25, 0.5, 1.0, 2.0),
    ),
    Control("jitter", "jitter", "client", "word", f"{_RETRY}.backoff.jitter", get_args(Jitter), get_args(Jitter)),
    Control(
        "attempt_timeout",
        "attempt timeout (s)",
        "client",
        "scale",
        "policy.attempt_timeout",
        (*_SECONDS, None),
        (2, 5, 10, 20, 30),
    ),
    Control(
        "total_timeout",
        "total timeout (s)",
        "client",
        "scale",
        "policy.total_timeout",
        (*_SECONDS, None),
        (10, 30, 60, 120),
    ),
    Control(
        "max_concurrency",
        "concurrency limit",
        "client",
        "scale",
        "policy.max_concurrency",
        (1, 2, 4, 8, 16, 32, 64, 128, None),
        (1, 2, 4, 8, 16),
    ),
    Control(
        "rate_limit",
        "rate limit (per s)",
        "client",
        "scale",
        "policy.rate_limit.requests",
        (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, None),
        (1.0, 2.0, 5.0, 10.0),
        _rate_limit,
        _with_rate_limit,
    ),
    Control("load", "load is given as", "load", "word", "workload.kind", ("users", "rate"), (), _load, _with_load),
    Control(
        "users",
        "users",
        "load",
        "scale",
        "workload.users",
        (1, 2, 5, 10, 20, 50, 100, 200, 500),
        (1, 2, 5, 10, 20),
        _users,
        _with_users,
    ),
    Control(
        "rate",
        "calls per second",
        "load",
        "scale",
        "workload.rate",
        (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0),
        (1.0, 2.0, 5.0, 10.0),
        _rate,
        _with_rate,
    ),
    Control("calls", "calls", "run", "scale", "workload.calls", (50, 100, 200, 500, 1000, 2000, 5000, 10_000)),
    Control("seed", "seed", "run", "integer", "seed"),
)
"""Every control, in the order of the page."""

BY_NAME: Mapping[str, Control] = {control.name: control for control in CONTROLS}
BY_PATH: Mapping[str, Control] = {control.path: control for control in CONTROLS}


def values_of(experiment: Experiment) -> dict[str, Any]:
    """Return what every control shows of an experiment, by the control's name."""
    return {control.name: control.value_in(experiment) for control in CONTROLS}


def check_swept(names: Iterable[str]) -> None:
    """Check that each names a control that can be swept over.

    Raises:
        SettingsError: there is no such control, or it cannot be swept over.
    """
    swept = [control.name for control in CONTROLS if control.swept]
    for name in names:
        if name not in swept:
            what = f"'{name}' cannot be swept over" if name in BY_NAME else f"there is no control '{name}'"
            raise SettingsError(f"{what}; {nearest(name, swept)}")


def experiment_with(base: Experiment, values: Mapping[str, Any]) -> Experiment:
    """Return the experiment with the controls' values put in; what no control shows stays as it is in the base.

    Raises:
        SettingsError: a value is not valid, or the values do not go together; the message says what to do.
    """
    changed, now = base, values_of(base)
    differing = {name: value for name, value in values.items() if value != now[name]}
    # Probabilities may add up to 1 at the most, so those that shrink come first.
    for name in sorted(differing, key=lambda name: _shrinks(name, differing[name], now[name]), reverse=True):
        if name not in {"users", "rate"} or values.get("load", _load(base)) == name:
            changed = BY_NAME[name].put(changed, differing[name])
    return changed


def _shrinks(name: str, value: Any, before: Any) -> int:
    """Return when a change is made: first what makes room, then the kind of load, then the rest."""
    if BY_NAME[name].kind == "probability" and value < before:
        return 2
    return 1 if name == "load" else 0
