"""Laws of calls under the protective policies: for every mix of them, every server, load and cancellation."""

import asyncio
import itertools
import math
from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab import (
    AsyncClient,
    Backoff,
    ClientPolicy,
    ClosedLoop,
    EventLog,
    Experiment,
    Exponential,
    Fate,
    Faults,
    MockBackend,
    OpenLoop,
    RateLimit,
    RetryPolicy,
    ServerModel,
    Window,
)
from llmlab.core.adaptive import AdaptiveConcurrency
from llmlab.core.breaker import CircuitBreaker
from llmlab.core.budget import RetryBudget
from llmlab.core.hedging import Hedging
from llmlab.core.throttle import AdaptiveThrottle
from llmlab.core.vocabulary import REASONS, BackoffSource, FailureReason
from llmlab.virtual_time import run
from tests.core.traffic import CALLS, Gauge, quarters, traffic

share = st.sampled_from([0.0, 0.2, 0.4])
tokens = st.sampled_from([0.0, 0.25, 1.0])

SERVERS = st.builds(
    MockBackend,
    latency=quarters | st.builds(Exponential, mean=quarters),
    refusal_latency=st.sampled_from([0.0, 0.25]),
    server=st.none()
    | st.builds(
        ServerModel,
        slots=st.integers(1, 2),
        queue=st.none() | st.integers(0, 2),
        on_disconnect=st.sampled_from(["stop", "work_on"]),
        requests_per_minute=st.none() | st.just(30),
        limit_burst=st.just(4.0),
    ),
    faults=st.builds(Faults, timeout=share, rate_limit=share, empty=st.just(0.1), retry_after=st.none() | quarters)
    | st.builds(Faults, server_error=share, schedule=st.just((Window(kind="overload", start=2, end=6),))),
    seed=st.integers(0, 100),
)
BUDGETS = st.builds(
    RetryBudget, capacity=st.integers(1, 3), per_call=tokens, per_success=tokens, failure_cost=st.sampled_from([0, 0.5])
)
BREAKERS = st.builds(
    CircuitBreaker,
    minimum_attempts=st.integers(1, 3),
    window=quarters,
    open_for=quarters,
    probes=st.integers(1, 2),
)
THROTTLES = st.builds(AdaptiveThrottle, k=st.sampled_from([1.0, 2.0]), window=quarters)
ADAPTIVE = st.builds(
    AdaptiveConcurrency,
    law=st.sampled_from(["aimd", "gradient"]),
    initial=st.integers(2, 4),
    minimum=st.integers(1, 2),
    maximum=st.integers(4, 6),
)
HEDGING = st.builds(Hedging, delay=st.just(0.0) | quarters, max_hedges=st.integers(1, 2)) | st.builds(
    Hedging, percentile=st.just(0.5), at_least=st.integers(1, 3)
)
POLICIES = st.builds(
    ClientPolicy,
    retry=st.builds(
        RetryPolicy,
        max_retries=st.integers(0, 3),
        backoff=st.builds(Backoff, base=st.sampled_from([0.0, 0.25, 1.0]), jitter=st.sampled_from(["full", "none"])),
    ),
    attempt_timeout=quarters,
    total_timeout=st.none() | quarters,
    max_concurrency=st.none() | st.integers(2, 3),
    rate_limit=st.none() | st.just(RateLimit(requests=10, per=10.0, burst=3)),
    budget=st.none() | BUDGETS,
    breaker=st.none() | BREAKERS,
    throttle=st.none() | THROTTLES,
    adaptive_concurrency=st.none() | ADAPTIVE,
    hedging=st.none() | HEDGING,
)


def simulated(policy, servers, calls):
    """Make calls through clients that share one state; return events, results, gauge and state, nothing left over."""
    log, gauges, complaints = EventLog(), [], []

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        clients = []
        for server in servers:
            gauges.append(Gauge(server))
            state = clients[0].state if clients else None
            clients.append(
                AsyncClient(gauges[-1], policy, observers=[log], seed=1, state=state, layer=str(len(clients)))
            )
        results = await asyncio.gather(
            *(traffic(client, calls[place :: len(clients)]) for place, client in enumerate(clients))
        )
        for client in clients:
            await client.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        left = [timer for timer in loop._timers if not timer.cancelled()]
        assert all("ServedMock" in repr(timer) for timer in left), "only a server that works on has something to do"
        return list(itertools.chain(*results)), clients[0].state

    results, state = run(main())
    assert complaints == []
    assert state.calls_in_progress == 0
    assert state.slots is None or (state.slots.in_use == 0 and not state.slots.waiting)
    assert state.guard is None or state.guard.breaker is None or state.guard.breaker._probes_out == 0
    return log, results, gauges, state


def attempts_of(log):
    attempts = defaultdict(list)
    for attempt in log.attempts:
        attempts[attempt.layer, attempt.call].append(attempt)
    return {key: sorted(rows, key=lambda row: row.attempt) for key, rows in attempts.items()}


@settings(max_examples=120)
@given(POLICIES, SERVERS, CALLS)
def test_every_call_has_one_fate_and_every_attempt_is_counted_once(policy, server, calls):
    log, results, (gauge,), _ = simulated(policy, [server], calls)
    fates = Counter(call.fate for call in log.calls)
    assert fates.total() == len(calls) == len(results)
    assert fates[Fate.ANSWERED] == sum(getattr(result, "ok", False) for result in results)
    assert fates[Fate.CANCELLED] == sum(isinstance(result, asyncio.CancelledError) for result in results)
    failed = Counter(result.fate for result in results if not getattr(result, "ok", True))
    assert {fate: count for fate, count in fates.items() if fate not in {Fate.ANSWERED, Fate.CANCELLED}} == failed
    attempts = attempts_of(log)
    assert {call: len(rows) for (_, call), rows in attempts.items()} == dict(gauge.begun)
    for call in log.calls:
        check_call(call, attempts.get(("0", call.call), []), policy)


def check_call(call, attempts, policy):
    hedges = sum(attempt.hedge for attempt in attempts)
    max_hedges = 0 if policy.hedging is None else policy.hedging.max_hedges
    assert call.attempts == len(attempts) <= 1 + policy.retry.max_retries + hedges
    assert hedges <= max_hedges * (len(attempts) - hedges)
    assert [attempt.attempt for attempt in attempts] == list(range(1, len(attempts) + 1))
    spent = call.slot_wait_s + call.rate_wait_s + call.server_s + call.backoff_s
    assert spent == pytest.approx(call.ended_at_s - call.started_at_s, abs=1e-9)
    assert min(call.slot_wait_s, call.rate_wait_s, call.server_s, call.backoff_s) >= 0
    if policy.total_timeout is not None:
        assert call.ended_at_s - call.started_at_s <= policy.total_timeout + 1e-9
    for attempt in attempts:
        assert call.started_at_s <= attempt.queued_at_s <= attempt.started_at_s <= attempt.ended_at_s <= call.ended_at_s
    if call.fate == Fate.ANSWERED:
        assert (call.reason, call.last_reason) == (None, None)
        assert any(attempt.reason is None for attempt in attempts)
        return
    assert call.fate in REASONS[FailureReason(call.reason)].fates
    # Of a race an attempt may have been answered at the very instant at which the caller cancelled the call.
    assert call.fate == Fate.CANCELLED or all(attempt.reason is not None for attempt in attempts)
    guards = {Fate.BUDGET_EXHAUSTED: policy.budget, Fate.CIRCUIT_OPEN: policy.breaker}
    assert call.fate not in guards or guards[call.fate] is not None
    assert call.fate != Fate.REJECTED_BY_LIMIT or policy.throttle is not None


@settings(max_examples=100)
@given(POLICIES, SERVERS, CALLS)
def test_every_event_says_why_its_wait_was_as_long_as_it_was(policy, server, calls):
    log = simulated(policy, [server], calls)[0]
    by_number = {call.call: call for call in log.calls}
    for (_, number), attempts in attempts_of(log).items():
        races = [list(race) for _, race in itertools.groupby(attempts, key=race_number(attempts))]
        backoffs = [check_waits(race, policy) for race in races]
        for race, backoff, following in zip(races, backoffs, races[1:], strict=False):
            ended = max(attempt.ended_at_s for attempt in race)
            assert following[0].queued_at_s == pytest.approx(ended + backoff, abs=1e-9)
        whole = sum(backoffs[: len(races) - 1])
        assert by_number[number].backoff_s >= whole - 1e-9
        if by_number[number].fate != Fate.CANCELLED and math.isnan(backoffs[-1]):
            assert by_number[number].backoff_s == pytest.approx(whole, abs=1e-9)


def race_number(attempts):
    """Tell the races of a call apart: each begins with an attempt that is no hedge."""
    numbers = itertools.accumulate(not attempt.hedge for attempt in attempts)
    race_of = dict(zip((attempt.attempt for attempt in attempts), numbers, strict=True))
    return lambda attempt: race_of[attempt.attempt]


def check_waits(race, policy):
    """Return the backoff after a race, in seconds, NaN where there is none: exactly one of its events says it."""
    said = [attempt for attempt in race if not math.isnan(attempt.backoff_s)]
    assert len(said) <= 1
    for attempt in race:
        granted = attempt.queued_at_s + attempt.slot_wait_s
        assert granted + attempt.rate_wait_s == pytest.approx(attempt.started_at_s, abs=1e-9)
        assert (attempt.backoff_source is None) is math.isnan(attempt.backoff_s)
        assert attempt.slot_wait_s == 0 or policy.max_concurrency or policy.adaptive_concurrency
        assert attempt.rate_wait_s == 0 or policy.rate_limit
    for attempt in said:
        if attempt.backoff_source == BackoffSource.RETRY_AFTER:
            assert attempt.backoff_s == attempt.retry_after_s
        else:
            assert math.isnan(attempt.retry_after_s)
            assert 0 <= attempt.backoff_s <= policy.retry.backoff.maximum
    return said[0].backoff_s if said else math.nan


@settings(max_examples=60)
@given(POLICIES, BUDGETS, st.lists(SERVERS, min_size=1, max_size=3), CALLS)
def test_a_budget_bounds_what_all_clients_that_share_it_add(policy, budget, servers, calls):
    log = simulated(policy.replace(budget=budget), servers, calls)[0]
    answered = sum(attempt.reason is None for attempt in log.attempts)
    added = sum(len(attempts) - 1 for attempts in attempts_of(log).values())
    paid_in = budget.capacity + budget.per_call * len(calls) + budget.per_success * answered
    assert added * budget.retry_cost <= paid_in + 1e-6


@settings(max_examples=60)
@given(POLICIES, st.none() | ADAPTIVE, st.lists(SERVERS, min_size=2, max_size=3), CALLS)
def test_clients_that_share_limits_keep_them_together(policy, adaptive, servers, calls):
    limit = RateLimit(requests=4, per=10.0, burst=2)
    policy = policy.replace(adaptive_concurrency=adaptive, max_concurrency=3, rate_limit=limit)
    log, _, _, state = simulated(policy, servers, calls)
    starts = [(attempt.started_at_s, 1) for attempt in log.attempts]
    ends = [(attempt.ended_at_s, -1) for attempt in log.attempts]
    assert max(itertools.accumulate((step for _, step in sorted(starts + ends))), default=0) <= 3
    for first, _ in starts:
        assert sum(first <= start < first + limit.per - 1e-9 for start, _ in starts) <= limit.requests + limit.burst - 1
    assert adaptive is None or min(adaptive.minimum, 3) <= state.slots.limit <= 3


@settings(max_examples=60)
@given(ADAPTIVE, SERVERS, CALLS, st.none() | st.integers(2, 5))
def test_an_adaptive_limit_stays_within_its_bounds_and_no_more_are_in_flight(adaptive, server, calls, ceiling):
    policy = ClientPolicy(adaptive_concurrency=adaptive, max_concurrency=ceiling, attempt_timeout=5.0)
    _, _, (gauge,), state = simulated(policy, [server], calls)
    assert gauge.most <= min(adaptive.maximum, ceiling or adaptive.maximum)
    assert min(adaptive.minimum, ceiling or adaptive.minimum) <= state.slots.limit <= (ceiling or adaptive.maximum)


@settings(max_examples=30)
@given(st.sampled_from(["aimd", "gradient"]), st.integers(1, 8), st.floats(0, 1e7), st.booleans())
def test_no_retry_after_freezes_an_adaptive_limit(law, initial, retry_after, respected):
    """After an outage of refusals, calls are let in and answered at once, however long the server asked to wait."""
    outage = Faults(schedule=(Window(kind="rate_limit", start=5, end=10),), retry_after=retry_after)
    policy = ClientPolicy(
        adaptive_concurrency=AdaptiveConcurrency(law=law, initial=initial, maximum=8),
        retry=RetryPolicy(max_retries=1, respect_retry_after=respected),
        total_timeout=None,
    )
    workload = OpenLoop(rate=4, duration=30, arrivals="constant")
    calls = Experiment(backend=MockBackend(latency=0.1, faults=outage), policy=policy, workload=workload).run().calls
    after = calls[calls["arrived_at_s"] > 10.2]
    assert after["answered"].all()
    assert after["latency_s"].max() < 1.0


@settings(max_examples=40)
@given(POLICIES, SERVERS, st.integers(1, 4))
def test_guarded_calls_of_a_workload_are_the_same_in_every_run(policy, server, users):
    experiment = Experiment(backend=server, policy=policy, workload=ClosedLoop(calls=12, users=users))
    first, second = (experiment.record().log for _ in range(2))
    assert str(first.attempts) == str(second.attempts)  # as texts, in which NaN is NaN
    assert str(first.calls) == str(second.calls)
