"""Laws of the call that hold for every policy, every server and every cancellation."""

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
    EventLog,
    Exponential,
    Fate,
    Faults,
    JsonLinesObserver,
    MockBackend,
    RateLimit,
    RetryPolicy,
    WithFaults,
)
from llmlab.backends.faults import FaultKind
from llmlab.core.vocabulary import REASONS, FailureReason
from llmlab.virtual_time import run
from tests.core.traffic import CALLS, Gauge, quarters, traffic

share = st.sampled_from([0.0, 0.1, 0.3])

BACKENDS = st.builds(
    MockBackend,
    latency=quarters | st.builds(Exponential, mean=quarters),
    refusal_latency=st.sampled_from([0.0, 0.25, 1.0]),
    faults=st.builds(
        Faults,
        timeout=share,
        rate_limit=share,
        server_error=share,
        empty=st.sampled_from([0.0, 0.1]),
        retry_after=st.none() | quarters,
    ),
    seed=st.integers(0, 100),
)
POLICIES = st.builds(
    ClientPolicy,
    retry=st.builds(
        RetryPolicy,
        max_retries=st.integers(0, 3),
        backoff=st.builds(
            Backoff,
            base=st.sampled_from([0.0, 0.25, 1.0]),
            jitter=st.sampled_from(["full", "equal", "decorrelated", "none"]),
        ),
    ),
    attempt_timeout=quarters,
    total_timeout=st.none() | quarters,
    max_concurrency=st.none() | st.integers(1, 3),
    max_queue=st.none() | st.integers(0, 2),
    max_queue_wait=st.none() | quarters,
    rate_limit=st.none()
    | st.builds(RateLimit, requests=st.integers(1, 20), per=st.just(10.0), burst=st.integers(1, 3)),
)


@settings(max_examples=120)
@given(BACKENDS, POLICIES, CALLS)
def test_counts_and_times_conserve_and_nothing_is_left_over(backend, policy, calls):
    log, gauge, complaints = EventLog(), Gauge(backend), []

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        client = AsyncClient(gauge, policy, observers=[log], seed=1)
        results = await traffic(client, calls)
        await client.aclose()
        slots = client.state.slots
        assert slots is None or (slots.in_use == 0 and not slots.waiting)
        assert client.state.calls_in_progress == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert [timer for timer in loop._timers if not timer.cancelled()] == []
        return results

    results = run(main())
    assert complaints == []
    check_conservation(log, policy, results, gauge)


def check_conservation(log, policy, results, gauge):
    outcomes = Counter(call.fate for call in log.calls)
    assert outcomes[Fate.ANSWERED] == sum(getattr(result, "ok", False) for result in results)
    assert outcomes[Fate.CANCELLED] == sum(isinstance(result, asyncio.CancelledError) for result in results)
    assert len(log.calls) == len(results) == len({call.call for call in log.calls})
    attempts = defaultdict(list)
    for attempt in log.attempts:
        attempts[attempt.call].append(attempt)
    assert {number: len(rows) for number, rows in attempts.items()} == dict(gauge.begun)
    assert policy.max_concurrency is None or gauge.most <= policy.max_concurrency
    for call in log.calls:
        check_call(call, attempts[call.call], policy)


def check_call(call, attempts, policy):
    approx = lambda value: pytest.approx(value, abs=1e-9)  # noqa: E731
    spent = call.slot_wait_s + call.rate_wait_s + call.server_s + call.backoff_s
    assert spent == approx(call.ended_at_s - call.started_at_s)
    assert min(call.slot_wait_s, call.rate_wait_s, call.server_s, call.backoff_s) >= 0
    assert call.attempts == len(attempts) <= policy.retry.max_retries + 1
    assert [attempt.attempt for attempt in attempts] == list(range(1, len(attempts) + 1))
    assert sum(attempt.ended_at_s - attempt.started_at_s for attempt in attempts) == approx(call.server_s)
    assert sum(attempt.slot_wait_s for attempt in attempts) <= call.slot_wait_s + 1e-9
    for attempt, following in itertools.pairwise(attempts):
        assert attempt.reason in REASONS
        assert following.queued_at_s == approx(attempt.ended_at_s + attempt.backoff_s)
    for attempt in attempts:
        assert attempt.queued_at_s + attempt.slot_wait_s + attempt.rate_wait_s == approx(attempt.started_at_s)
        assert attempt.ended_at_s - attempt.started_at_s <= policy.attempt_timeout + 1e-9
        assert (attempt.backoff_source is None) is math.isnan(attempt.backoff_s)
    assert (call.reason is None) is (call.fate == Fate.ANSWERED)
    if policy.total_timeout is not None:
        assert call.ended_at_s - call.started_at_s <= policy.total_timeout + 1e-9
    if call.fate != Fate.ANSWERED:
        assert call.fate in REASONS[FailureReason(call.reason)].fates
    if attempts and call.fate == Fate.ANSWERED:
        assert attempts[-1].reason is None
        first_token = attempts[-1].started_at_s + attempts[-1].time_to_first_token_s
        assert call.arrived_at_s + call.time_to_first_token_s == approx(first_token)


@settings(max_examples=40)
@given(BACKENDS, POLICIES, CALLS)
def test_no_window_sees_more_starts_than_the_rate_limit_allows(backend, policy, calls):
    limit = RateLimit(requests=4, per=10.0, burst=2)
    log = EventLog()
    run(traffic(AsyncClient(backend, policy.replace(rate_limit=limit), observers=[log], seed=1), calls))
    starts = [attempt.started_at_s for attempt in log.attempts]
    for first in starts:
        assert sum(first <= start < first + limit.per - 1e-9 for start in starts) <= 5


@settings(max_examples=25)
@given(BACKENDS, POLICIES, CALLS)
def test_the_same_seed_gives_the_same_events_byte_for_byte(tmp_path_factory, backend, policy, calls):
    def written():
        path = tmp_path_factory.mktemp("events") / "events.jsonl"
        with JsonLinesObserver(path) as observer:
            run(traffic(AsyncClient(backend, policy, observers=[observer], seed=1), calls))
        return path.read_bytes()

    assert written() == written()


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(0, 3), st.booleans())
def test_the_weather_of_an_attempt_does_not_depend_on_the_policy(seed, concurrency, max_retries, wrapped):
    """Common random numbers: (call, attempt) fixes fault and latency, however the calls are scheduled."""

    def weather(policy):
        log = EventLog()
        backend = MockBackend(faults=Faults(overload=0.3, timeout=0.1), seed=seed)
        if wrapped:
            backend = WithFaults(backend, overload_probability=0.2, seed=seed)

        async def main():
            await AsyncClient(backend, policy, observers=[log]).generate_many(["Hello"] * 8, concurrency=8)

        run(main())
        return {
            (attempt.call, attempt.attempt): (attempt.reason, round(attempt.ended_at_s - attempt.started_at_s, 9))
            for attempt in log.attempts
        }

    plain = weather(ClientPolicy(retry=RetryPolicy(max_retries=0), total_timeout=None))
    other = weather(
        ClientPolicy(retry=RetryPolicy(max_retries=max_retries), max_concurrency=concurrency, total_timeout=None)
    )
    assert {key: other[key] for key in plain} == plain
    assert max_retries or other == plain


@given(st.sampled_from(FaultKind), st.floats(0, 1), st.floats(0, 1), st.integers(0, 1000))
def test_raising_one_probability_takes_no_fault_away(kind, one, other, seed):
    low, high = sorted((one, other))

    def faulty(probability):
        from llmlab.backends.faults import drawn
        from llmlab.core.chance import Purpose, uniform

        thresholds = Faults(**{kind: probability}).thresholds()
        return {call for call in range(50) if drawn(thresholds, uniform(seed, call, 1, Purpose.SERVER))}

    assert faulty(low) <= faulty(high)
