"""Laws of streamed calls: for every policy, server, fault and reader, also one who is slow, leaves or is cancelled."""

import asyncio
import contextlib
import itertools
import math
from collections import Counter, defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab import (
    Answer,
    AsyncClient,
    ClientPolicy,
    EventLog,
    Exponential,
    Fallback,
    Fate,
    Faults,
    Layer,
    MockBackend,
    RetryPolicy,
    ServerModel,
    Timeouts,
    WithFaults,
)
from llmlab.backends.faults import FaultKind
from llmlab.core.streams import StreamedAttempt, streaming
from llmlab.virtual_time import run
from tests.core.test_flow_laws import POLICIES as PLAIN
from tests.core.test_flow_laws import check_call
from tests.core.test_guard_laws import POLICIES as GUARDED
from tests.core.traffic import quarters

TEXT = "0123456789abcdefghijklmnopqrstuvwxyz"
FAULTS = st.dictionaries(st.sampled_from(sorted(FaultKind)), st.sampled_from([0.1, 0.3]), max_size=3).map(
    lambda faults: Faults(**faults, retry_after=0.25)
)
SERVERS = st.builds(
    MockBackend,
    text=st.just(TEXT),
    latency=quarters | st.builds(Exponential, mean=quarters),
    refusal_latency=st.sampled_from([0.0, 0.25]),
    faults=FAULTS,
    server=st.none() | st.builds(ServerModel, slots=st.integers(1, 2), batch_slowdown=st.sampled_from([0.0, 0.5])),
    seed=st.integers(0, 100),
)
BACKENDS = (
    SERVERS
    | st.builds(lambda server, faults, seed: WithFaults(server, faults, seed=seed), SERVERS, FAULTS, st.integers(0, 9))
    | SERVERS.map(lambda server: Layer(server, ClientPolicy(attempt_timeout=4.0)))
    | st.lists(SERVERS, min_size=1, max_size=2).map(Fallback)
)


# Where text is handed out and then breaks, again and again, under a client that would love to retry.
BREAKING = st.builds(
    MockBackend,
    text=st.just(TEXT),
    latency=quarters,
    faults=st.builds(Faults, cut=st.just(0.4), error_in_stream=st.just(0.2), stall=st.just(0.2)),
    seed=st.integers(0, 100),
)
RETRYING = st.builds(
    ClientPolicy,
    retry=st.builds(RetryPolicy, max_retries=st.integers(1, 3)),
    attempt_timeout=quarters,
    timeouts=st.builds(Timeouts, between_chunks=quarters),
    max_concurrency=st.none() | st.integers(1, 2),
)


class Reader:
    """Someone who reads a stream: how long each piece takes them, after how many they leave, when they are cancelled.

    They come at a time and may have to be cancelled so many seconds later.
    """

    def __init__(self, at, pace, leaves_after, cancelled_after):
        self.at, self.pace, self.leaves_after, self.cancelled_after = at, pace, leaves_after, cancelled_after
        self.stream, self.first_at = None, math.inf

    async def reads(self, client):
        await asyncio.sleep(self.at)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.cancelled_after), client.stream("Hello") as self.stream:
                for number in itertools.count(1):
                    await asyncio.sleep(self.pace)
                    if number == self.leaves_after or await self.stream.next_piece() is None:
                        break
                    self.first_at = min(self.first_at, asyncio.get_running_loop().time())

    def __repr__(self):
        return f"Reader({self.at}, {self.pace}, {self.leaves_after}, {self.cancelled_after})"


READERS = st.lists(
    st.builds(
        Reader, quarters, st.sampled_from([0.0, 0.0, 0.25, 9.0]), st.none() | st.integers(1, 6), st.none() | quarters
    ),
    min_size=1,
    max_size=6,
)


class Gauge:
    """Counts streamed attempts in progress on the way to a backend."""

    simulated = True

    def __init__(self, backend):
        self.backend, self.inside, self.most, self.begun = backend, 0, 0, Counter()

    def session(self):
        if not hasattr(self, "inner"):
            self.inner = streaming(self.backend.session())
        return self

    async def attempt(self, request, *, timeouts, key):
        raise AssertionError("a streamed call asks for a stream")

    def stream(self, request, *, timeouts, key):
        return StreamedAttempt(self.steps(request, timeouts, key))

    async def steps(self, request, timeouts, key):
        self.begun[key.call] += 1
        self.inside += 1
        self.most = max(self.most, self.inside)
        inner = self.inner(request, timeouts=timeouts, key=key)
        try:
            async for piece in inner:
                yield piece
        finally:
            self.inside -= 1
            await inner.aclose()
        yield inner.outcome


def simulated(backend, policy, readers):
    """Let readers read; return the events and the gauge, nothing left over."""
    log, gauge, complaints = EventLog(), Gauge(backend), []

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        client = AsyncClient(gauge, policy, observers=[log], seed=1)
        await asyncio.gather(*(reader.reads(client) for reader in readers))
        assert client.state.slots is None or (client.state.slots.in_use == 0 and not client.state.slots.waiting)
        assert client.state.calls_in_progress == gauge.inside == 0
        guard = client.state.guard
        assert guard is None or guard.breaker is None or guard.breaker._probes_out == 0
        await client.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())
    assert complaints == []
    return log, gauge


@settings(max_examples=50)
@given(BACKENDS, PLAIN, READERS)
def test_a_streamed_call_keeps_the_laws_of_every_call(backend, policy, readers):
    log, gauge = simulated(backend, policy, readers)
    attempts = attempts_of(log)
    assert {number: len(rows) for number, rows in attempts.items()} == dict(gauge.begun)
    assert policy.max_concurrency is None or gauge.most <= policy.max_concurrency
    for call in log.calls:
        if call.fate != Fate.NOT_RETRYABLE:  # which a retryable failure has where text had been handed out
            check_call(call, attempts.get(call.call, []), policy)


@settings(max_examples=40)
@given(BACKENDS, GUARDED, READERS)
def test_a_guarded_stream_is_recorded_once_an_attempt_and_gives_back_what_it_holds(backend, policy, readers):
    log, gauge = simulated(backend, policy, readers)
    assert {number: len(rows) for number, rows in attempts_of(log).items()} == dict(gauge.begun)
    assert not any(attempt.hedge for attempt in log.attempts)


@settings(max_examples=50)
@given(BACKENDS | BREAKING, PLAIN | RETRYING, READERS)
def test_what_is_handed_out_begins_a_text_of_one_attempt_and_no_other_follows(backend, policy, readers):
    log, _ = simulated(backend, policy, readers)
    fates = {call.call: call.fate for call in log.calls}
    for reader in readers:
        stream = reader.stream
        if stream is None:
            continue
        result = stream.result
        assert fates[result.call] == (Fate.ANSWERED if result.ok else result.fate)
        begun = [attempt.started_at_s for attempt in attempts_of(log).get(result.call, [])]
        assert max(begun, default=0.0) <= reader.first_at
        if result.ok:
            assert result.text.startswith(stream.text)
            assert reader.leaves_after or reader.cancelled_after or result.text == stream.text
        else:
            assert result.partial_text == stream.text
            assert is_a_beginning(stream.text)


def is_a_beginning(text):
    """Whether a text begins as an answer may: the whole one, or one that a fault has cut in half and spoilt."""
    half = TEXT[: len(TEXT) // 2]
    return any(full.startswith(text) for full in (TEXT, half + "\x00}{"))


def attempts_of(log):
    attempts = defaultdict(list)
    for attempt in log.attempts:
        if attempt.layer == "client":
            attempts[attempt.call].append(attempt)
    return {key: sorted(rows, key=lambda row: row.attempt) for key, rows in attempts.items()}


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from([0.25, 0.5]), st.sampled_from(["ab", ""])), max_size=6), quarters)
def test_a_reader_gets_every_piece_once_and_in_order_at_any_pace(story, pace):
    class Told:
        simulated = True

        async def attempt(self, request, *, timeouts, key):
            raise AssertionError

        def stream(self, request, *, timeouts, key):
            return StreamedAttempt(self.steps())

        async def steps(self):
            for number, (wait, piece) in enumerate(story):
                await asyncio.sleep(wait)
                yield piece and f"{piece}{number}"
            yield Answer("complete")

    async def main():
        pieces = []
        async with AsyncClient(Told()).stream("Hello") as stream:
            async for piece in stream:
                pieces.append(piece)
                await asyncio.sleep(pace)
        return pieces

    assert run(main()) == [f"{piece}{number}" for number, (_, piece) in enumerate(story) if piece]
