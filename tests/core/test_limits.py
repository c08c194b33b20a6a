import asyncio
import math
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab import LLMRequest, RateLimit
from llmlab.core.limits import RateLimiter, Slots, estimated_tokens

SLACK = 1e-9  # seconds that rounding may take

STEPS = st.lists(
    st.one_of(
        st.just(("arrive", 0)),
        st.tuples(st.sampled_from(["give", "cancel", "wake"]), st.integers(0, 50)),
    ),
    max_size=80,
)


class Holder:
    """Someone who takes, queues, cancels and gives, as the flow does, one step at a time."""

    def __init__(self, slots, loop):
        self.slots = slots
        self.ticket = None
        self.has_slot = slots.take()
        if not self.has_slot:
            self.ticket = loop.create_future()
            slots.waiting.append(self.ticket)


@given(limit=st.integers(1, 4), steps=STEPS)
def test_slots_are_never_exceeded_lost_or_overtaken(limit, steps):
    loop = asyncio.new_event_loop()
    slots, holding, waiting, cancelled = Slots(limit), [], deque(), []
    try:
        for step, which in steps:
            if step == "arrive":
                holder = Holder(slots, loop)
                (holding if holder.has_slot else waiting).append(holder)
            elif step == "give" and holding:
                holding.pop(which % len(holding))
                slots.give()
            elif step == "cancel" and waiting:  # the future is cancelled now, its owner leaves the queue later
                holder = waiting[which % len(waiting)]
                if not holder.ticket.done():
                    holder.ticket.cancel()
                waiting.remove(holder)
                cancelled.append(holder)
            elif step == "wake" and cancelled:
                slots.leave(cancelled.pop(which % len(cancelled)).ticket)
            granted = [holder for holder in waiting if holder.ticket.done() and not holder.ticket.cancelled()]
            assert granted == list(waiting)[: len(granted)], "first come, first served"
            for holder in granted:
                waiting.remove(holder)
                holding.append(holder)
            handed_over = sum(not holder.ticket.cancelled() and holder.ticket.done() for holder in cancelled)
            assert slots.in_use == len(holding) + handed_over <= limit
            assert not waiting or slots.in_use == limit, "nobody waits while a slot is free"
        for holder in cancelled:
            slots.leave(holder.ticket)
        while holding or waiting:
            holding = holding or [waiting.popleft()]
            holding.pop()
            slots.give()
        assert slots.in_use == 0
    finally:
        loop.close()


LIMITS = st.builds(
    RateLimit,
    requests=st.floats(0.5, 50),
    per=st.floats(0.5, 100),
    burst=st.integers(1, 5),
)
GAPS = st.lists(st.floats(0, 5), min_size=1, max_size=60)


def starts_of(limiter, gaps, tokens=()):
    now, starts = 0.0, []
    for index, gap in enumerate(gaps):
        now += gap
        starts.append(limiter.reserve(now, tokens[index] if tokens else 0.0, math.inf))
        assert starts[-1] >= now
    return starts


@given(LIMITS, GAPS)
def test_no_window_holds_more_requests_than_the_limit_and_its_burst(limit, gaps):
    starts = starts_of(RateLimiter(limit), gaps)
    allowed = math.ceil(limit.requests) + limit.burst - 1
    for first in starts:
        assert sum(first <= start < first + limit.per - SLACK for start in starts) <= allowed


@given(GAPS, st.floats(1, 100), st.floats(0.5, 60), st.data())
def test_no_window_holds_more_tokens_than_the_limit_and_one_attempts(gaps, tokens, per, data):
    sizes = data.draw(st.lists(st.floats(0, 200), min_size=len(gaps), max_size=len(gaps)))
    starts = starts_of(RateLimiter(RateLimit(tokens=tokens, per=per)), gaps, sizes)
    for first in starts:
        inside = [size for start, size in zip(starts, sizes, strict=True) if first <= start < first + per - SLACK]
        assert sum(inside) - max(inside, default=0) <= tokens * (1 + 1e-9) + SLACK


@given(LIMITS, GAPS)
def test_reservations_start_in_the_order_of_arrival(limit, gaps):
    starts = starts_of(RateLimiter(limit), gaps)
    assert starts == sorted(starts)


@given(st.floats(1, 20), st.integers(1, 5), st.integers(1, 30))
def test_a_busy_limiter_gives_exactly_its_rate(requests, burst, count):
    limiter = RateLimiter(RateLimit(requests=requests, per=10, burst=burst))
    starts = [limiter.reserve(0.0, 0.0, math.inf) for _ in range(burst + count)]
    assert starts[:burst] == pytest.approx([0.0] * burst, abs=1e-6)
    assert starts[-1] == pytest.approx(count * 10 / requests)


def test_a_place_after_the_deadline_is_not_taken():
    limiter = RateLimiter(RateLimit(requests=1, per=10))
    assert limiter.reserve(0.0, 0.0, 5.0) == 0.0
    assert limiter.reserve(0.0, 0.0, 10.0) is None, "a start exactly at the deadline is too late"
    assert limiter.reserve(0.0, 0.0, 10.1) == 10.0


def test_tokens_are_settled_in_both_directions():
    def next_start(actual):
        limiter = RateLimiter(RateLimit(tokens=10, per=10))
        limiter.reserve(0.0, 5.0, math.inf)
        limiter.settle(5.0, actual)
        return limiter.reserve(0.0, 1.0, math.inf)

    assert next_start(5.0) == 5.0
    assert next_start(20.0) == 20.0
    assert next_start(1.0) == 1.0


def test_tokens_are_estimated_from_the_prompt_and_max_tokens():
    assert estimated_tokens(LLMRequest(prompt="x" * 40)) == 10
    assert estimated_tokens(LLMRequest(prompt="x" * 40, max_tokens=100)) == 110


def test_a_slot_passes_over_those_who_are_no_longer_waiting():
    loop = asyncio.new_event_loop()
    slots, gone, next_one = Slots(1), loop.create_future(), loop.create_future()
    assert slots.take()
    slots.waiting.extend([gone, next_one])
    gone.cancel()
    slots.give()
    assert next_one.done()
    assert (slots.in_use, list(slots.waiting)) == (1, [])
    slots.give()
    assert slots.in_use == 0
    loop.close()


def test_tokens_that_no_limit_counts_settle_nothing():
    limiter = RateLimiter(RateLimit(requests=60))
    assert limiter.reserve(0.0, 1.0, math.inf) == 0.0
    limiter.settle(1.0, 1000.0)
    assert limiter.free_at(0.0) == 1.0


@pytest.mark.parametrize(("actual", "free_at"), [(40.0, 20.0), (10.0, 5.0), (100.0, 50.0)])
def test_what_the_server_counted_moves_the_next_start_by_its_difference(actual, free_at):
    limiter = RateLimiter(RateLimit(tokens=120, per=60.0))  # half a second for a token
    assert limiter.reserve(0.0, 40.0, math.inf) == 0.0
    limiter.settle(40.0, actual)
    assert limiter.free_at(0.0) == free_at


def test_a_new_limit_passes_over_those_who_are_no_longer_waiting():
    loop = asyncio.new_event_loop()
    slots, gone, next_one = Slots(1), loop.create_future(), loop.create_future()
    assert slots.take()
    slots.waiting.extend([gone, next_one])
    gone.cancel()
    later = loop.create_future()
    slots.waiting.append(later)
    slots.set_limit(2)
    assert next_one.done()
    assert (slots.limit, slots.in_use, list(slots.waiting)) == (2, 2, [later])
    slots.leave(later)
    assert (slots.in_use, list(slots.waiting)) == (2, [])
    slots.set_limit(3)  # where nobody waits, for whoever comes
    assert slots.in_use == 2
    assert slots.take()
    assert not slots.take()
    loop.close()
