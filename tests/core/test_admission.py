"""Waiting for a slot and for the rate: what happens where the wait ends as late as it may."""

import asyncio

import pytest

from llmlab import (
    Answer,
    AsyncClient,
    ClientPolicy,
    EventLog,
    FailureReason,
    Fate,
    LLMRequest,
    RateLimit,
    RetryPolicy,
    Usage,
)
from llmlab.virtual_time import run
from tests.core.late_loop import run_late

R = FailureReason


class KeepsTheLoop:
    """Answers in the very turn in which it has kept the loop from everything else for a minute."""

    def __init__(self, seconds=60.0):
        self.seconds, self.begun = seconds, 0

    async def attempt(self, request, *, timeouts, key):
        self.begun += 1
        await asyncio.sleep(0)
        asyncio.get_running_loop().behind += self.seconds
        return Answer("done")


@pytest.mark.parametrize(
    ("limits", "reason", "fate"),
    [
        ({"max_queue_wait": 5.0, "total_timeout": None}, R.REJECTED_BY_LIMIT, Fate.REJECTED_BY_LIMIT),
        ({"max_queue_wait": 99.0, "total_timeout": 30.0}, R.TOTAL_DEADLINE_EXCEEDED, Fate.DEADLINE),
        ({"total_timeout": 30.0}, R.TOTAL_DEADLINE_EXCEEDED, Fate.DEADLINE),
    ],
)
def test_a_slot_that_comes_when_patience_is_over_is_given_back_and_nothing_is_sent(limits, reason, fate):
    policy = ClientPolicy(max_concurrency=1, attempt_timeout=None, **limits)

    async def main():
        backend = KeepsTheLoop()
        client = AsyncClient(backend, policy)
        _, late = await asyncio.gather(client.generate("first"), client.generate("second"))
        slots = client.state.slots
        return late, backend.begun, slots.in_use, len(slots.waiting)

    late, begun, in_use, waiting = run_late(main())
    assert (late.reason, late.fate, late.attempts) == (reason, fate, 0)
    assert (begun, in_use, waiting) == (1, 0, 0)


class Counted:
    """Answers at once, and counts tokens or does not."""

    simulated = True

    def __init__(self, usage):
        self.usage = usage

    async def attempt(self, request, *, timeouts, key):
        return Answer("done", usage=self.usage)


@pytest.mark.parametrize(
    ("usage", "second_starts"),
    [
        (Usage(None, None), 20.0),  # as estimated: 10 tokens, two seconds each
        (Usage(3, None), 20.0),  # half a count is none
        (Usage(None, 3), 20.0),
        (Usage(2, 3), 10.0),
        (Usage(20, 10), 60.0),
    ],
)
def test_the_token_rate_is_settled_by_what_the_server_counted_and_by_nothing_else(usage, second_starts):
    log = EventLog()
    policy = ClientPolicy(rate_limit=RateLimit(tokens=30, per=60.0), retry=RetryPolicy(max_retries=0))

    async def main():
        client = AsyncClient(Counted(usage), policy, observers=[log])
        request = LLMRequest(prompt="x" * 20, max_tokens=5)  # 20 / 4 + 5 = 10 tokens
        for _ in range(2):
            assert (await client.generate(request)).ok

    run(main())
    assert [event.started_at_s for event in log.attempts] == pytest.approx([0.0, second_starts])
