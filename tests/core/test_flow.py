"""The call, under virtual time: retries, deadlines, limits and cancellation, one promise a test."""

import asyncio
import logging
import math
import time

import pytest
from pydantic import BaseModel

from llmlab import (
    Answer,
    AsyncClient,
    AsyncMockLLM,
    AttemptFailure,
    Backoff,
    ClientPolicy,
    EventLog,
    FailureReason,
    Fate,
    LLMRequest,
    MockBackend,
    RateLimit,
    RetryPolicy,
    Timeouts,
    Usage,
)
from llmlab.core.budget import RetryBudget
from llmlab.core.chance import Purpose, uniform
from llmlab.core.hedging import Hedging
from llmlab.core.vocabulary import REASONS, RETRYABLE, BackoffSource
from llmlab.virtual_time import VirtualDeadlock, run
from tests.core.late_loop import run_late

R = FailureReason
STEADY = Backoff(base=1.0, jitter="none")


def ask(request="Hello", **settings):
    """Make one call on virtual time and return its result and events."""
    log = EventLog()

    async def main():
        return await AsyncMockLLM(observers=[log], **{"latency": 1.0, "backoff": STEADY, **settings}).generate(request)

    return run(main()), log


# ---- retries


@pytest.mark.parametrize("reason", [reason for reason in R if reason not in {R.CANCELLED, R.CRASHED}])
def test_only_retryable_failures_are_tried_again(reason):
    result, log = ask(script=[AttemptFailure(reason, "scripted")])
    if reason in RETRYABLE:
        assert result.ok
        assert len(log) == 2
    else:
        assert (result.reason, result.fate, result.attempts) == (reason, Fate.NOT_RETRYABLE, 1)
        assert result.fate in REASONS[reason].fates or reason is R.EMPTY_PROMPT
        assert len(log) == 1


@pytest.mark.parametrize("max_retries", [0, 1, 5])
def test_max_retries_means_that_many_after_the_first(max_retries):
    result, log = ask(script=["overload"] * 9, max_retries=max_retries)
    assert len(log) == result.attempts == max_retries + 1
    assert result.fate is Fate.RETRIES_EXHAUSTED
    assert result.status_code == 503
    assert result.message.endswith(f"no retries left after {max_retries + 1} attempt{'s' if max_retries else ''}")


@pytest.mark.parametrize("fault", ["timeout", "connection_error", "rate_limit", "overload", "server_error", "empty"])
def test_retryable_stays_true_when_the_retries_are_exhausted(fault):
    result, _ = ask(script=[fault] * 3, attempt_timeout=5.0)
    assert result.fate is Fate.RETRIES_EXHAUSTED
    assert result.retryable


def test_retry_on_leaves_out_what_it_does_not_name():
    policy = ClientPolicy(retry=RetryPolicy(retry_on=[R.RATE_LIMITED], backoff=STEADY))
    result, _ = ask(script=["overload"], policy=policy)
    assert (result.reason, result.fate, result.retryable) == (R.OVERLOADED, Fate.NOT_RETRYABLE, True)


def test_the_waits_are_the_policys_and_stand_in_the_events():
    result, log = ask(script=["overload"] * 3, max_retries=3, refusal_latency=0.0)
    assert result.ok
    assert [event.backoff_s for event in log.attempts[:3]] == [1, 2, 4]
    assert [event.backoff_source for event in log.attempts] == ["backoff"] * 3 + [None]
    assert [event.started_at_s for event in log.attempts] == [0, 1, 3, 7]
    assert math.isnan(log.attempts[3].backoff_s)
    assert result.latency == 8


def test_retry_after_overrides_the_backoff_even_beyond_its_maximum():
    answer = AttemptFailure(R.RATE_LIMITED, "slow down", 429, retry_after=50.0)
    result, log = ask(script=[answer, "overload"], refusal_latency=0.0)
    assert result.ok
    assert [event.backoff_s for event in log.attempts[:2]] == [50, 2]
    assert [event.backoff_source for event in log.attempts[:2]] == ["retry_after", "backoff"]
    assert log.attempts[0].retry_after_s == 50


def test_retry_after_can_be_ignored():
    answer = AttemptFailure(R.RATE_LIMITED, "slow down", 429, retry_after=50.0)
    policy = ClientPolicy(retry=RetryPolicy(respect_retry_after=False, backoff=STEADY))
    _, log = ask(script=[answer], policy=policy)
    assert (log.attempts[0].backoff_s, log.attempts[0].backoff_source) == (1, "backoff")


@pytest.mark.parametrize("wait", [-3.0, 0.0, math.nan])
def test_a_retry_after_that_makes_no_sense_means_now(wait):
    result, log = ask(script=[AttemptFailure(R.OVERLOADED, "busy", retry_after=wait)], refusal_latency=0.0)
    assert result.ok
    assert log.attempts[0].backoff_s == 0
    assert log.calls[0].ended_at_s == 1


def test_a_retry_after_that_outlasts_the_deadline_fails_at_once_and_says_so():
    answer = AttemptFailure(R.RATE_LIMITED, "slow down", 429, retry_after=50.0)
    result, log = ask(script=[answer], total_timeout=20.0, refusal_latency=0.5)
    assert (result.reason, result.fate) == (R.TOTAL_DEADLINE_EXCEEDED, Fate.DEADLINE)
    assert (result.last_reason, result.status_code, result.retry_after) == (R.RATE_LIMITED, 429, 50)
    assert result.latency == 0.5
    assert "the server's Retry-After of 50 s would outlast the 19.5 s left of total_timeout=20.0 s" in result.message
    assert (log.calls[0].reason, log.calls[0].last_reason) == (R.TOTAL_DEADLINE_EXCEEDED, R.RATE_LIMITED)


@pytest.mark.parametrize(("total", "attempts"), [(1.0, 1), (1.5, 2), (2.9, 2), (3.0, 2), (3.1, 3)])
def test_a_backoff_that_would_outlast_the_deadline_is_not_begun(total, attempts):
    result, log = ask(script=["overload"] * 9, max_retries=9, total_timeout=total, refusal_latency=0.0)
    assert len(log) == attempts
    assert result.fate is Fate.DEADLINE
    assert "the backoff of" in result.message
    assert result.latency < total


# ---- timeouts


def test_an_attempt_ends_at_its_timeout_and_takes_that_long():
    result, log = ask(script=["timeout"], attempt_timeout=5.0, max_retries=0)
    assert (result.reason, result.latency) == (R.ATTEMPT_TIMEOUT, 5)
    assert "attempt_timeout=5.0 s" in result.message
    assert log.attempts[0].ended_at_s - log.attempts[0].started_at_s == 5


@pytest.mark.parametrize(("latency", "in_time"), [(4.999, True), (5.0, False), (5.001, False)])
@pytest.mark.parametrize("earlier", [[], [0.5], [5.0], [7.0], [0.1, 5.0, 4.0]])
@pytest.mark.parametrize("which", ["attempt_timeout", "total_timeout"])
def test_an_answer_exactly_at_the_timeout_is_late_whatever_went_before(latency, in_time, earlier, which):
    class Timed:
        def __init__(self):
            self.latencies = [*earlier, latency]

        async def attempt(self, request, *, timeouts, key):
            await asyncio.sleep(self.latencies[key.call])
            return Answer("ok")

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: pytest.fail(str(context)))
        policy = ClientPolicy(retry=RetryPolicy(max_retries=0), **{which: 5.0})
        client = AsyncClient(Timed(), policy)
        for number in range(len(earlier) + 1):
            began = asyncio.get_running_loop().time()
            result = await client.generate("Hello")
            assert number < len(earlier) or result.ok is in_time
            assert asyncio.get_running_loop().time() - began <= 5.0

    run(main())


@pytest.mark.parametrize("settings", [{"attempt_timeout": 10.0, "total_timeout": 10.0}, {"total_timeout": 10.0}])
def test_where_both_end_together_it_is_the_calls_deadline(settings):
    result, log = ask(script=["timeout"], **settings)
    assert (result.reason, result.fate, result.latency) == (R.TOTAL_DEADLINE_EXCEEDED, Fate.DEADLINE, 10)
    assert result.message == "total_timeout=10.0 s ran out during an attempt"
    assert log.attempts[0].reason == R.TOTAL_DEADLINE_EXCEEDED


def test_the_total_timeout_runs_over_attempts_and_backoff():
    result, log = ask(script=["timeout"] * 9, max_retries=9, attempt_timeout=4.0, total_timeout=12.0)
    assert [(event.started_at_s, event.ended_at_s) for event in log.attempts] == [(0, 4), (5, 9), (11, 12)]
    assert (result.fate, result.latency, result.last_reason) == (Fate.DEADLINE, 12, R.TOTAL_DEADLINE_EXCEEDED)


def test_the_total_timeout_runs_while_waiting_for_a_slot():
    async def main():
        llm = AsyncMockLLM(latency=50.0, attempt_timeout=None, total_timeout=60.0, max_concurrency=1)
        first, second, third = await llm.generate_many(["a"] * 3, concurrency=3)
        assert first.ok
        assert (second.fate, second.attempts, second.latency) == (Fate.DEADLINE, 1, 60)
        assert (third.fate, third.attempts, third.latency) == (Fate.DEADLINE, 0, 60)
        assert third.message == "total_timeout=60.0 s ran out while waiting for a slot"
        assert third.last_reason is None
        assert llm.state.slots.in_use == 0

    run(main())


def test_a_rate_limit_place_after_the_deadline_fails_at_once():
    async def main():
        llm = AsyncMockLLM(latency=1.0, total_timeout=30.0, rate_limit=RateLimit(requests=1, per=60))
        assert (await llm.generate("a")).ok
        result = await llm.generate("a")
        assert (result.fate, result.latency, result.attempts) == (Fate.DEADLINE, 0, 0)
        assert "the rate limit's queue" in result.message
        await asyncio.sleep(59)
        assert (await llm.generate("a")).ok, "the rejected call has taken no place"

    run(main())


def test_no_timeouts_at_all_wait_for_ever():
    timeouts = Timeouts(connect=None, between_chunks=None)
    result, _ = ask(latency=1e7, timeouts=timeouts, attempt_timeout=None, total_timeout=None)
    assert (result.ok, result.latency) == (True, 1e7)


def test_a_late_loop_ends_a_call_by_its_deadline_and_not_by_a_cancellation():
    class Busy:
        async def attempt(self, request, *, timeouts, key):
            asyncio.get_running_loop().call_later(0.001, time.sleep, 0.03)  # past the backoff and past the deadline
            return AttemptFailure(R.OVERLOADED, "busy")

    async def main():
        policy = ClientPolicy(retry=RetryPolicy(backoff=Backoff(base=0.01, jitter="none")), total_timeout=0.02)
        log = EventLog()
        result = await AsyncClient(Busy(), policy, observers=[log]).generate("Hello")
        assert (result.reason, result.fate) == (R.TOTAL_DEADLINE_EXCEEDED, Fate.DEADLINE)
        assert asyncio.current_task().cancelling() == 0
        assert [call.fate for call in log.calls] == [Fate.DEADLINE]

    asyncio.run(main())


# ---- what is refused, and what is a bug


@pytest.mark.parametrize("prompt", ["", "  \n"])
def test_an_empty_prompt_fails_before_anything_is_sent(prompt):
    result, log = ask(prompt)
    assert (result.reason, result.fate, result.attempts) == (R.EMPTY_PROMPT, Fate.NOT_RETRYABLE, 0)
    assert not result.retryable
    assert (len(log.attempts), len(log.calls)) == (0, 1)


class Bug:
    def __init__(self, result):
        self.result = result

    async def attempt(self, request, *, timeouts, key):
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


@pytest.mark.parametrize("bug", [ZeroDivisionError("a bug"), None, "text", ("a", 1), {"text": "a"}])
def test_a_bug_in_a_backend_reaches_the_caller_and_the_events(bug):
    log = EventLog()

    async def main():
        client = AsyncClient(Bug(bug), ClientPolicy(max_concurrency=1), observers=[log])
        with pytest.raises(ZeroDivisionError if isinstance(bug, Exception) else TypeError) as caught:
            await client.generate("Hello")
        assert isinstance(bug, Exception) or "must return an Answer or an AttemptFailure" in str(caught.value)
        assert client.state.slots.in_use == 0
        assert client.state.calls_in_progress == 0

    run(main())
    assert [(event.reason, event.backoff_source) for event in log.attempts] == [(R.CRASHED, None)]
    assert [(event.fate, event.reason, event.attempts) for event in log.calls] == [(Fate.CRASHED, R.CRASHED, 1)]


# ---- the concurrency limit


class Gauge:
    """A backend that knows how many attempts are in it, and in which order they came."""

    simulated = True

    def __init__(self, latency=1.0):
        self.latency, self.inside, self.most, self.order = latency, 0, 0, []

    async def attempt(self, request, *, timeouts, key):
        self.order.append(request.prompt)
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await asyncio.sleep(self.latency)
        finally:
            self.inside -= 1
        return Answer("ok")


def test_the_concurrency_limit_is_reached_and_never_exceeded_first_come_first_served():
    async def main():
        gauge = Gauge()
        client = AsyncClient(gauge, ClientPolicy(max_concurrency=3))
        results = await client.generate_many([str(number) for number in range(12)], concurrency=12)
        assert [result.latency for result in results] == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
        assert gauge.most == 3
        assert gauge.order == [str(number) for number in range(12)]
        assert client.state.slots.in_use == 0

    run(main())


def test_a_call_in_backoff_holds_no_slot():
    async def main():
        log = EventLog()
        backend = MockBackend(latency=1.0, refusal_latency=0.0, script=["overload"])
        policy = ClientPolicy(max_concurrency=1, retry=RetryPolicy(backoff=Backoff(base=10, maximum=10, jitter="none")))
        client = AsyncClient(backend, policy, observers=[log])
        results = await client.generate_many(["a", "b"], concurrency=2)
        assert [result.latency for result in results] == [11, 12]
        assert sum(call.slot_wait_s for call in log.calls) == 1

    run(main())


def test_a_full_queue_rejects_and_says_so():
    async def main():
        llm = AsyncMockLLM(latency=1.0, max_concurrency=1, max_queue=1)
        first, second, third = await llm.generate_many(["a"] * 3, concurrency=3)
        assert first.ok
        assert second.ok
        assert (third.reason, third.fate, third.attempts) == (R.REJECTED_BY_LIMIT, Fate.REJECTED_BY_LIMIT, 0)
        assert third.retryable
        assert third.message == "all 1 slots are taken and 1 attempts wait (max_queue=1)"

    run(main())


@pytest.mark.parametrize(("wait", "in_time"), [(0.0, False), (0.5, False), (1.0, False), (1.001, True)])
def test_a_wait_that_is_too_long_rejects_and_says_so(wait, in_time):
    async def main():
        llm = AsyncMockLLM(latency=1.0, max_concurrency=1, max_queue_wait=wait)
        first, second = await llm.generate_many(["a"] * 2, concurrency=2)
        assert first.ok
        assert second.ok is in_time
        if not in_time:
            assert (second.fate, second.latency) == (Fate.REJECTED_BY_LIMIT, wait)
            assert second.message == f"no slot came free within max_queue_wait={wait} s"
        assert llm.state.slots.in_use == 0
        assert not llm.state.slots.waiting

    run(main())


PHASES = {
    "at once": 0.0,
    "waiting": 0.5,
    "the instant the slot is given": 1.0,
    "running": 1.5,
    "the instant it ends": 2.0,
}


@pytest.mark.parametrize("at", PHASES.values(), ids=PHASES)
@pytest.mark.parametrize("order", ["from a timer before", "from a timer after", 0, 1, 2, 3])
def test_a_cancelled_call_gives_its_slot_back_in_every_phase(at, order):
    """`order` is where in its instant the cancellation comes: so many turns of the loop later, or from a timer."""

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: pytest.fail(str(context)))
        log = EventLog()
        llm = AsyncMockLLM(latency=1.0, max_concurrency=1, observers=[log])
        victim = None

        def cancel_victim():
            victim.cancel()

        if order == "from a timer before":
            loop.call_at(at, cancel_victim)
        first = asyncio.create_task(llm.generate("a"))
        victim = asyncio.create_task(llm.generate("b"))
        last = asyncio.create_task(llm.generate("c"))
        if order == "from a timer after":
            loop.call_at(at, cancel_victim)
        if isinstance(order, int):
            if at:
                await asyncio.sleep(at)
            for _ in range(order):
                await asyncio.sleep(0)
            victim.cancel()
        results = await asyncio.gather(first, victim, last, return_exceptions=True)
        assert results[0].ok
        assert results[2].ok
        assert isinstance(results[1], asyncio.CancelledError) or (at == 2.0 and results[1].ok)
        assert llm.state.slots.in_use == 0
        assert not llm.state.slots.waiting
        assert llm.state.calls_in_progress == 0
        begun = {call.call for call in log.calls}
        assert len(log.calls) == len(begun) in {2, 3}  # a task that is cancelled before it begins makes no call
        assert loop.time() <= 3.0

    run(main())


def test_holder_and_waiter_cancelled_together_are_both_cancelled_and_the_next_one_goes():
    async def main():
        llm = AsyncMockLLM(latency=1.0, max_concurrency=1)
        tasks = [asyncio.create_task(llm.generate("a")) for _ in range(4)]
        await asyncio.sleep(0.5)
        for task in tasks[:3]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results[:3])
        assert results[3].latency == 1.5
        assert llm.state.slots.in_use == 0

    run(main())


# ---- the rate limit


def test_a_rate_limit_spaces_attempts_and_the_wait_stands_in_the_events():
    async def main():
        log = EventLog()
        llm = AsyncMockLLM(latency=0.5, rate_limit=RateLimit(requests=6, per=60), observers=[log])
        await llm.generate_many(["a"] * 4, concurrency=4)
        assert [event.started_at_s for event in log.attempts] == [0, 10, 20, 30]
        assert [event.rate_wait_s for event in log.attempts] == [0, 10, 20, 30]
        assert [event.latency for event in await llm.generate_many(["a"])] == [10]

    run(main())


def test_the_slot_is_held_while_waiting_for_the_rate_and_given_back_on_cancellation():
    async def main():
        llm = AsyncMockLLM(latency=0.5, rate_limit=RateLimit(requests=1, per=60), max_concurrency=1)
        await llm.generate("a")
        task = asyncio.create_task(llm.generate("b"))
        await asyncio.sleep(1)
        assert llm.state.slots.in_use == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert llm.state.slots.in_use == 0

    run(main())


def test_the_servers_token_count_settles_the_token_rate():
    def second_start(written):
        log = EventLog()

        async def main():
            answer = Answer("x", usage=Usage(10, written))
            llm = AsyncMockLLM(
                latency=0.0,
                script=[answer],
                rate_limit=RateLimit(tokens=60, per=60),
                observers=[log],
                total_timeout=None,
            )
            await llm.generate("x" * 40)
            await llm.generate("x" * 40)

        run(main())
        return log.attempts[1].started_at_s

    assert second_start(0) == 10
    assert second_start(90) == 100


# ---- cancellation


@pytest.mark.parametrize(
    ("at", "attempts", "accounts"),
    [
        (0.25, 1, {"server_s": 0.25}),
        (0.75, 1, {"server_s": 0.5, "backoff_s": 0.25}),
        (2.0, 2, {"server_s": 1.0, "backoff_s": 1.0}),
    ],
)
def test_a_cancelled_call_is_recorded_as_cancelled_and_the_cancellation_passed_on(at, attempts, accounts):
    log = EventLog()

    async def main():
        llm = AsyncMockLLM(
            script=["overload"], refusal_latency=0.5, latency=9.0, backoff=STEADY, observers=[log], max_concurrency=1
        )
        task = asyncio.create_task(llm.generate("a"))
        await asyncio.sleep(at)
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert llm.state.slots.in_use == 0

    run(main())
    (call,) = log.calls
    assert (call.fate, call.reason, call.attempts, call.ended_at_s) == (Fate.CANCELLED, R.CANCELLED, attempts, at)
    assert {name: value for name in ("server_s", "backoff_s") if (value := getattr(call, name))} == accounts
    last = log.attempts[-1]
    if last.reason == R.CANCELLED:
        assert (last.ended_at_s, last.backoff_source) == (at, None)


def test_a_backend_can_clean_up_when_it_is_cancelled_and_its_time_counts():
    closed = []

    class Slow:
        simulated = True

        async def attempt(self, request, *, timeouts, key):
            try:
                await asyncio.sleep(100)
            finally:
                await asyncio.sleep(0.5)
                closed.append(asyncio.get_running_loop().time())

    log = EventLog()

    async def main():
        policy = ClientPolicy(attempt_timeout=2.0, retry=RetryPolicy(max_retries=0))
        await AsyncClient(Slow(), policy, observers=[log]).generate("a")

    run(main())
    assert closed == [2.5]
    assert (log.attempts[0].reason, log.attempts[0].ended_at_s) == (R.ATTEMPT_TIMEOUT, 2.5)


@pytest.mark.parametrize("which", ["attempt_timeout", "total_timeout"])
def test_an_answer_from_a_backend_that_took_no_notice_of_the_timeout_is_late_all_the_same(which):
    class Deaf:
        simulated = True

        async def attempt(self, request, *, timeouts, key):
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                return Answer("too late")

    async def main():
        policy = ClientPolicy(retry=RetryPolicy(max_retries=0), **{which: 5.0})
        result = await AsyncClient(Deaf(), policy).generate("a")
        assert result.reason is (R.ATTEMPT_TIMEOUT if which == "attempt_timeout" else R.TOTAL_DEADLINE_EXCEEDED)
        assert asyncio.current_task().cancelling() == 0
        await asyncio.sleep(1)  # and no cancellation comes after

    run(main())


def test_a_timeout_around_the_call_from_outside_works_as_ever():
    async def main():
        llm = AsyncMockLLM(latency=10.0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await llm.generate("a")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(llm.generate("a"), 3)
        async with asyncio.timeout(10.0):  # both at the same instant: the outer one was armed first
            result = await AsyncMockLLM(latency=20.0, attempt_timeout=5.0, max_retries=0).generate("a")
        assert result.reason is R.ATTEMPT_TIMEOUT

    run(main())


@pytest.mark.parametrize("inner", ["attempt_timeout", "total_timeout"])
def test_an_outer_timeout_at_the_same_instant_is_the_outer_ones(inner):
    async def main():
        llm = AsyncMockLLM(latency=20.0, **{inner: 5.0})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5.0):
                await llm.generate("a")
        assert asyncio.current_task().cancelling() == 0

    run(main())


# ---- response formats


class Pet(BaseModel):
    name: str


def test_an_answer_in_the_response_format_is_parsed():
    result, _ = ask(LLMRequest(prompt="a", response_format=Pet))
    assert result.parsed == Pet(name="text")
    result, _ = ask(LLMRequest(prompt="a", response_format={"type": "integer"}))
    assert result.parsed == 1
    result, _ = ask(LLMRequest(prompt="a", response_format="json"))
    assert result.parsed == {}


class Seeds:
    """Answers malformed text for every seed but one, and keeps the seeds it was asked with."""

    simulated = True

    def __init__(self, good):
        self.good, self.seen = good, []

    async def attempt(self, request, *, timeouts, key):
        self.seen.append(request.seed)
        return Answer('{"name": "Rex"}' if request.seed == self.good else "CANARY")


def test_malformed_output_is_retried_with_another_seed():
    backend = Seeds(good=9)

    async def main():
        result = await AsyncClient(backend).generate(LLMRequest(prompt="a", response_format=Pet, seed=7))
        assert result.parsed == Pet(name="Rex")
        assert result.attempts == 3

    run(main())
    assert backend.seen == [7, 8, 9]


def test_malformed_output_to_the_end_says_what_is_wrong_and_quotes_nothing():
    async def main():
        result = await AsyncClient(Seeds(good=None)).generate(LLMRequest(prompt="a", response_format=Pet, seed=7))
        assert (result.reason, result.retryable, result.attempts) == (R.MALFORMED_OUTPUT, True, 3)
        assert "does not fit the response_format" in result.message
        assert "CANARY" not in repr(result)

    run(main())


def test_a_retry_that_will_repeat_itself_is_warned_of_once(caplog):
    async def main():
        client = AsyncClient(Seeds(good=-1))
        for _ in range(3):
            await client.generate(LLMRequest(prompt="a", response_format=Pet, temperature=0))

    with caplog.at_level(logging.WARNING, logger="llmlab"):
        run(main())
    assert [record.message for record in caplog.records] == [
        "retrying malformed output at temperature 0: the model will probably give the same text again"
    ]


def test_truncated_output_that_does_not_fit_is_not_retried():
    result, _ = ask(LLMRequest(prompt="a", response_format=Pet, max_tokens=3), script=["truncated"])
    assert (result.reason, result.fate, result.attempts) == (R.TRUNCATED_OUTPUT, Fate.NOT_RETRYABLE, 1)
    result, _ = ask("a", script=["truncated"])
    assert (result.ok, result.finish_reason) == (True, "length")


def test_an_answer_that_comes_with_the_loop_late_is_late_although_no_timer_has_fired():
    class KeepsTheLoop:
        async def attempt(self, request, *, timeouts, key):
            asyncio.get_running_loop().behind += 60.0
            return Answer("done")

    policy = ClientPolicy(attempt_timeout=5.0, total_timeout=90.0, retry=RetryPolicy(max_retries=0))
    result = run_late(AsyncClient(KeepsTheLoop(), policy).generate("Hello"))
    assert (result.reason, result.fate) == (R.ATTEMPT_TIMEOUT, Fate.RETRIES_EXHAUSTED)
    assert result.latency >= 60.0


class Fails:
    """Fails in one way, and lets the loop be late afterwards."""

    def __init__(self, *, behind=0.0):
        self.behind = behind

    async def attempt(self, request, *, timeouts, key):
        asyncio.get_running_loop().call_soon(self.keep, asyncio.get_running_loop())
        return AttemptFailure(R.OVERLOADED, "busy")

    def keep(self, loop):
        loop.behind += self.behind


def test_a_backoff_and_the_deadline_that_a_late_loop_finds_over_together_are_the_deadline():
    policy = ClientPolicy(attempt_timeout=None, total_timeout=30.0, retry=RetryPolicy(backoff=STEADY))
    result = run_late(AsyncClient(Fails(behind=60.0), policy).generate("Hello"))
    assert (result.fate, result.attempts, result.last_reason) == (Fate.DEADLINE, 1, R.OVERLOADED)
    assert result.message == "total_timeout=30.0 s ran out while waiting"


def test_an_attempt_that_a_late_loop_finds_over_with_the_whole_call_ends_the_call():
    class KeepsTheLoop:
        async def attempt(self, request, *, timeouts, key):
            asyncio.get_running_loop().behind += 60.0
            return Answer("done")

    policy = ClientPolicy(attempt_timeout=5.0, total_timeout=30.0)
    result = run_late(AsyncClient(KeepsTheLoop(), policy).generate("Hello"))
    assert (result.reason, result.fate, result.attempts) == (R.TOTAL_DEADLINE_EXCEEDED, Fate.DEADLINE, 1)
    assert result.message == "total_timeout=30.0 s ran out during an attempt"


def test_what_is_no_outcome_is_named_with_the_backend_that_returned_it():
    class Wrong:
        simulated, name = True, "mine"

        async def attempt(self, request, *, timeouts, key):
            return "a text"

    with pytest.raises(TypeError) as refused:
        run(AsyncClient(Wrong()).generate("Hello"))
    assert str(refused.value) == "backend 'mine' must return an Answer or an AttemptFailure, got str"


def test_every_backoff_is_computed_from_the_one_before_and_the_last_attempt_has_none():
    backoff = Backoff(base=1.0, maximum=100.0, jitter="decorrelated")
    _, log = ask(script=["overload"] * 4, backoff=backoff, max_retries=3, seed=5)
    waits = [event.backoff_s for event in log.attempts]
    expected, before = [], 0.0
    for retry in (1, 2, 3):
        before = backoff.delay(retry, before, uniform(5, 0, retry, Purpose.BACKOFF))
        expected.append(before)
    assert waits[:3] == expected
    assert math.isnan(waits[3])
    assert [event.backoff_source for event in log.attempts] == [BackoffSource.BACKOFF] * 3 + [None]


def test_hedges_are_no_retries_to_the_backoff():
    backend = MockBackend(latency=2.0, server_error_probability=1.0, refusal_latency=2.0)
    retry = RetryPolicy(max_retries=1, backoff=Backoff(base=1.0, factor=3.0, maximum=99.0, jitter="none"))
    log = EventLog()
    result = run(
        AsyncClient(backend, ClientPolicy(hedging=Hedging(delay=1.0), retry=retry), observers=[log]).generate("Hi")
    )
    assert (result.attempts, result.fate) == (4, Fate.RETRIES_EXHAUSTED)
    assert [wait for wait in (event.backoff_s for event in log.attempts) if not math.isnan(wait)] == [1.0]


@pytest.mark.parametrize(("capacity", "attempts"), [(1.0, 2), (2.0, 3)])
def test_a_call_whose_retries_the_budget_cannot_pay_says_what_it_met_last(capacity, attempts):
    policy = ClientPolicy(budget=RetryBudget(capacity=capacity), retry=RetryPolicy(max_retries=5, backoff=STEADY))
    backend = MockBackend(script=[AttemptFailure(R.OVERLOADED, "busy")] * 9)
    result = run(AsyncClient(backend, policy).generate("Hello"))
    assert (result.reason, result.fate, result.attempts) == (R.BUDGET_EXHAUSTED, Fate.BUDGET_EXHAUSTED, attempts)
    assert result.message == "overloaded: busy; the retry budget is spent"


@pytest.mark.parametrize("attempt_timeout", [None, 5.0])
@pytest.mark.parametrize("total_timeout", [None, 50.0])
def test_a_closed_client_leaves_the_loop_no_timer(attempt_timeout, total_timeout):
    async def main():
        loop = asyncio.get_running_loop()
        policy = ClientPolicy(attempt_timeout=attempt_timeout, total_timeout=total_timeout)
        client = AsyncClient(MockBackend(latency=0.0), policy)
        assert (await client.generate("Hello")).ok
        await client.aclose()
        return [timer for timer in loop._scheduled if not timer.cancelled()]

    assert asyncio.run(main()) == []


class Foresees:
    """Knows at once how an attempt will end, as a simulated backend does."""

    simulated = True

    def __init__(self):
        self.asked, self.timers = [], []

    async def attempt(self, request, *, timeouts, key):
        raise AssertionError("a backend that foresees its attempts is asked for no other")

    def begin(self, request, timeouts, key, limit):
        loop = asyncio.get_running_loop()
        told = loop.create_future()
        self.asked.append((request.prompt, timeouts, tuple(key), limit))
        self.timers.append(loop.call_at(loop.time() + 3.0, told.set_result, Answer("done")))
        return told, self.timers[-1]


@pytest.mark.parametrize(("attempt_timeout", "limit"), [(5.0, 5.0), (None, 9.0)])
def test_a_backend_that_foresees_its_attempts_is_told_when_they_must_end(attempt_timeout, limit):
    backend, policy = Foresees(), ClientPolicy(attempt_timeout=attempt_timeout, total_timeout=9.0)
    result = run(AsyncClient(backend, policy).generate("Hello"))
    assert (result.text, result.latency) == ("done", 3.0)
    assert backend.asked == [("Hello", policy.timeouts, (result.call, 1), limit)]


def test_the_timer_of_a_foreseen_attempt_goes_with_its_cancelled_call():
    log = EventLog()

    async def main():
        backend = Foresees()
        call = asyncio.create_task(AsyncClient(backend, observers=[log]).generate("Hello"))
        await asyncio.sleep(1.0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        return backend.timers

    assert [timer.cancelled() for timer in run(main())] == [True]
    assert [(event.fate, event.reason, event.last_reason) for event in log.calls] == [
        (Fate.CANCELLED, R.CANCELLED, R.CANCELLED)
    ]


def test_a_backend_is_given_the_policys_timeouts_and_its_events_what_the_server_counted():
    class Counts:
        simulated = True

        async def attempt(self, request, *, timeouts, key):
            self.timeouts = timeouts
            await asyncio.sleep(1.0)
            return Answer("done", usage=Usage(3, 4), time_to_first_token=0.5)

    backend, log = Counts(), EventLog()
    policy = ClientPolicy(timeouts=Timeouts(connect=1.5), attempt_timeout=None, total_timeout=None)
    assert run(AsyncClient(backend, policy, observers=[log]).generate("Hello")).ok
    assert backend.timeouts == policy.timeouts
    assert [(event.input_tokens, event.output_tokens) for event in log.attempts] == [(3, 4)]
    assert [event.time_to_first_token_s for event in log.attempts] == [0.5]


def test_a_calls_backoffs_add_up():
    _, log = ask(script=["overload"] * 3, backoff=Backoff(base=1.0, factor=2.0, jitter="none"), max_retries=3)
    assert [event.backoff_s for event in log.calls] == [1.0 + 2.0 + 4.0]


def test_a_call_may_have_come_before_it_began():
    log = EventLog()

    async def main():
        client = AsyncClient(MockBackend(latency=1.0), observers=[log])
        await client.flow().call(LLMRequest(prompt="Hello"), 1, arrived=-2.0)

    run(main())
    assert [(event.arrived_at_s, event.started_at_s) for event in log.calls] == [(-2.0, 0.0)]


def test_a_call_without_any_timeout_that_can_never_end_is_a_deadlock_of_the_simulation():
    class Never:
        simulated = True

        async def attempt(self, request, *, timeouts, key):
            await asyncio.get_running_loop().create_future()

    policy = ClientPolicy(attempt_timeout=None, total_timeout=None)
    with pytest.raises(VirtualDeadlock):
        run(AsyncClient(Never(), policy).generate("Hello"))


def test_the_time_after_which_nothing_is_retried_begins_with_the_call():
    backend = MockBackend(latency=1.0, script=[AttemptFailure(R.OVERLOADED, "busy")] * 9, refusal_latency=1.0)
    policy = ClientPolicy(retry=RetryPolicy(max_retries=8, stop_after=3.5, backoff=STEADY))

    async def main():
        await asyncio.sleep(10.0)
        return await AsyncClient(backend, policy).generate("Hello")

    result = run(main())
    assert (result.fate, result.latency >= 3.5, result.attempts > 1) == (Fate.RETRIES_EXHAUSTED, True, True)
    assert result.attempts < 9
