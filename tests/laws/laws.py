"""The laws: what holds of every run, whatever the policy, the server, the load, and whoever left when.

Each law is a function of a `Record` and fails with an AssertionError. They know the events and what callers, the gauge
and the loop say, and nothing of how the client works. `check` holds a record against all of them.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import Counter

from llmlab import LLMFailure, LLMResponse
from llmlab.core.client import OUTERMOST
from llmlab.core.limits import estimated_tokens
from llmlab.core.vocabulary import REASONS, BackoffSource, FailureReason, Fate
from tests.laws.recording import VISITORS, Read
from tests.laws.worlds import TEXT

ROUNDING = 1e-9


def equal(one, other):
    return abs(one - other) <= ROUNDING


def duration(row):
    return row.ended_at_s - row.started_at_s


def of_calls(law):
    """Make a law of a whole run from one of a single call, its attempts in order, and the policy it was made under."""

    def of_all_calls(record):
        for group in record.groups:
            for call in group.calls:
                law(call, group.attempts_of(call), group.policy)

    of_all_calls.__name__ = law.__name__
    return of_all_calls


# ---- counts


@of_calls
def attempts_are_bounded(call, attempts, policy):
    """A call has 1 + max_retries attempts at most, and each of them max_hedges beside it."""
    hedges = sum(attempt.hedge for attempt in attempts)
    most = 0 if policy.hedging is None else policy.hedging.max_hedges
    assert len(attempts) - hedges <= 1 + policy.retry.max_retries
    assert hedges <= most * (len(attempts) - hedges)


def an_attempt_asks_each_backend_once(record):
    """An attempt outside is one call of each client inside at most, so attempts multiply by the policies alone."""
    inner = [call for call in record.log.calls if call.layer not in {OUTERMOST, VISITORS}]
    asked = Counter((call.layer, call.parent_call, call.parent_attempt) for call in inner)
    assert max(asked.values(), default=0) <= 1


def every_attempt_has_exactly_one_event(record):
    """Whatever was cancelled when: what the backend was asked is what the events say."""
    (outside, *_) = record.groups
    assert {call: len(attempts) for call, attempts in outside.by_call.items()} == dict(record.counts.begun)


def every_call_has_exactly_one_event(record):
    for group in record.groups:
        assert max(Counter((call.layer, call.call) for call in group.calls).values(), default=0) <= 1


def results_are_what_the_events_say(record):
    """Calls = answers + failures + cancellations, one by one the same for their callers."""
    by_number = {call.call: call for call in record.log.calls if call.layer == VISITORS}
    said = [result for result in flattened(record.results) if isinstance(result, LLMResponse | LLMFailure)]
    for result in said:
        call = by_number.pop(result.call)
        assert call.fate == (Fate.ANSWERED if result.ok else result.fate)
        assert call.attempts == result.attempts
        assert equal(result.latency, duration(call))
        assert result.ok or (call.reason, call.last_reason) == (result.reason, result.last_reason)
    # The others' callers have no result: they were cancelled, alone or with their batch.
    unheard = {
        place for place, result in enumerate(record.results)
        if isinstance(result, asyncio.CancelledError) or record.world.visits[place].wants == "batch"
    }  # fmt: skip
    assert bool(unheard) or not by_number
    for result in record.results:
        assert not isinstance(result, Exception), result


def flattened(results):
    for result in results:
        if isinstance(result, Read):
            if result.stream is not None and result.stream._call is not None:
                yield result.stream.result
        elif isinstance(result, list):
            yield from result
        else:
            yield result


def the_workload_is_done(record):
    numbers = [call.call for call in record.log.calls if call.layer == OUTERMOST]
    assert sorted(numbers) == list(range(record.world.experiment.workload.calls))


# ---- times


@of_calls
def times_conserve(call, attempts, _):
    """Wait for a slot, wait for the rate, server and backoff add up to what the call took."""
    parts = (call.slot_wait_s, call.rate_wait_s, call.server_s, call.backoff_s)
    assert min(parts) >= 0
    assert equal(sum(parts), duration(call))
    assert call.attempts == len(attempts)
    assert [attempt.attempt for attempt in attempts] == list(range(1, len(attempts) + 1))
    for attempt in attempts:
        assert call.started_at_s <= attempt.queued_at_s <= attempt.started_at_s <= attempt.ended_at_s <= call.ended_at_s
        assert equal(attempt.queued_at_s + attempt.slot_wait_s + attempt.rate_wait_s, attempt.started_at_s)
    if not any(attempt.hedge for attempt in attempts):
        assert equal(sum(map(duration, attempts)), call.server_s)
        assert sum(attempt.slot_wait_s for attempt in attempts) <= call.slot_wait_s + ROUNDING
        assert sum(attempt.rate_wait_s for attempt in attempts) <= call.rate_wait_s + ROUNDING


@of_calls
def no_call_outlives_its_deadline(call, attempts, policy):
    total = math.inf if policy.total_timeout is None else policy.total_timeout
    each = math.inf if policy.attempt_timeout is None else policy.attempt_timeout
    patience = math.inf if policy.max_queue_wait is None else policy.max_queue_wait
    assert duration(call) <= total + ROUNDING
    for attempt in attempts:
        assert duration(attempt) <= each + ROUNDING
        assert attempt.slot_wait_s <= patience + ROUNDING
        answered = attempt.reason is None and not math.isnan(attempt.time_to_first_token_s)
        assert not answered or attempt.time_to_first_token_s <= duration(attempt) + ROUNDING


def a_cancelled_call_ends_at_once(record):
    for place, at in record.cancelled_at.items():
        result = record.results[place]
        assert isinstance(result, asyncio.CancelledError | Read), "a cancellation is passed on, or ends the reading"
        if isinstance(result, Read) and result.stream is not None and result.stream._call is not None:
            number = result.stream.result.call
            (call,) = [call for call in record.log.calls if (call.layer, call.call) == (VISITORS, number)]
            assert call.ended_at_s <= at


@of_calls
def every_wait_says_why(_, attempts, policy):
    """A race has one backoff after it at most, of the source that chose it, and the next attempt begins then."""
    races = []
    for attempt in attempts:
        if attempt.hedge:
            races[-1].append(attempt)
        else:
            races.append([attempt])
    for race, following in itertools.pairwise(races):
        (said,) = [attempt for attempt in race if not math.isnan(attempt.backoff_s)]
        ended = max(attempt.ended_at_s for attempt in race)
        assert equal(following[0].queued_at_s, ended + said.backoff_s)
    for attempt in attempts:
        assert (attempt.backoff_source is None) is math.isnan(attempt.backoff_s)
        assert attempt.slot_wait_s == 0 or policy.max_concurrency or policy.adaptive_concurrency
        assert attempt.rate_wait_s == 0 or policy.rate_limit
        wait_is_as_chosen(attempt, policy.retry)


def wait_is_as_chosen(attempt, retry):
    if attempt.backoff_source == BackoffSource.RETRY_AFTER:
        assert retry.respect_retry_after
        assert attempt.backoff_s - attempt.retry_after_s + ROUNDING >= 0
        assert attempt.backoff_s <= attempt.retry_after_s + retry.retry_after_jitter + ROUNDING
        assert retry.max_retry_after is None or attempt.retry_after_s <= retry.max_retry_after
    elif attempt.backoff_source == BackoffSource.BACKOFF:
        symmetric = retry.backoff.jitter == "symmetric"
        assert 0 <= attempt.backoff_s <= retry.backoff.maximum * (1 + retry.backoff.jitter_share * symmetric) + ROUNDING


# ---- limits


def in_flight_never_exceeds_the_limit(record):
    for group in record.groups:
        limit = most_in_flight(group.policy)
        steps = [(a.started_at_s, 1) for a in group.attempts] + [(a.ended_at_s, -1) for a in group.attempts]
        assert max(itertools.accumulate(step for _, step in sorted(steps)), default=0) <= limit
    assert record.counts.most <= most_in_flight(record.world.experiment.policy)


def most_in_flight(policy):
    adaptive = policy.adaptive_concurrency
    return min(policy.max_concurrency or math.inf, math.inf if adaptive is None else adaptive.maximum)


def no_window_holds_more_than_the_rate(record):
    """Of any length: from one start to any later one, attempts are at most the burst and what the time brings."""
    for group in record.groups:
        limit = group.policy.rate_limit
        if limit is None or limit.requests is None:
            continue
        starts = sorted(attempt.started_at_s for attempt in group.attempts)
        for first, last in itertools.combinations(range(len(starts)), 2):
            earned = (starts[last] - starts[first]) * limit.requests / limit.per
            assert last - first + 1 <= limit.burst + earned + 1e-6


def no_window_holds_more_tokens_than_the_rate(record):
    """From one start to any later one: the tokens between are at most what the time brings, and what earlier attempts
    gave back that had reserved more than they took."""
    for group in record.groups:
        limit = group.policy.rate_limit
        if limit is None or limit.tokens is None:
            continue
        attempts = sorted(group.attempts, key=lambda attempt: (granted(attempt), attempt.started_at_s))
        reserved = [reserved_tokens(record, attempt) for attempt in attempts]
        taken = [
            tokens if math.isnan(attempt.output_tokens) else min(tokens, attempt.input_tokens + attempt.output_tokens)
            for attempt, tokens in zip(attempts, reserved, strict=True)
        ]
        for first, last in itertools.combinations(range(len(attempts)), 2):
            given_back = sum(reserved[:first]) - sum(taken[:first])
            earned = (attempts[last].started_at_s - attempts[first].started_at_s) * limit.tokens / limit.per
            assert sum(taken[first:last]) <= earned + given_back + 1e-6


def granted(attempt):
    return attempt.queued_at_s + attempt.slot_wait_s


def reserved_tokens(record, attempt):
    """Return what an attempt had to reserve; of a client inside, whose request is not known by number, the least."""
    requests = record.world.experiment.workload.requests
    if attempt.layer == OUTERMOST:
        return estimated_tokens(requests[attempt.call % len(requests)])
    return 0.75 if record.world.visits else min(map(estimated_tokens, requests))


def budgets_bound_amplification(record):
    for group in record.groups:
        budget = group.policy.budget
        if budget is None:
            continue
        costs = [budget.retry_cost, budget.timeout_cost, budget.rate_limited_cost]
        costs = [cost for cost in costs if cost is not None]
        answered = sum(attempt.reason is None for attempt in group.attempts)
        added = sum(len(attempts) - 1 for attempts in group.by_call.values())
        refunded = [attempt.attempt > 1 and attempt.reason is None for attempt in group.attempts]
        back = max(costs) * sum(refunded) if budget.refund else 0.0
        paid_in = budget.capacity + budget.per_call * len(group.calls) + budget.per_success * answered + back
        assert added * min(costs) <= paid_in + 1e-6


def shared_counts_stay_within_their_bounds(record):
    """At the end of a run: no token of the budget below nothing or above the capacity, no limit out of its bounds."""
    state, policy = record.client.state, record.world.experiment.policy
    if policy.budget is not None:
        assert 0 <= state.guard.budget.level <= policy.budget.capacity
    if policy.adaptive_concurrency is not None:
        ceiling = policy.max_concurrency or math.inf
        adaptive = policy.adaptive_concurrency
        assert min(adaptive.minimum, ceiling) <= state.slots.limit <= min(adaptive.maximum, ceiling)


# ---- fates


@of_calls
def a_fate_has_its_reason(call, attempts, policy):
    """Fates are exclusive: each has one way to come about, and the events show it."""
    assert call.fate != Fate.CRASHED
    last = call.last_reason
    retry = policy.retry
    if call.fate == Fate.ANSWERED:
        assert (call.reason, last) == (None, None)
        assert any(attempt.reason is None for attempt in attempts)
        return
    # Of a race an attempt may have been answered at the very instant at which the caller cancelled the call.
    assert call.fate == Fate.CANCELLED or all(attempt.reason is not None for attempt in attempts)
    assert call.reason in REASONS
    own = {
        Fate.DEADLINE: (FailureReason.TOTAL_DEADLINE_EXCEEDED, policy.total_timeout),
        Fate.BUDGET_EXHAUSTED: (FailureReason.BUDGET_EXHAUSTED, policy.budget),
        Fate.CIRCUIT_OPEN: (FailureReason.CIRCUIT_OPEN, policy.breaker),
        Fate.REJECTED_BY_LIMIT: (
            FailureReason.REJECTED_BY_LIMIT,
            policy.throttle or policy.max_queue is not None or policy.max_queue_wait is not None or None,
        ),
        Fate.CANCELLED: (FailureReason.CANCELLED, True),
    }
    if call.fate in own:
        reason, cause = own[call.fate]
        assert call.reason == reason
        assert cause is not None
    elif call.fate == Fate.RETRIES_EXHAUSTED:
        hedges = sum(attempt.hedge for attempt in attempts)
        late = retry.stop_after is not None and duration(call) >= retry.stop_after - ROUNDING
        assert call.reason == last
        assert len(attempts) - hedges == 1 + retry.max_retries or late
        assert retry.retry_on is None or call.reason in retry.retry_on
    else:
        assert call.fate == Fate.NOT_RETRYABLE
        assert (call.reason == last) if attempts else call.reason == FailureReason.EMPTY_PROMPT


# ---- streams


def what_is_handed_out_is_of_one_attempt(record):
    """No attempt begins after a reader had a piece, and what they had is how that attempt's text begins."""
    for read in record.results:
        if not isinstance(read, Read) or read.stream is None or read.stream._call is None:
            continue
        result, said = read.stream.result, read.stream.text
        attempts = [a for a in record.log.attempts if (a.layer, a.call) == (VISITORS, result.call)]
        assert all(attempt.started_at_s <= read.first_at for attempt in attempts)
        assert not any(attempt.hedge for attempt in attempts)
        if result.ok:
            assert result.text.startswith(said)
        else:
            assert result.partial_text == said
            assert is_a_beginning(said)


def is_a_beginning(said):
    """Whether a text begins as an answer may: the whole one, or one that a fault has cut in half and spoilt."""
    return any(full.startswith(said) for full in (TEXT, TEXT[: len(TEXT) // 2] + "\x00}{"))


# ---- the end


def nothing_is_left_over(record):
    """No task, timer, slot, place in a queue, probe or attempt, and nothing that asyncio had to complain of."""
    left = {name: what for name, what in record.left.items() if what}
    assert left == {}, f"left over: {left}"


LAWS = (
    nothing_is_left_over,
    every_attempt_has_exactly_one_event,
    every_call_has_exactly_one_event,
    the_workload_is_done,
    results_are_what_the_events_say,
    attempts_are_bounded,
    an_attempt_asks_each_backend_once,
    times_conserve,
    no_call_outlives_its_deadline,
    a_cancelled_call_ends_at_once,
    every_wait_says_why,
    in_flight_never_exceeds_the_limit,
    no_window_holds_more_than_the_rate,
    no_window_holds_more_tokens_than_the_rate,
    budgets_bound_amplification,
    shared_counts_stay_within_their_bounds,
    a_fate_has_its_reason,
    what_is_handed_out_is_of_one_attempt,
)
"""All laws; the same seed giving the same bytes needs two runs and stands in `test_laws.py`."""


def check(record):
    """Hold a record against every law; the error names the law that was broken first."""
    for law in LAWS:
        try:
            law(record)
        except AssertionError as error:
            error.add_note(f"The law that was broken: {law.__name__}.")
            raise
