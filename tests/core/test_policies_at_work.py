"""The protective policies through the real client: budget, breaker, throttle, adaptive limit, hedging."""

import asyncio

import numpy as np
import pytest

from llmlab import (
    Answer,
    AsyncClient,
    ClientPolicy,
    ClosedLoop,
    EventLog,
    Experiment,
    Exponential,
    FailureReason,
    Fate,
    MockBackend,
    OpenLoop,
    RateLimit,
    RetryPolicy,
    ServerModel,
    Window,
    virtual_time,
)
from llmlab.core.adaptive import AdaptiveConcurrency
from llmlab.core.breaker import CircuitBreaker
from llmlab.core.budget import RetryBudget
from llmlab.core.hedging import Hedging
from llmlab.core.throttle import AdaptiveThrottle

PATIENT = ClientPolicy(attempt_timeout=None, total_timeout=None)


def run(policy, backend, workload):
    return Experiment(backend=backend, policy=policy, workload=workload, seed=3).run()


def accounts_add_up(calls):
    spent = calls["slot_wait_s"] + calls["rate_wait_s"] + calls["server_s"] + calls["backoff_s"]
    return np.allclose(spent, calls["ended_at_s"] - calls["started_at_s"], atol=1e-9)


def test_a_spent_budget_ends_calls_and_names_what_the_last_attempt_met():
    policy = ClientPolicy(budget=RetryBudget(capacity=3))
    result = run(policy, MockBackend(server_error_probability=1.0), ClosedLoop(calls=20, users=1))
    fates = result.calls["fate"].value_counts()
    assert fates[Fate.BUDGET_EXHAUSTED] == 19
    assert fates[Fate.RETRIES_EXHAUSTED] == 1
    denied = result.calls[result.calls["fate"] == Fate.BUDGET_EXHAUSTED]
    assert set(denied["reason"]) == {FailureReason.BUDGET_EXHAUSTED}
    assert set(denied["last_reason"]) == {FailureReason.SERVER_ERROR}
    assert len(result.attempts) == 20 + 3


@pytest.mark.parametrize(("fault", "retries"), [("server_error_probability", 100), ("timeout_probability", 50)])
def test_the_aws_quota_allows_as_many_retries_as_its_tokens_pay_for(fault, retries):
    budget = RetryBudget(capacity=500, retry_cost=5, timeout_cost=10, per_success=1)
    result = run(ClientPolicy(budget=budget), MockBackend(**{fault: 1.0}), ClosedLoop(calls=500, users=1))
    assert len(result.attempts) == 500 + retries


def test_a_budget_fed_by_requests_bounds_amplification():
    policy = ClientPolicy(budget=RetryBudget(capacity=10, per_call=0.1), retry=RetryPolicy(max_retries=5))
    result = run(policy, MockBackend(server_error_probability=0.9), ClosedLoop(calls=2000, users=20))
    assert len(result.attempts) <= 2000 + 10 + 0.1 * 2000


def test_an_open_circuit_fails_calls_at_once_and_closes_after_the_outage():
    outage = MockBackend(latency=0.1, faults={"schedule": [Window(kind="server_error", start=10, end=20)]})
    policy = ClientPolicy(breaker=CircuitBreaker(window=2.0, open_for=2.0), retry=RetryPolicy(max_retries=0))
    calls = run(policy, outage, OpenLoop(rate=20, duration=40, arrivals="constant")).calls
    during = calls[(calls["arrived_at_s"] > 13) & (calls["arrived_at_s"] < 20)]
    refused = during[during["fate"] == Fate.CIRCUIT_OPEN]
    assert len(refused) > 0.9 * len(during)
    assert (refused["attempts"] == 0).all()
    assert (refused["latency_s"] == 0).all()
    assert calls[calls["arrived_at_s"] > 23]["answered"].all()


def test_an_open_circuit_spends_no_place_of_the_rate_limit():
    policy = ClientPolicy(
        breaker=CircuitBreaker(minimum_attempts=1, open_for=1000.0),
        rate_limit=RateLimit(requests=1, per=10.0),
        retry=RetryPolicy(max_retries=0),
        total_timeout=None,
    )
    calls = run(policy, MockBackend(server_error_probability=1.0), ClosedLoop(calls=5, users=1)).calls
    assert list(calls["fate"]) == [Fate.RETRIES_EXHAUSTED] + [Fate.CIRCUIT_OPEN] * 4
    assert calls["rate_wait_s"].max() == 0.0


def test_a_throttle_turns_away_what_the_server_would_have_refused():
    outage = MockBackend(latency=0.1, faults={"schedule": [Window(kind="overload", start=10, end=60)]})
    policy = ClientPolicy(throttle=AdaptiveThrottle(k=2.0, window=2.0), retry=RetryPolicy(max_retries=0))
    calls = run(policy, outage, OpenLoop(rate=50, duration=100)).calls
    late_in_the_outage = calls[(calls["arrived_at_s"] > 45) & (calls["arrived_at_s"] < 60)]
    assert (late_in_the_outage["fate"] == Fate.REJECTED_BY_LIMIT).mean() > 0.8
    assert calls[calls["arrived_at_s"] > 90]["answered"].mean() > 0.9


def test_an_adaptive_limit_finds_what_the_server_takes():
    server = MockBackend(server=ServerModel(slots=4, queue=0, service_time=1.0))
    policy = ClientPolicy(adaptive_concurrency=AdaptiveConcurrency(initial=32), retry=RetryPolicy(max_retries=0))
    calls = run(policy, server, ClosedLoop(calls=3000, users=40)).calls
    early, late = calls.head(100), calls.tail(1000)
    assert (~early["answered"]).mean() > 0.2
    assert late["answered"].mean() > 0.75  # without a limit 36 of 40 are refused
    assert accounts_add_up(calls)


def test_hedging_cuts_the_tail_for_a_small_load():
    hedged = PATIENT.replace(hedging=Hedging(delay=2.9957))  # the p95 of the exponential distribution
    result = run(hedged, MockBackend(latency=Exponential(mean=1.0)), ClosedLoop(calls=5000, users=50))
    assert len(result.attempts) / 5000 == pytest.approx(1.05, abs=0.01)
    assert result.calls["latency_s"].quantile(0.99) == pytest.approx(3.80, abs=0.25)  # 4.6 without
    assert accounts_add_up(result.calls)
    losers = result.attempts[~result.attempts["answered"]]
    assert set(losers["reason"]) == {FailureReason.CANCELLED}
    events = result.attempts.groupby("call").size()
    assert events.equals(result.calls.set_index("call")["attempts"].sort_index().rename(None))


def test_a_measured_percentile_keeps_the_extra_load_near_its_share():
    hedged = PATIENT.replace(hedging=Hedging(percentile=0.95))
    result = run(hedged, MockBackend(latency=Exponential(mean=1.0)), ClosedLoop(calls=5000, users=20))
    assert len(result.attempts) / 5000 == pytest.approx(1.05, abs=0.015)


class SlowFirst:
    """Answers hedges at once, and first attempts after a minute; counts who was cancelled."""

    simulated = True

    def __init__(self):
        self.cancelled = 0

    async def attempt(self, request, *, timeouts, key):
        try:
            await asyncio.sleep(60.0 if key.attempt == 1 else 0.5)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return Answer(f"attempt {key.attempt}")


def test_the_first_answer_wins_and_the_loser_is_cancelled_and_gives_its_slot_back():
    backend, log = SlowFirst(), EventLog()

    async def main():
        policy = ClientPolicy(hedging=Hedging(delay=2.0), max_concurrency=2)
        client = AsyncClient(backend, policy, observers=[log], seed=0)
        result = (await client.generate("hello")).unwrap()
        return result, client.state.slots.in_use, len(asyncio.all_tasks())

    result, slots_in_use, tasks = virtual_time.run(main())
    assert (result.text, result.latency, result.attempts) == ("attempt 2", 2.5, 2)
    assert (backend.cancelled, slots_in_use, tasks) == (1, 0, 1)
    assert {(event.hedge, event.reason) for event in log.attempts} == {(False, "cancelled"), (True, None)}


def test_a_hedge_does_not_queue_for_a_slot():
    log = EventLog()

    async def main():
        policy = ClientPolicy(hedging=Hedging(delay=2.0), max_concurrency=1)
        await AsyncClient(SlowFirst(), policy, observers=[log], seed=0).generate("hello")

    virtual_time.run(main())
    assert [(event.hedge, event.reason) for event in log.attempts] == [(False, "attempt_timeout"), (False, None)]
