"""A fixed set of experiments, and the digests of their events, which every machine and every Python must reproduce.

`python -m tests.experiments.golden` prints the digests as JSON; `--write` makes them the committed ones. Do that when
events are meant to change, and say so in the changelog: the same seed then no longer gives the same events. Stored
results must not be taken for new ones, so `--write` refuses until `SIMULATION_VERSION` has been raised.
"""

from __future__ import annotations

import json
import sys
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlab import (
    Backoff,
    Burst,
    ClientPolicy,
    ClosedLoop,
    ConstantArrivals,
    Empirical,
    Experiment,
    Exponential,
    FaultKind,
    Faults,
    Lognormal,
    MockBackend,
    OpenLoop,
    RateLimit,
    RetryPolicy,
    ServerModel,
    Uniform,
    WithFaults,
)
from llmlab.core.adaptive import AdaptiveConcurrency
from llmlab.core.breaker import CircuitBreaker
from llmlab.core.budget import RetryBudget
from llmlab.core.hedging import Hedging
from llmlab.core.throttle import AdaptiveThrottle
from llmlab.experiments.store import SIMULATION_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlab.core.event_log import EventLog

VERSION = "simulation version"
"""Stands among the digests: what `SIMULATION_VERSION` was when they were made."""
COMMITTED = Path(__file__).parents[1] / "data" / "golden" / "events.json"
NEEDS_LIBM = "libm: "
"""Begins the names of those that draw by `exp` or `log`, whose last bit is the C library's choice."""

_POLICIES: dict[str, dict[str, Any]] = {
    "one attempt": {"retry": RetryPolicy(max_retries=0)},
    "full jitter": {"retry": RetryPolicy(max_retries=3)},
    "decorrelated": {"retry": RetryPolicy(max_retries=4, backoff=Backoff(jitter="decorrelated"))},
    "short deadline": {"retry": RetryPolicy(max_retries=5), "attempt_timeout": 1.5, "total_timeout": 4.0},
}
_FAULTS: dict[str, Faults] = {
    "no faults": Faults(),
    "timeouts": Faults(timeout=0.3),
    "all kinds": Faults(
        timeout=0.05, rate_limit=0.1, overload=0.1, server_error=0.1, empty=0.05, malformed=0.05, stall=0.05,
        slow_drip=0.05, cut=0.05, retry_after=1.5,
    ),
}  # fmt: skip
_LIMITS: dict[str, dict[str, Any]] = {
    "no limit": {},
    "slots": {"max_concurrency": 3},
    "short queue": {"max_concurrency": 3, "max_queue": 4, "max_queue_wait": 1.0},
    "rate": {"rate_limit": RateLimit(requests=3, per=1.0, burst=2)},
    "slots and rate": {"max_concurrency": 4, "rate_limit": RateLimit(requests=4, tokens=300, per=1.0)},
}
_GUARDS: dict[str, dict[str, Any]] = {
    "budget": {"budget": RetryBudget(capacity=5, per_success=0.1)},
    "breaker": {"breaker": CircuitBreaker(minimum_attempts=5, open_for=3.0)},
    "throttle": {"throttle": AdaptiveThrottle(window=20.0)},
    "adaptive": {"adaptive_concurrency": AdaptiveConcurrency(initial=4)},
    "hedging": {"hedging": Hedging(delay=0.7), "max_concurrency": 6},
    "hedging by percentile": {"hedging": Hedging(percentile=0.8, at_least=10, max_hedges=2)},
}
_LATENCY = Uniform(low=0.2, high=1.8)
_USERS = ClosedLoop(calls=60, users=8)


def experiments() -> dict[str, Experiment]:
    """Return the experiments by name."""
    found: dict[str, Experiment] = {}
    for (policy, how), (faults, what), (limit, bound) in product(_POLICIES.items(), _FAULTS.items(), _LIMITS.items()):
        found[f"{policy}, {faults}, {limit}"] = _experiment(MockBackend(latency=_LATENCY, faults=what), **how, **bound)
    trouble = MockBackend(latency=_LATENCY, faults=_FAULTS["all kinds"])
    for guard, settings in _GUARDS.items():
        found[guard] = _experiment(trouble, **settings, **_POLICIES["full jitter"])
    measured = MockBackend(latency=Empirical(values=[0.1, 0.3, 0.4, 2.5]))
    found["empirical, faults in front"] = _experiment(WithFaults(measured, server_error_probability=0.4))
    evenly = OpenLoop(calls=60, rate=6.0, arrivals=ConstantArrivals())
    found["open"] = _experiment(trouble).replace(workload=evenly)
    served = MockBackend(server=ServerModel(slots=2, queue=5))
    found["a server that queues"] = _experiment(served).replace(workload=evenly)
    found[NEEDS_LIBM + "lognormal"] = _experiment(MockBackend(latency=Lognormal(median=1, sigma=0.8)))
    found[NEEDS_LIBM + "exponential"] = _experiment(MockBackend(latency=Exponential(mean=1), timeout_probability=0.1))
    found[NEEDS_LIBM + "poisson"] = _experiment(trouble).replace(workload=OpenLoop(calls=60, rate=6.0))
    bursts = Faults(schedule=(Burst(kind=FaultKind.OVERLOAD, mean_good=3, mean_bad=2),))
    found[NEEDS_LIBM + "bursts"] = _experiment(MockBackend(latency=_LATENCY, faults=bursts))
    return found


def _experiment(backend: Any, **policy: Any) -> Experiment:
    settings: dict[str, Any] = {"attempt_timeout": 3.0, "total_timeout": 20.0, **policy}
    return Experiment(backend=backend, policy=ClientPolicy(**settings), workload=_USERS, seed=7)


def digest(log: EventLog) -> str:
    """Return a digest of every event of a log: all columns of all rows, in order, floats to the last bit."""
    hasher = sha256()
    for table in (log.attempt_table, log.call_table):
        for row in table.rows():
            hasher.update(f"{tuple(map(_plain, row))}\n".encode())
    return hasher.hexdigest()


def _plain(value: Any) -> Any:
    """Return a word as a text and a boolean as 0 or 1, as the committed digests were made of them."""
    return str(value) if isinstance(value, str) else int(value) if isinstance(value, bool) else value


def digests(wanted: Callable[[str], bool] = lambda name: True) -> dict[str, str]:
    """Run the experiments whose names are wanted; for each, return attempts, calls and the digest's first half."""
    found = {}
    for name, experiment in experiments().items():
        if wanted(name):
            log = experiment.record().log
            found[name] = f"{len(log)} attempts {len(log.call_table)} calls {digest(log)[:32]}"
    return found


def refusal(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Say why digests cannot replace the committed ones; nothing if they can."""
    changed = sorted(name for name in old.keys() & new.keys() - {VERSION} if old[name] != new[name])
    if not changed or new[VERSION] > old[VERSION]:
        return ""
    return f"the events of {changed} have changed: raise SIMULATION_VERSION, now {new[VERSION]}, and write again"


if __name__ == "__main__":
    made = {VERSION: SIMULATION_VERSION, **digests()}
    text = json.dumps(made, indent=1) + "\n"
    if "--write" in sys.argv[1:]:
        if refused := refusal(json.loads(COMMITTED.read_text(encoding="utf-8")), made):
            sys.exit(refused)
        COMMITTED.write_text(text, encoding="utf-8")
    else:
        print(text, end="")
