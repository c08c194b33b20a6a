"""Jitter: what spreading retries out does to clients that compete for one row.

N clients each update one versioned row once, all starting at time 0. An update reads the row and writes it with the
version read; a write with a stale version fails, and the client tries again after its backoff. The figures are those
of Marc Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015), rerun with its published simulator, as
means of 100 runs with 95% intervals. `ContendedRow` also shows how a user writes a backend.
"""

from __future__ import annotations

import asyncio
import weakref
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

from llmlab.core.backend import Answer, AttemptFailure
from llmlab.core.chance import unit, words
from llmlab.core.policy import ClientPolicy
from llmlab.core.retry import Backoff, RetryPolicy
from llmlab.core.vocabulary import FailureReason
from llmlab.experiments.experiment import Experiment
from llmlab.experiments.verify.case import Case, Check, Checks
from llmlab.experiments.workload import ClosedLoop

if TYPE_CHECKING:
    from llmlab.core.backend import AttemptKey, Outcome, Timeouts
    from llmlab.core.messages import LLMRequest

_MS = 0.001
_normal = NormalDist().inv_cdf
_RUNS = 100


class _Published(NamedTuple):
    """What the published simulator gave for 100 clients: writes and milliseconds, each with a 95% half-width."""

    backoff: Backoff
    writes: float
    writes_error: float
    ms: float
    ms_error: float


_CAP = 2000 * _MS
PUBLISHED = {
    "none": _Published(Backoff(base=0.0), 2418, 7, 2035, 10),
    "exponential": _Published(Backoff(base=10 * _MS, maximum=_CAP, jitter="none"), 1852, 10, 64065, 695),
    "equal jitter": _Published(Backoff(base=10 * _MS, maximum=_CAP, jitter="equal"), 813, 1.4, 6606, 124),
    "full jitter": _Published(Backoff(base=10 * _MS, maximum=_CAP, jitter="full"), 795, 1.3, 4913, 100),
    "decorrelated": _Published(Backoff(base=5 * _MS, maximum=_CAP, jitter="decorrelated"), 1000, 6, 4569, 118),
}
"""Base 5 ms, cap 2000 ms; the first exponential backoff is twice the base."""


class ContendedRow:
    """A versioned row behind a network whose delays are |Normal(10, 2)| ms; an update sends four messages."""

    simulated = True
    name = "row"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._versions: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, int] = weakref.WeakKeyDictionary()

    def seeded(self, seed: int) -> ContendedRow:
        """Return such a row with another seed."""
        return ContendedRow(seed)

    async def attempt(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> Outcome:
        """Read the version, write with it; a version that has moved on meanwhile is a failed write."""
        del request, timeouts
        loop = asyncio.get_running_loop()
        delays = [abs(0.010 + 0.002 * _normal(unit(word))) for word in words(self.seed, key.call, key.attempt, 0)[:4]]
        await asyncio.sleep(delays[0])
        read = self._versions.get(loop, 0)
        await asyncio.sleep(delays[1] + delays[2])
        fresh = self._versions.get(loop, 0) == read
        if fresh:
            self._versions[loop] = read + 1
        await asyncio.sleep(delays[3])
        return Answer("written") if fresh else AttemptFailure(FailureReason.SERVER_ERROR, "the version is stale", 409)


def contention(size: float) -> list[Check]:
    """Writes and time until all are done, for each kind of backoff."""
    clients = 100
    runs = max(3, round(_RUNS * size))
    checks = Checks("jitter", "AWS Architecture Blog 2015, its simulator rerun")
    for kind, published in PUBLISHED.items():
        policy = ClientPolicy(
            retry=RetryPolicy(max_retries=100_000, backoff=published.backoff), attempt_timeout=None, total_timeout=None
        )
        base = Experiment(backend=ContendedRow(), policy=policy, workload=ClosedLoop(calls=clients, users=clients))
        results = [base.replace(seed=seed).run().calls for seed in range(runs)]
        writes = [float(calls["attempts"].sum()) for calls in results]
        ms = [1000 * float(calls["ended_at_s"].max()) for calls in results]
        checks.on_average(f"{kind}: writes", published.writes, writes, published.writes_error)
        checks.on_average(f"{kind}: time (ms)", published.ms, ms, published.ms_error)
    return checks.made


CASES: tuple[Case, ...] = (contention,)
