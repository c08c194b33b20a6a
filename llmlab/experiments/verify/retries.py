"""Retries: how many attempts, how many failures, how long, and what layers make of them."""

from __future__ import annotations

from llmlab import virtual_time
from llmlab.backends.mock import MockBackend
from llmlab.core.client import AsyncClient
from llmlab.core.event_log import EventLog
from llmlab.core.policy import ClientPolicy
from llmlab.core.retry import Backoff, RetryPolicy
from llmlab.experiments.experiment import Experiment
from llmlab.experiments.verify.case import Case, Check, Checks
from llmlab.experiments.workload import ClosedLoop

REPLICATES = 10
_NO_WAIT = Backoff(base=0.0)


def independent_retries(size: float) -> list[Check]:
    """E[attempts] = (1 - p^(r+1)) / (1 - p); P(call fails) = p^(r+1)."""
    checks = Checks("independent retries", "geometric series")
    for p, retries in ((0.1, 3), (0.5, 3), (0.9, 2), (1.0, 3)):
        base = Experiment(
            backend=MockBackend(latency=0.1, server_error_probability=p),
            policy=ClientPolicy(retry=RetryPolicy(max_retries=retries, backoff=_NO_WAIT), total_timeout=None),
            workload=ClosedLoop(calls=max(200, round(5000 * size)), users=4),
        )
        attempts, failures = [], []
        for seed in range(REPLICATES):
            result = base.replace(seed=seed).run()
            attempts.append(len(result.attempts) / len(result.calls))
            failures.append(1 - result.calls["answered"].mean())
        failing = p ** (retries + 1)
        expected = retries + 1.0 if p == 1 else (1 - failing) / (1 - p)
        label = f"p={p:g}, r={retries}: "
        checks.on_average(f"{label}attempts per call", expected, attempts)
        if failing > 1e-3:
            checks.on_average(f"{label}failed calls", failing, failures)
    return checks.made


def timeout_trap(size: float) -> list[Check]:
    """Three attempts of 30 s against a server that never answers take 90 s and the backoff; a deadline ends that."""
    del size
    checks = Checks("per-attempt timeout trap", "openai-python's backoff, 0.5 s doubling, without its jitter")
    retry = RetryPolicy(max_retries=2, backoff=Backoff(base=0.5, maximum=8.0, jitter="none"))
    policy = ClientPolicy(attempt_timeout=30.0, total_timeout=None, retry=retry)
    backend = MockBackend(timeout_probability=1.0)
    workload = ClosedLoop(calls=1, users=1)
    took = Experiment(backend=backend, policy=policy, workload=workload).run().calls["latency_s"].iloc[0]
    bounded = policy.replace(total_timeout=45.0)
    calls = Experiment(backend=backend, policy=bounded, workload=workload).run().calls
    checks.exactly("latency of 3 attempts (s)", 90 + 0.5 + 1.0, took)
    checks.exactly("latency under a total timeout of 45 s (s)", 45.0, calls["latency_s"].iloc[0])
    return checks.made


def layers_multiply(size: float) -> list[Check]:
    """Three layers of three attempts make 27 attempts at the bottom, five make 243."""
    del size
    checks = Checks("layered retries", "AWS Builders' Library, Timeouts, retries and backoff with jitter")
    for layers in (3, 5):
        checks.exactly(f"attempts at the bottom of {layers} layers", 3.0**layers, _bottom(layers))
    return checks.made


def _bottom(layers: int) -> int:
    log = EventLog()
    policy = ClientPolicy(retry=RetryPolicy(max_retries=2, backoff=_NO_WAIT), attempt_timeout=None, total_timeout=None)

    async def main() -> None:
        client = AsyncClient(MockBackend(server_error_probability=1.0), policy, observers=[log], seed=0, layer="1")
        for layer in range(2, layers + 1):
            client = AsyncClient(client, policy, seed=layer, layer=str(layer))
        await client.generate("hello")

    virtual_time.run(main())
    return len(log)


CASES: tuple[Case, ...] = (independent_retries, timeout_trap, layers_multiply)
