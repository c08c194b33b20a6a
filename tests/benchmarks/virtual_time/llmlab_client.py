"""llmlab itself: the whole client, every attempt and call recorded, frames at the end; on its own loop and others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from llmlab import (
    Backoff,
    ClientPolicy,
    ClosedLoop,
    Experiment,
    Lognormal,
    MockBackend,
    OpenLoop,
    RateLimit,
    RetryPolicy,
)
from llmlab.analysis.frames import attempts_frame, calls_frame
from llmlab.core.client import AsyncClient
from llmlab.core.event_log import EventLog
from tests.benchmarks.virtual_time import workload as w

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd


def experiment(calls: int = w.CALLS, users: int = w.USERS, **policy: Any) -> Experiment:
    """Return W as an experiment; `policy` replaces the policy's settings."""
    settings: dict[str, Any] = {
        "attempt_timeout": w.ATTEMPT_TIMEOUT_S,
        "total_timeout": w.TOTAL_TIMEOUT_S,
        "max_concurrency": w.SLOTS,
        "retry": RetryPolicy(
            max_retries=w.MAX_RETRIES, backoff=Backoff(base=w.BACKOFF_BASE_S, maximum=w.BACKOFF_MAXIMUM_S)
        ),
    }
    return Experiment(
        backend=MockBackend(
            latency=Lognormal(median=w.MEDIAN_S, sigma=w.SIGMA), timeout_probability=w.TIMEOUT_PROBABILITY
        ),
        policy=ClientPolicy(**settings | policy),
        workload=ClosedLoop(calls=calls, users=users),
        seed=1,
    )


def _tally(attempts: pd.DataFrame, calls: pd.DataFrame) -> w.Tally:
    return w.Tally(len(attempts), int((~calls["answered"]).sum()))


def _run(what: Experiment) -> w.Tally:
    result = what.run()
    return _tally(result.attempts, result.calls)


def run(calls: int = w.CALLS, users: int = w.USERS) -> w.Tally:
    """Run W."""
    return _run(experiment(calls, users))


def run_rate_limited(calls: int = w.CALLS, users: int = w.USERS) -> w.Tally:
    """Run W below a rate limit at which most attempts wait."""
    return _run(experiment(calls, users, rate_limit=RateLimit(requests=20, per=1.0)))


def run_open(calls: int = w.CALLS, users: int = w.USERS) -> w.Tally:
    """Run W with calls that arrive by themselves, a task each, at about the rate that W's users reach."""
    del users
    return _run(experiment().replace(workload=OpenLoop(calls=calls, rate=12.0)))


def run_everybody_in_flight(calls: int = w.CALLS, users: int = w.USERS) -> w.Tally:
    """Run W with a slot for every user."""
    return _run(experiment(calls, users, max_concurrency=users))


def run_on(loop_factory: Callable[[], asyncio.AbstractEventLoop], calls: int, users: int) -> w.Tally:
    """Run W with the same client on another loop."""
    what = experiment(calls, users)
    log = EventLog()

    async def main() -> None:
        client = AsyncClient(what.backend.replace(seed=what.seed), what.policy, observers=[log], seed=what.seed)
        async with client:
            await what.workload.run(client.flow(), seed=what.seed)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
    return _tally(attempts_frame(log), calls_frame(log))
