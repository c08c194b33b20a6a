"""Observers added to and removed from a client that is in use."""

import asyncio
import threading

import pytest

from llmlab import (
    AsyncClient,
    Backoff,
    Client,
    ClientPolicy,
    EventLog,
    Fallback,
    Hedging,
    Layer,
    MockBackend,
    MockLLM,
    RetryPolicy,
    WithFaults,
)
from llmlab.virtual_time import run

ONCE_MORE = ClientPolicy(retry=RetryPolicy(max_retries=1, backoff=Backoff(base=1.0, jitter="none")))


class Counting:
    """An observer that is no `EventLog`, which has a way of its own."""

    def __init__(self):
        self.attempts, self.calls = [], []

    def on_attempt(self, event):
        self.attempts.append(event)

    def on_call(self, event):
        self.calls.append(event)


@pytest.mark.parametrize("observer", [EventLog, Counting])
@pytest.mark.parametrize("first", [(), (EventLog(),), (Counting(),)])
def test_one_that_comes_later_gets_the_events_from_then_on_until_it_goes(observer, first):
    late = observer()
    with MockLLM(observers=first) as llm:
        llm.generate("before")
        llm.add_observer(late)
        llm.generate("while")
        llm.remove_observer(late)
        llm.generate("after")
    assert [event.call for event in late.calls] == [1]
    assert [event.call for event in late.attempts] == [1]


def test_of_a_call_in_flight_it_gets_the_attempts_from_then_on_and_the_end():
    late = EventLog()
    client = AsyncClient(MockBackend(script=["server_error", "answer"], refusal_latency=1.0, latency=1.0), ONCE_MORE)

    async def main():
        call = asyncio.create_task(client.generate("Hi"))
        await asyncio.sleep(1.5)
        client.add_observer(late)
        return await call

    assert run(main()).attempts == 2
    assert [event.attempt for event in late.attempts] == [2]
    assert [event.attempts for event in late.calls] == [2]


def test_one_that_goes_while_a_call_is_in_flight_gets_no_more_of_it():
    early = Counting()
    server = MockBackend(script=["server_error", "answer"], refusal_latency=1.0, latency=1.0)
    client = AsyncClient(server, ONCE_MORE, observers=[early])

    async def main():
        call = asyncio.create_task(client.generate("Hi"))
        await asyncio.sleep(1.5)
        client.remove_observer(early)
        return await call

    assert run(main()).ok
    assert ([event.attempt for event in early.attempts], early.calls) == ([1], [])


@pytest.mark.parametrize(
    ("backend", "layers"),
    [
        (Layer(MockBackend(), name="sdk"), ["sdk", "client"]),
        (WithFaults(Layer(MockBackend(), name="sdk")), ["sdk", "client"]),
        (Fallback([MockBackend(server_error_probability=1.0), MockBackend()]), ["target1", "target2", "client"]),
        (AsyncClient(MockBackend(), layer="inside", seed=0), ["inside", "client"]),
        (Layer(Layer(MockBackend())), ["layer-2", "layer", "client"]),
    ],
)
def test_one_that_comes_later_sees_the_layers_inside_too(backend, layers):
    late = EventLog()

    async def main():
        client = AsyncClient(backend, seed=0)
        await client.generate("before")
        client.add_observer(late)
        await client.generate("while")
        client.remove_observer(late)
        await client.generate("after")

    run(main())
    assert [event.layer for event in late.calls] == layers


def test_one_added_to_the_client_inside_sees_its_calls_for_the_client_outside():
    late = EventLog()
    inside = AsyncClient(MockBackend(), layer="inside", seed=0)

    async def main():
        outside = AsyncClient(inside)
        await outside.generate("before")
        inside.add_observer(late)
        await outside.generate("while")

    run(main())
    assert [event.layer for event in late.calls] == ["inside"]


def test_streams_and_races_are_seen_by_one_that_comes_later():
    late = Counting()
    policy = ClientPolicy(retry=RetryPolicy(max_retries=0), hedging=Hedging(delay=0.5))
    client = AsyncClient(MockBackend(latency=1.0), policy)

    async def streamed():
        async with client.stream("Hi") as stream:
            return [piece async for piece in stream]

    async def main():
        await client.generate("Hi")
        await streamed()
        client.add_observer(late)
        await client.generate("Hi")
        await streamed()

    run(main())
    assert [len(late.calls), len(late.attempts)] == [2, 3]
    assert [event.hedge for event in late.attempts] == [False, True, False]


def test_one_that_goes_during_a_race_leaves_no_event_behind():
    early = Counting()
    policy = ClientPolicy(retry=RetryPolicy(max_retries=0), hedging=Hedging(delay=0.5, max_hedges=1))
    client = AsyncClient(MockBackend(script=["server_error", "answer"], refusal_latency=1.0), policy, observers=[early])

    async def main():
        call = asyncio.create_task(client.generate("Hi"))
        await asyncio.sleep(0.75)
        client.remove_observer(early)
        await call

    run(main())
    assert (early.attempts, early.calls) == ([], [])


def test_observers_come_and_go_from_threads_while_calls_are_made_and_none_is_lost_or_left():
    always, stop = Counting(), threading.Event()
    client = Client(MockBackend(latency=0.0), observers=[always], real_time=True)

    def come_and_go():
        while not stop.is_set():
            one = Counting()
            client.add_observer(one)
            client.remove_observer(one)

    threads = [threading.Thread(target=come_and_go) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        results = client.generate_many(["Hi"] * 200, concurrency=20)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert sum(result.ok for result in results) == len(always.calls) == len(always.attempts) == 200
    assert tuple(client._client._emitter) == (always,)
    client.close()


def test_what_cannot_observe_or_does_so_already_or_never_did_is_refused():
    log = EventLog()
    with MockLLM(observers=[log]) as llm:
        with pytest.raises(TypeError, match="has no on_attempt"):
            llm.add_observer(print)
        with pytest.raises(ValueError, match="observes this client already"):
            llm.add_observer(log)
        with pytest.raises(ValueError, match="does not observe this client"):
            llm.remove_observer(EventLog())
        llm.generate("Hi")
    assert len(log) == 1
