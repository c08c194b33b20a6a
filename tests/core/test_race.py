"""Races of hedged attempts: however one ends, nothing outlives its call and nothing is lost or held."""

import asyncio
import math
from collections import Counter

import pytest

from llmlab import (
    Answer,
    AsyncClient,
    AttemptFailure,
    CircuitBreaker,
    ClientPolicy,
    EventLog,
    FailureReason,
    Hedging,
    LLMRequest,
    RateLimit,
    RetryPolicy,
)
from llmlab.core.ledger import Ledger
from llmlab.core.race import Race
from llmlab.virtual_time import run

POLICY = ClientPolicy(
    hedging=Hedging(delay=1.0), max_concurrency=4, retry=RetryPolicy(max_retries=0), attempt_timeout=None
)


class Told:
    """Does with the attempts of a call what their number says."""

    simulated = True

    def __init__(self, **attempts):
        self.attempts, self.inside = attempts, 0

    async def attempt(self, request, *, timeouts, key):
        self.inside += 1
        try:
            return await self.attempts.get(f"number_{key.attempt}", never)()
        finally:
            self.inside -= 1


async def never():
    await asyncio.get_running_loop().create_future()


async def answers_at_2():
    await asyncio.sleep(2.0 - asyncio.get_running_loop().time())
    return Answer("done")


async def breaks_when_cancelled():
    try:
        await never()
    except asyncio.CancelledError:
        raise ZeroDivisionError("a bug in the clean-up") from None


async def takes_five_seconds_to_end():
    try:
        await never()
    finally:
        await asyncio.sleep(5.0)


def clean(client, backend):
    slots = client.state.slots
    return backend.inside == 0 and (slots is None or (slots.in_use, len(slots.waiting)) == (0, 0))


def test_a_bug_that_a_loser_meets_when_it_is_cancelled_is_raised_and_not_lost():
    async def main():
        backend = Told(number_1=breaks_when_cancelled, number_2=answers_at_2)
        client = AsyncClient(backend, POLICY)
        with pytest.raises(ZeroDivisionError, match="a bug in the clean-up"):
            await client.generate("Hello")
        assert clean(client, backend)

    run(main())


def test_no_attempt_outlives_its_call_even_if_the_wait_for_its_end_is_cancelled():
    log = EventLog()

    async def main():
        loop = asyncio.get_running_loop()
        backend = Told(number_1=takes_five_seconds_to_end, number_2=answers_at_2)
        client = AsyncClient(backend, POLICY, observers=[log])
        call = asyncio.create_task(client.generate("Hello"))
        await asyncio.sleep(3.0)  # the second has answered at 2 s; the first is still putting itself away
        assert not call.done()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert loop.time() == 3.0  # the cancellation reached the clean-up too
        assert clean(client, backend)

    run(main())
    assert Counter(event.reason for event in log.attempts) == {None: 1, FailureReason.CANCELLED: 1}
    assert [event.reason for event in log.calls] == [FailureReason.CANCELLED]


async def end_all_others():
    """Cancel every other task and wait for its end, as `asyncio.run` does when its main coroutine is done."""
    others = sorted(asyncio.all_tasks() - {asyncio.current_task()}, key=hash)
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@pytest.mark.parametrize("max_concurrency", [4, None])
@pytest.mark.parametrize("turns", range(20))
def test_a_loop_that_ends_all_its_tasks_in_any_turn_of_a_race_leaves_no_slot_taken(turns, max_concurrency):
    """As `asyncio.run` does when its main coroutine is done: a hedge may then be cancelled before its first turn."""
    log = EventLog()
    policy = POLICY.replace(hedging=Hedging(delay=0.0, max_hedges=3), max_concurrency=max_concurrency)

    async def main():
        backend = Told()
        client = AsyncClient(backend, policy, observers=[log])
        call = asyncio.create_task(client.generate("Hello"))
        for _ in range(turns):
            await asyncio.sleep(0)
        await end_all_others()
        assert call.cancelled()
        assert clean(client, backend)

    run(main())
    assert {event.reason for event in log.attempts} <= {FailureReason.CANCELLED}
    assert [event.attempts for event in log.calls] == ([len(log.attempts)] if turns else [])


def test_a_hedge_that_is_cancelled_before_its_first_turn_is_taken_back():
    async def main():
        loop, taken_back = asyncio.get_running_loop(), []

        def may_hedge(_branch):  # whoever ends all tasks comes between this and the hedge's first turn
            loop.call_soon(lambda: [task.cancel() for task in asyncio.all_tasks(loop) - {main_task}])
            return True

        async def call():
            ledger = Ledger(LLMRequest(prompt="Hello"), 0, 0.0, 0.0, math.inf)
            ledger.task = asyncio.current_task()
            race = Race(
                loop, ledger, attempt=lambda _: never(), may_hedge=may_hedge, lost=taken_back.append,
                never_began=taken_back.append,
            )  # fmt: skip
            try:
                await race.run(1.0, 1)
            finally:
                calls.append((ledger.attempts, ledger.hedges))

        calls, main_task = [], asyncio.current_task()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(call())
        return calls, [branch.hedge for branch in taken_back]

    assert run(main()) == ([(1, 0)], [True])


def test_the_probe_of_a_hedge_that_never_began_is_given_back():
    breaker = CircuitBreaker(minimum_attempts=1, open_for=1.0, probes=4)
    policy = POLICY.replace(hedging=Hedging(delay=0.0, max_hedges=3), breaker=breaker)

    class FailsOnce:
        asked = 0

        async def attempt(self, request, *, timeouts, key):
            self.asked += 1
            if self.asked == 1:
                return AttemptFailure(FailureReason.OVERLOADED, "busy")
            return await never()

    async def main():
        client = AsyncClient(FailsOnce(), policy)
        assert not (await client.generate("Hello")).ok
        await asyncio.sleep(1.0)
        for turns in range(1, 12):
            asyncio.create_task(client.generate("Hello"))  # noqa: RUF006 - it is ended below
            for _ in range(turns):
                await asyncio.sleep(0)
            await end_all_others()
            assert client.state.guard.breaker._probes_out == 0, turns

    run(main())


def test_the_answer_of_the_first_wins_although_a_hedge_failed_before():
    log = EventLog()

    async def fails():
        return AttemptFailure(FailureReason.OVERLOADED, "busy")

    async def main():
        backend = Told(number_1=answers_at_2, number_2=fails)
        client = AsyncClient(backend, POLICY, observers=[log])
        result = await client.generate("Hello")
        assert result.ok
        assert result.attempts == 2
        assert clean(client, backend)

    run(main())
    assert [(event.attempt, event.reason) for event in log.attempts] == [(2, FailureReason.OVERLOADED), (1, None)]


@pytest.mark.parametrize(
    ("limits", "attempts"),
    [
        ({"max_concurrency": 2}, 2),
        ({"max_concurrency": 1}, 1),
        ({"max_concurrency": None, "rate_limit": RateLimit(requests=1, per=1.0)}, 2),
        ({"max_concurrency": None, "rate_limit": RateLimit(requests=1, per=60.0)}, 1),
        ({"max_concurrency": 2, "rate_limit": RateLimit(requests=1, per=1.0)}, 2),
        ({"max_concurrency": 1, "rate_limit": RateLimit(requests=1, per=1.0)}, 1),
    ],
)
def test_a_hedge_begins_where_each_limit_lets_it_in_at_once_and_does_not_queue(limits, attempts):
    log = EventLog()

    async def main():
        backend = Told(number_1=answers_at_2)
        client = AsyncClient(backend, POLICY.replace(**limits), observers=[log])
        assert (await client.generate("Hello")).attempts == attempts
        assert clean(client, backend)

    run(main())
    assert sorted(event.started_at_s for event in log.attempts) == [0.0, 1.0][:attempts]
