"""`AsyncClient`: event loops, shared limits, clients stacked on clients."""

import asyncio
import gc
import os
import threading
import weakref

import pytest

from llmlab import (
    Answer,
    AsyncClient,
    AsyncMockLLM,
    AttemptFailure,
    Backoff,
    Client,
    ClientPolicy,
    EventLog,
    FailureReason,
    Fate,
    LLMRequest,
    MockBackend,
    RateLimit,
    RetryPolicy,
    Timeouts,
)
from llmlab.core.backend import AttemptKey
from llmlab.core.chance import derived
from llmlab.core.inner_client import InnerClient
from llmlab.core.ledger import Ledger
from llmlab.core.state import ClientState
from llmlab.virtual_time import VirtualLoop, run

R = FailureReason
NOW = Backoff(base=0.0, jitter="none")


class Echo:
    async def attempt(self, request, *, timeouts, key):
        return Answer(f"You said: {request.prompt}")


class Never:
    async def attempt(self, request, *, timeouts, key):
        await asyncio.get_running_loop().create_future()


class WithLibrarySession(Echo):
    def __init__(self):
        self.session = self.begin = object()


class OwnAttempt(MockBackend):
    async def attempt(self, request, *, timeouts, key):
        return Answer("mine")


class OwnAttemptAndSession(OwnAttempt):
    def session(self):
        return self


def test_an_attribute_called_session_or_begin_is_no_method_of_a_backend():
    assert run(AsyncClient(WithLibrarySession()).generate("Hello")).text == "You said: Hello"


def test_an_attempt_that_a_session_inherited_would_pass_over_is_refused_with_the_remedy():
    with pytest.raises(TypeError, match=r"add `def session\(self\): return self`"):
        run(AsyncClient(OwnAttempt()).generate("Hello"))
    assert run(AsyncClient(OwnAttemptAndSession()).generate("Hello")).text == "mine"


@pytest.mark.parametrize("client", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        ((None,), {}, "backend: needs a method `async def attempt"),
        ((MockBackend,), {}, r"not the class MockBackend; write MockBackend\(...\)"),
        ((Echo(), ClientPolicy), {}, "policy must be of type ClientPolicy or None, got the class ClientPolicy"),
        ((Echo(),), {"layer": None}, "layer must be a name, got None"),
        ((Echo(),), {"layer": ""}, "layer must be a name, got ''"),
        ((Echo(), {"max_retries": 1}), {}, "policy must be of type ClientPolicy or None, got a dict"),
        ((Echo(),), {"state": ClientPolicy()}, "state must be of type ClientState or None, got a ClientPolicy"),
        ((Echo(),), {"seed": "1"}, "seed must be of type int or None, got a str"),
    ],
)
def test_wrong_arguments_are_refused_at_once_and_in_words(client, arguments, settings, message):
    with pytest.raises(TypeError, match=message):
        client(*arguments, **settings)


def test_a_backend_is_one_method():
    result = asyncio.run(AsyncClient(Echo()).generate("Hi"))
    assert result.text == "You said: Hi"
    assert result.attempts == 1


@pytest.mark.parametrize("request_", [None, 5, b"Hi", ["Hi"], {"prompt": "Hi"}])
def test_what_is_no_request_is_refused(request_):
    with pytest.raises(TypeError, match="a request must be an LLMRequest or a str"):
        asyncio.run(AsyncClient(Echo()).generate(request_))


# ---- event loops


def test_a_client_works_on_one_event_loop_after_the_other():
    client = AsyncClient(Echo(), ClientPolicy(max_concurrency=1))
    for _ in range(3):
        assert asyncio.run(client.generate("Hi")).ok


def test_a_client_works_on_a_second_loop_while_the_first_is_open_and_idle():
    client = AsyncClient(Echo(), ClientPolicy(max_concurrency=1))
    loops = [asyncio.new_event_loop() for _ in range(2)]
    try:
        for loop in (*loops, *loops):
            assert loop.run_until_complete(client.generate("Hi")).ok
    finally:
        for loop in loops:
            loop.close()


def test_a_client_says_why_it_cannot_be_used_on_two_loops_at_once():
    client = AsyncClient(Never(), ClientPolicy(max_concurrency=1))
    first = asyncio.new_event_loop()
    try:
        call = first.create_task(client.generate("Hi"))
        first.run_until_complete(asyncio.sleep(0))
        with pytest.raises(RuntimeError, match="1 calls are in progress on another event loop"):
            asyncio.run(client.generate("Hi"))
        call.cancel()
        first.run_until_complete(asyncio.gather(call, return_exceptions=True))
        client.backend = Echo()
        assert asyncio.run(client.generate("Hi")).ok
    finally:
        first.close()


@pytest.mark.filterwarnings("ignore:.*")
def test_calls_of_a_loop_that_was_closed_under_them_hold_nothing_up():
    client = AsyncClient(Never(), ClientPolicy(max_concurrency=1))
    first = asyncio.new_event_loop()
    call = first.create_task(client.generate("Hi"))
    first.run_until_complete(asyncio.sleep(0))
    first.close()
    client.backend = Echo()
    assert asyncio.run(client.generate("Hi")).ok, "its slot is free again"
    call._log_destroy_pending = False
    del call
    gc.collect()  # closes the abandoned coroutine, which gives back a slot that nobody counts any more
    assert client.state.calls_in_progress == 0
    assert client.state.slots.in_use == 0
    assert asyncio.run(client.generate("Hi")).ok


def test_a_rate_limit_carries_over_from_one_asyncio_run_to_the_next():
    client = AsyncClient(Echo(), ClientPolicy(rate_limit=RateLimit(requests=1, per=3600), total_timeout=5))
    assert asyncio.run(client.generate("Hi")).ok
    assert asyncio.run(client.generate("Hi")).fate is Fate.DEADLINE


@pytest.mark.parametrize("idle", [0.0, 1.0, 100.0])
def test_a_rate_limit_is_fresh_in_every_simulation(idle):
    client = AsyncMockLLM(latency=0.0, rate_limit=RateLimit(requests=1, per=3600), total_timeout=5)

    async def main():
        await asyncio.sleep(idle)
        return await client.generate("Hi"), await client.generate("Hi")

    for _ in range(3):
        first, second = run(main())
        assert (first.ok, second.ok) == (True, False)
    assert asyncio.run(client.generate("Hi")).ok, "and in real time after simulations"


@pytest.mark.parametrize("backend", [Echo(), MockBackend(latency=0.0)])
def test_no_loop_is_kept_alive_by_a_client_but_the_last(backend):
    client, loops = AsyncClient(backend), []

    async def main():
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await client.generate("Hi")

    for _ in range(4):
        run(main())
    gc.collect()
    assert [loop() for loop in loops[:-1]] == [None] * 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_process_starts_with_free_limits():
    state = ClientState(ClientPolicy(max_concurrency=1))
    loop, other = VirtualLoop(), VirtualLoop()
    state.bind(loop)
    state.progress.calls = 1
    state.slots.take()
    with pytest.raises(RuntimeError, match="in progress"):
        state.bind(other)
    child = os.fork()
    if child == 0:
        state.bind(other)
        os._exit(0 if state.slots.in_use == 0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# ---- shared limits


def test_clients_that_share_a_state_share_its_limits():
    async def main():
        log = EventLog()
        policy = ClientPolicy(max_concurrency=2)
        one = AsyncClient(MockBackend(latency=1.0), policy, observers=[log])
        other = AsyncClient(MockBackend(latency=1.0), state=one.state, observers=[log])
        await asyncio.gather(one.generate_many(["a"] * 4), other.generate_many(["b"] * 4))
        assert asyncio.get_running_loop().time() == 4
        starts = [attempt.started_at_s for attempt in log.attempts]
        assert all(starts.count(at) == 2 for at in range(4))
        assert one.state.slots.in_use == 0

    run(main())


def test_a_shared_state_that_went_on_to_another_loop_comes_back_clean():
    one = AsyncClient(Echo(), ClientPolicy(max_concurrency=1))
    other = AsyncClient(Echo(), one.policy, state=one.state)
    loops = [asyncio.new_event_loop() for _ in range(2)]
    try:
        loops[0].run_until_complete(one.generate("Hi"))
        loops[1].run_until_complete(other.generate("Hi"))
        assert one.state.loop is loops[1]
        loops[0].run_until_complete(one.generate("Hi"))
        assert one.state.loop is loops[0], "limits are counted on the loop that is in use"
    finally:
        for loop in loops:
            loop.close()


# ---- layers


def stacked(bottom, policies, log):
    client = bottom
    for depth, policy in enumerate(policies):
        client = AsyncClient(client, policy, observers=[log], seed=depth, layer=f"layer{depth}")
    return client


def test_attempts_multiply_through_the_layers():
    log = EventLog()
    policy = ClientPolicy(retry=RetryPolicy(max_retries=2, backoff=NOW))
    bottom = MockBackend(script=["server_error"] * 99, refusal_latency=1.0)
    result = run(stacked(bottom, [policy] * 3, log).generate("Hi"))
    assert (result.reason, result.fate, result.attempts, result.latency) == (
        R.SERVER_ERROR,
        Fate.RETRIES_EXHAUSTED,
        3,
        27,
    )
    per_layer = [sum(attempt.layer == f"layer{depth}" for attempt in log.attempts) for depth in range(3)]
    assert per_layer == [27, 9, 3]
    assert [attempt.backend for attempt in log.attempts if attempt.layer == "layer2"] == ["layer1"] * 3


def test_events_know_their_layer_and_their_parent():
    log = EventLog()
    policy = ClientPolicy(retry=RetryPolicy(max_retries=1, backoff=NOW))
    run(stacked(MockBackend(script=["overload", "overload"]), [policy] * 2, log).generate("Hi"))
    outer = [call for call in log.calls if call.layer == "layer1"]
    inner = [call for call in log.calls if call.layer == "layer0"]
    assert [(call.parent_call, call.parent_attempt) for call in outer] == [(-1, 0)]
    assert [(call.parent_call, call.parent_attempt) for call in inner] == [(outer[0].call, 1), (outer[0].call, 2)]
    assert [call.call for call in inner] == [derived(outer[0].call, 1), derived(outer[0].call, 2)]
    attempts = [attempt for attempt in log.attempts if attempt.layer == "layer1"]
    for call, attempt in zip(inner, attempts, strict=True):
        assert (call.started_at_s, call.ended_at_s) == (attempt.started_at_s, attempt.ended_at_s)


@pytest.mark.parametrize(
    ("reason", "tried"),
    [
        (R.TOTAL_DEADLINE_EXCEEDED, 3),
        (R.REJECTED_BY_LIMIT, 3),
        (R.CIRCUIT_OPEN, 3),
        (R.BUDGET_EXHAUSTED, 3),
        (R.EMPTY_PROMPT, 1),
    ],
)
def test_the_inner_clients_own_reasons_are_what_came_over_the_wire_to_the_outer_one(reason, tried):
    result = run(AsyncMockLLM(script=[AttemptFailure(reason, "from the inner client")] * 3, backoff=NOW).generate("Hi"))
    assert (result.reason, result.attempts) == (reason, tried)
    assert result.fate is (Fate.RETRIES_EXHAUSTED if tried == 3 else Fate.NOT_RETRYABLE)


def test_an_inner_deadline_is_tried_again_by_the_outer_client():
    log = EventLog()
    inner = ClientPolicy(total_timeout=5.0)
    outer = ClientPolicy(retry=RetryPolicy(backoff=NOW))
    result = run(stacked(MockBackend(latency=50.0), [inner, outer], log).generate("Hi"))
    assert (result.reason, result.fate, result.latency) == (R.TOTAL_DEADLINE_EXCEEDED, Fate.RETRIES_EXHAUSTED, 15)
    assert [call.fate for call in log.calls if call.layer == "layer0"] == [Fate.DEADLINE] * 3


@pytest.mark.parametrize("inner", [ClientPolicy(attempt_timeout=5.0), ClientPolicy(total_timeout=5.0), ClientPolicy()])
def test_an_outer_attempt_timeout_cancels_the_call_inside_even_at_the_same_instant(inner):
    log = EventLog()
    outer = ClientPolicy(attempt_timeout=5.0, retry=RetryPolicy(max_retries=0))

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: pytest.fail(str(context)))
        client = stacked(MockBackend(latency=50.0), [inner, outer], log)
        result = await client.generate("Hi")
        assert (result.reason, result.latency) == (R.ATTEMPT_TIMEOUT, 5)
        assert asyncio.current_task().cancelling() == 0

    run(main())
    assert [call.fate for call in log.calls] == [Fate.CANCELLED, Fate.RETRIES_EXHAUSTED]


def test_a_cancellation_goes_through_all_layers():
    log = EventLog()

    async def main():
        client = stacked(MockBackend(latency=50.0), [ClientPolicy(max_concurrency=1)] * 3, log)
        task = asyncio.create_task(client.generate("Hi"))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert client.state.slots.in_use == client.backend.state.slots.in_use == 0

    run(main())
    assert [call.fate for call in log.calls] == [Fate.CANCELLED] * 3
    assert [attempt.reason for attempt in log.attempts] == [R.CANCELLED] * 3


# ---- closing


def test_a_closed_client_may_be_used_again():
    class Session:
        closed = 0

        def session(self):
            return self

        async def attempt(self, request, *, timeouts, key):
            return Answer("ok")

        async def aclose(self):
            self.closed += 1

    backend = Session()

    async def main():
        async with AsyncClient(backend) as client:
            assert (await client.generate("Hi")).ok
        assert backend.closed == 1
        assert (await client.generate("Hi")).ok
        await client.aclose()
        await client.aclose()
        assert backend.closed == 2

    run(main())


def test_a_client_used_outside_a_task_says_so():
    coroutine = AsyncClient(Echo()).generate("Hi")
    with pytest.raises(RuntimeError, match="no running event loop"):
        coroutine.send(None)


def test_numbers_are_given_once_also_from_several_threads():
    client = AsyncClient(Echo())
    flows = [threading.Thread(target=lambda: [next(client._numbers) for _ in range(1000)]) for _ in range(4)]
    for thread in flows:
        thread.start()
    for thread in flows:
        thread.join()
    assert next(client._numbers) == 4000


def test_a_call_under_way_keeps_its_deadline_when_its_client_is_closed():
    async def main():
        loop = asyncio.get_running_loop()
        client = AsyncClient(Never(), ClientPolicy(attempt_timeout=None, total_timeout=5.0, max_concurrency=1))
        calls = asyncio.gather(client.generate("Hello"), client.generate("Hello"))  # one in flight, one waits
        await asyncio.sleep(1.0)
        await client.aclose()
        results = await calls
        return [result.fate for result in results], loop.time(), [t for t in loop._timers if not t.cancelled()]

    assert run(main()) == ([Fate.DEADLINE, Fate.DEADLINE], 5.0, [])


def test_a_client_is_a_backend_even_where_nobody_asks_for_its_session():
    log = EventLog()
    client = AsyncClient(Echo(), observers=[log])
    outcome = run(client.attempt(LLMRequest(prompt="Hi"), timeouts=Timeouts(), key=AttemptKey(3, 2)))
    assert outcome.text == "You said: Hi"
    assert [(event.call, event.parent_call, event.parent_attempt) for event in log.calls] == [(derived(3, 2), 3, 2)]


def test_a_session_shows_the_servers_view_asks_for_its_own_model_and_closes_what_is_behind():
    class Models:
        view, closed = "the view", 0

        async def attempt(self, request, *, timeouts, key):
            return Answer("done", model=request.model)

        async def aclose(self):
            self.closed += 1

    async def main():
        backend = Models()
        client = AsyncClient(backend)
        session = client.session()
        assert client.session() is session
        assert session.view == "the view"
        request = LLMRequest(prompt="Hi", model="asked")
        for inner, model in [(session, "asked"), (InnerClient(client, "own"), "own")]:
            for number in range(2):
                outcome = await inner.attempt(request, timeouts=Timeouts(), key=AttemptKey(number, 1))
                assert outcome.model == model
        await session.aclose()
        assert backend.closed == 1

    run(main())


def test_a_client_over_another_backend_shares_its_limits_and_nothing_else():
    client = AsyncClient(Never(), ClientPolicy(max_concurrency=2), seed=1)
    other = client.over(Echo(), 7)
    assert (other.seed, client.seed, other.state) == (7, 1, client.state)
    assert run(other.generate("Hi")).text == "You said: Hi"


def test_a_client_shows_its_backend_and_its_policy():
    client = AsyncClient(MockBackend(), ClientPolicy(max_concurrency=2))
    assert repr(client) == f"AsyncClient({client.backend!r}, {client.policy!r})"


def test_a_call_that_has_no_end_has_no_result():
    with pytest.raises(RuntimeError, match="a call ends with an answer or a failure"):
        Ledger(LLMRequest(prompt="Hi"), 1, 0.0, 0.0, 10.0).result()
