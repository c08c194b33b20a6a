"""Measuring: what a closed loop hides, and how sure a number of calls makes one."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from scipy import stats

from llmlab.analysis.stats import values_needed, wilson
from llmlab.core.backend import Answer
from llmlab.core.policy import ClientPolicy
from llmlab.experiments.experiment import Experiment
from llmlab.experiments.verify.case import Case, Check, Checks
from llmlab.experiments.workload import ClosedLoop, OpenLoop

if TYPE_CHECKING:
    from llmlab.core.backend import AttemptKey, Outcome, Timeouts
    from llmlab.core.messages import LLMRequest

_PATIENT = ClientPolicy(attempt_timeout=None, total_timeout=None)
_SERVICE_S = 0.001


class StallingServer:
    """Answers in a millisecond, but from t=100 s to t=200 s nothing moves."""

    simulated = True
    name = "stalling"

    async def attempt(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> Outcome:
        """Answer, at once or when the stall is over."""
        del request, timeouts, key
        now = asyncio.get_running_loop().time()
        stalled = 200.0 - now if 100.0 <= now < 200.0 else 0.0
        await asyncio.sleep(stalled + _SERVICE_S)
        return Answer("done")


def coordinated_omission(size: float) -> list[Check]:
    """A client that waits for its answer asks once in a stall of 100 s, a schedule of 100 a second 10,000 times."""
    del size
    checks = Checks("coordinated omission", "Gil Tene, How NOT to Measure Latency")
    base = Experiment(backend=StallingServer(), policy=_PATIENT)
    waits = base.replace(workload=ClosedLoop(calls=10_001, users=1, think_time=0.01 - _SERVICE_S)).run().calls
    keeps = base.replace(workload=OpenLoop(calls=20_000, rate=100, arrivals="constant")).run().calls
    waiting = (10_000 * _SERVICE_S + 100.0 + _SERVICE_S) / 10_001
    arrivals = [(n + 1) / 100 for n in range(20_000)]
    keeping = sum((200.0 - at if 100.0 <= at < 200.0 else 0.0) + _SERVICE_S for at in arrivals) / 20_000
    checks.exactly("closed loop, mean latency (s)", waiting, waits["latency_s"].mean())
    # 0.01: a call that arrives within rounding of the stall's ends may fall on either side
    checks.within("from the intended start, mean (s)", keeping, keeps["latency_s"].mean(), 0.01)
    return checks.made


def intervals(size: float) -> list[Check]:
    """Wilson's score interval from its formula, and the 299 samples that a 95% bound on a p99 wants."""
    del size
    checks = Checks("intervals", "Wilson 1927; order statistics")
    z = float(stats.norm.ppf(0.975))
    for successes, n in ((0, 100), (5, 100), (5, 1000)):
        centre = (successes + z * z / 2) / (n + z * z)
        half = z / (n + z * z) * math.sqrt(successes * (n - successes) / n + z * z / 4)
        interval = wilson(successes, n)
        label = f"{successes} of {n}: "
        checks.exactly(f"{label}low", max(0.0, centre - half), float(interval.low))
        checks.exactly(f"{label}high", centre + half, float(interval.high))
    # the upper end of a two-sided 90% interval is a one-sided 95% bound
    fewest = math.ceil(math.log(0.05) / math.log(0.99))
    checks.exactly("samples for a 95% upper bound on the p99", fewest, values_needed(0.99, confidence=0.90))
    return checks.made


CASES: tuple[Case, ...] = (coordinated_omission, intervals)
