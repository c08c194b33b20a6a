"""Retry storms: when a server that has recovered stays down, because its clients never stop asking it again.

One server, first come, first served, that takes exactly 1/300 s for a request; Poisson arrivals; clients that give an
attempt 1 s and retry at once. From t=20 to 30 s the server does no work, and it works on requests whose clients are
gone. Where arrivals times attempts per call exceed what it can serve, the queue never again falls below 1 s, and every
answer comes too late: the outage is over and the overload sustains itself (Bronson et al., "Metastable Failures in
Distributed Systems", HotOS 2021).

**Why most tolerances are "exact".** Over the last 50 of 300 s each system is in one of two states. Recovered, it is an
M/D/1 queue, where at the highest load an attempt would outlast 1 s with a probability of about e^-40: every call is
answered, in one attempt. Collapsed, whoever comes waits more than 1 s, since a queue that is longer than that only
grows: no call is answered, and each makes all the attempts it is allowed. Between the two there is nothing to average.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from llmlab.backends.distributions import Constant
from llmlab.backends.mock import MockBackend
from llmlab.backends.server_model import Outage, ServerModel
from llmlab.core.budget import RetryBudget
from llmlab.core.policy import ClientPolicy
from llmlab.core.retry import Backoff, RetryPolicy
from llmlab.experiments.experiment import Experiment
from llmlab.experiments.verify.case import Case, Check, Checks
from llmlab.experiments.workload import OpenLoop

if TYPE_CHECKING:
    from typing import Literal

    import pandas as pd

CAPACITY = 300.0
"""Requests that the server answers per second."""
PATIENCE_S = 1.0
OUTAGE = (20.0, 30.0)
WINDOW = (250.0, 300.0)
"""Calls that arrive in it tell how the storm ended."""
_SHORTEST = 0.2
"""The least part of the full times: an outage of 2 s still makes every client in the queue give up."""


class Storm(NamedTuple):
    """A client, a server and a load; and whether the system recovers."""

    rate: float
    retries: int
    recovers: bool
    budget: RetryBudget | None = None
    on_disconnect: Literal["stop", "work_on"] = "work_on"

    @property
    def label(self) -> str:
        """What is told apart, in few words."""
        if self.budget is not None:
            source = "requests" if self.budget.per_call else "successes"
            return f"{self.rate:g}/s, 10% of {source}"
        if self.on_disconnect == "stop":
            return f"{self.rate:g}/s, drops abandoned"
        return f"{self.rate:g}/s, r={self.retries}"

    def experiment(self, size: float = 1.0, *, record_every: float | None = None) -> Experiment:
        """Return the storm as an experiment; all times but the client's patience scale with the size."""
        scale = time_scale(size)
        start, end = OUTAGE
        model = ServerModel(
            service_time=Constant(value=1.0 / CAPACITY),
            outages=(Outage(start=scale * start, end=scale * end),),
            on_disconnect=self.on_disconnect,
            record_every=record_every,
        )
        policy = ClientPolicy(
            retry=RetryPolicy(max_retries=self.retries, backoff=Backoff(base=0.0)),
            attempt_timeout=PATIENCE_S,
            total_timeout=None,
            budget=self.budget,
        )
        # Calls go on beyond the window: retries of its last calls meet what those of its first calls met.
        workload = OpenLoop(rate=self.rate, duration=scale * WINDOW[1] + 2.0 * PATIENCE_S)
        return Experiment(backend=MockBackend(server=model), policy=policy, workload=workload)


_OF_REQUESTS = RetryBudget(capacity=10, per_call=0.1)
_OF_SUCCESSES = RetryBudget(capacity=10, per_success=0.1)
STORMS = (
    Storm(140.0, 1, recovers=True),
    Storm(155.0, 1, recovers=False),
    Storm(280.0, 0, recovers=True),
    Storm(280.0, 1, recovers=False),
    Storm(280.0, 1, recovers=False, budget=_OF_REQUESTS),
    Storm(250.0, 1, recovers=True, budget=_OF_REQUESTS),
    Storm(280.0, 1, recovers=True, budget=_OF_SUCCESSES),
    Storm(280.0, 1, recovers=True, on_disconnect="stop"),
)
"""`recovers` is the published outcome. Without a budget or a server that drops abandoned work it follows from
rate (1 + r) > capacity; with a budget of a share b of requests from rate (1 + b) > capacity; the others recover since
a system without successes, or whose abandoned requests cost nothing, sheds the load of its retries."""


def time_scale(size: float) -> float:
    """Return by how much the times of a storm are shortened: outages, waiting for recovery, and the window."""
    return min(1.0, max(_SHORTEST, size))


def storms(size: float) -> list[Check]:
    """Which of the systems is back a few minutes after an outage of ten seconds."""
    checks = Checks("retry storms", "Bronson et al., HotOS 2021; rate (1 + r) > capacity")
    for storm in STORMS:
        calls = storm.experiment(size).run().calls
        _check(checks, storm, calls, size)
    return checks.made


def _check(checks: Checks, storm: Storm, calls: pd.DataFrame, size: float) -> None:
    start, end = (time_scale(size) * time for time in WINDOW)
    window = arrived_between(calls, start, end)
    attempts = window["attempts"].mean()
    checks.exactly(f"{storm.label}: answered", float(storm.recovers), window["answered"].mean())
    quantity = f"{storm.label}: attempts/call"
    if storm.recovers or storm.budget is None:
        checks.exactly(quantity, 1.0 if storm.recovers else 1.0 + storm.retries, attempts)
        return
    # These calls retry one timeout after they came, and spend what the calls of that time bring: the bucket's level
    # moves by no more than its capacity, and the two lots of calls differ by those at the window's ends.
    share, capacity = storm.budget.per_call, storm.budget.capacity
    later = len(arrived_between(calls, start + PATIENCE_S, end + PATIENCE_S))
    tolerance = (capacity + share * abs(later - len(window))) / len(window)
    checks.within(quantity, 1.0 + share, attempts, tolerance)


def arrived_between(calls: pd.DataFrame, start: float, end: float) -> pd.DataFrame:
    """Return the calls that arrived in a span of time."""
    return calls[(calls["arrived_at_s"] >= start) & (calls["arrived_at_s"] < end)]


CASES: tuple[Case, ...] = (storms,)
