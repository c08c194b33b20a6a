"""Policies of real clients, and limits: what their numbers add up to."""

from __future__ import annotations

import math

import numpy as np

from llmlab.backends.distributions import Exponential
from llmlab.backends.mock import MockBackend
from llmlab.backends.server_model import ServerModel
from llmlab.core.hedging import Hedging
from llmlab.core.limits import RateLimit
from llmlab.core.policy import ClientPolicy
from llmlab.core.presets import preset
from llmlab.core.retry import Backoff, RetryPolicy
from llmlab.experiments.experiment import Experiment
from llmlab.experiments.verify.case import Case, Check, Checks
from llmlab.experiments.verify.queues import ONCE
from llmlab.experiments.workload import ClosedLoop

REPLICATES = 10
HEDGE_DELAY_S = -math.log(0.05)
"""The 95th percentile of an exponential latency with mean 1 s."""


def openai_timeout(size: float) -> list[Check]:
    """Three timeouts of 30 s and two short waits: what openai's client makes of a server that never answers."""
    checks = Checks("openai timeout", "openai-python's backoff; its issue 3828 reports 91.6 s")
    timeout, attempts, first, jitter = 30.0, 3, 0.5, 0.25
    backoff = sum(first * 2**retry for retry in range(attempts - 1))
    low, high = attempts * timeout + backoff * (1 - jitter), attempts * timeout + backoff
    base = Experiment(
        backend=MockBackend(timeout_probability=1.0),
        policy=preset("openai").replace(attempt_timeout=timeout),
        workload=ClosedLoop(calls=max(100, round(1000 * size)), users=10),
    )
    runs = [base.replace(seed=seed).run().calls["latency_s"] for seed in range(REPLICATES)]
    checks.between("shortest call (s)", low, high, min(latency.min() for latency in runs))
    checks.between("longest call (s)", low, high, max(latency.max() for latency in runs))
    checks.on_average("mean (s)", (low + high) / 2, [latency.mean() for latency in runs])
    return checks.made


def retry_quota(size: float) -> list[Check]:
    """500 tokens, of which a retry takes 5, or 10 after a timeout; only answers would bring them back."""
    checks = Checks("AWS retry quota", "botocore 1.43 retries/quota.py, standard.py")
    calls, capacity = max(200, round(1000 * size)), 500.0
    servers = {
        "server errors": (MockBackend(server_error_probability=1.0), 5.0),
        "timeouts": (MockBackend(timeout_probability=1.0), 10.0),
    }
    for name, (backend, cost) in servers.items():
        workload = ClosedLoop(calls=calls, users=10)
        result = Experiment(backend=backend, policy=preset("aws-standard-1.43"), workload=workload).run()
        checks.exactly(f"{name}: attempts of {calls} calls", calls + capacity / cost, len(result.attempts))
    return checks.made


def hedged_tail(size: float) -> list[Check]:
    """A second attempt after d: P(T > t) = S(t) S(t - d) for t > d, and extra load S(d); here S(t) = e^-t."""
    checks = Checks("hedging", "Dean and Barroso, CACM 2013; independent copies")
    delay, calls = HEDGE_DELAY_S, max(2000, round(20_000 * size))
    plain, hedged = hedging(None, calls=calls), hedging(delay, calls=calls)
    alone, raced = ([each.replace(seed=seed).run().calls for seed in range(REPLICATES)] for each in (plain, hedged))
    checks.on_average("p99 without (s)", -math.log(0.01), [run["latency_s"].quantile(0.99) for run in alone])
    # S(t) S(t - d) = e^-(2t - d)
    expected = (delay - math.log(0.01)) / 2
    checks.on_average("p99 hedged at the p95 (s)", expected, [run["latency_s"].quantile(0.99) for run in raced])
    checks.on_average("extra load", math.exp(-delay), [run["attempts"].mean() - 1 for run in raced])
    return checks.made


def hedging(delay: float | None, *, calls: int) -> Experiment:
    """Return calls to a server of exponential latency, mean 1 s, hedged after `delay` seconds; `None` is not at all."""
    policy = ONCE if delay is None else ONCE.replace(hedging=Hedging(delay=delay))
    backend = MockBackend(latency=Exponential(mean=1.0))
    return Experiment(backend=backend, policy=policy, workload=ClosedLoop(calls=calls, users=10))


def release_times(size: float) -> list[Check]:
    """When calls that all come at once get through a rate limit: the client's own, or the server's with Retry-After."""
    del size
    checks = Checks("rate limit", "token bucket; GCRA (ITU-T I.371)")
    calls, burst, interval = 40, 5, 0.5
    workload = ClosedLoop(calls=calls, users=calls)
    released = [max(0, number - burst + 1) * interval for number in range(calls)]
    limit = RateLimit(requests=60 / interval, per=60.0, burst=burst)
    own = Experiment(backend=MockBackend(), policy=ONCE.replace(rate_limit=limit), workload=workload).run()
    starts = np.sort(own.attempts["started_at_s"])
    checks.exactly("client: last release (s)", released[-1], starts[-1])
    checks.exactly("client: worst release (s)", 0.0, np.abs(starts - released).max())
    server = ServerModel(slots=calls, requests_per_minute=60 / interval, limit_burst=burst * interval)
    retrying = ClientPolicy(
        retry=RetryPolicy(max_retries=calls, backoff=Backoff(base=0.0)), attempt_timeout=None, total_timeout=None
    )
    backend = MockBackend(server=server, latency=0.1, refusal_latency=0.0)
    asked = Experiment(backend=backend, policy=retrying, workload=workload).run()
    answered = asked.attempts[asked.attempts["reason"].isna()]
    starts = np.sort(answered["started_at_s"])
    checks.exactly("server: worst release (s)", 0.0, np.abs(starts - released).max())
    # All who are refused are told the same Retry-After, come back together, and one of them gets through.
    waiting = calls - burst
    checks.exactly("server: attempts, told the same wait", calls + waiting * (waiting + 1) / 2, len(asked.attempts))
    return checks.made


CASES: tuple[Case, ...] = (openai_timeout, retry_quota, hedged_tail, release_times)
