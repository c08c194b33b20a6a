"""Streams of the backends that stand between a client and another backend: what of the text they let through."""

import asyncio

import pytest

from llmlab import (
    AsyncClient,
    Client,
    ClientPolicy,
    EventLog,
    FailureReason,
    Faults,
    LLMRequest,
    MockBackend,
    RetryPolicy,
    ServerModel,
    Timeouts,
    WithFaults,
)
from llmlab.backends.faults import FaultKind
from llmlab.core.backend import StreamingBackend
from llmlab.virtual_time import run

R = FailureReason
TEXT = "This is a simulated answer."
SERVER = MockBackend(latency=4.0, first_token_share=0.25)  # seven pieces, from 1 s to 4 s
ONCE = ClientPolicy(retry=RetryPolicy(max_retries=0))


def read(backend, policy=ONCE, request="Hello"):
    """Read one stream on virtual time; return its pieces with their times, its result and its events."""
    log = EventLog()

    async def main():
        loop = asyncio.get_running_loop()
        async with AsyncClient(backend, policy, observers=[log], seed=1).stream(request) as stream:
            return [(loop.time(), piece) async for piece in stream], stream.result

    return *run(main()), log


def faulty(fault, **settings):
    return WithFaults(SERVER, Faults(**{fault: 1.0}, **settings))


@pytest.mark.parametrize("backend", [SERVER, WithFaults(SERVER)])
def test_a_streaming_backend_says_so(backend):
    assert isinstance(backend, StreamingBackend)


def test_without_a_fault_every_piece_goes_through_when_it_comes():
    assert read(WithFaults(SERVER))[0] == read(SERVER)[0]


@pytest.mark.parametrize(
    ("fault", "text", "reason"),
    [
        (FaultKind.CUT, "This is a simula", R.CONNECTION_LOST),
        (FaultKind.ERROR_IN_STREAM, "This is a simula", R.SERVER_ERROR),
        (FaultKind.NO_END_MARKER, TEXT, R.MALFORMED_RESPONSE),
        (FaultKind.STALL, "This", R.ATTEMPT_TIMEOUT),
        (FaultKind.TIMEOUT, "", R.ATTEMPT_TIMEOUT),
        (FaultKind.OVERLOAD, "", R.OVERLOADED),
        (FaultKind.EMPTY, "", R.EMPTY_OUTPUT),
        (FaultKind.REFUSAL, "", R.REFUSED),
    ],
)
def test_a_fault_in_front_of_a_backend_lets_through_what_comes_before_it(fault, text, reason):
    came, result, _ = read(faulty(fault))
    assert "".join(piece for _, piece in came) == text == result.partial_text
    assert result.reason is reason


def test_a_cut_comes_when_the_answer_is_complete_and_the_first_piece_when_it_comes():
    came, result, _ = read(faulty(FaultKind.CUT))
    assert [at for at, _ in came] == pytest.approx([1.0, 2.0, 3.0, 4.0])
    assert result.latency == 4.0


def test_a_slow_drip_hands_on_the_first_piece_and_the_others_at_their_slower_times():
    came, result, log = read(faulty(FaultKind.SLOW_DRIP, slow_drip_factor=4.0))
    assert [at for at, _ in came] == pytest.approx([1.0, 4.0, 5.0, 7.0, 9.0, 11.0, 13.0])
    assert "".join(piece for _, piece in came) == result.text == TEXT
    assert log.attempts[0].ended_at_s == 13.0


def test_a_drip_too_slow_for_the_client_is_given_up_after_the_first_piece():
    came, result, _ = read(
        faulty(FaultKind.SLOW_DRIP), ONCE.replace(timeouts=Timeouts(between_chunks=4.0), attempt_timeout=60.0)
    )
    assert ("".join(piece for _, piece in came), result.reason) == ("This", R.ATTEMPT_TIMEOUT)
    assert result.latency == 5.0


def test_a_spoilt_text_comes_whole_when_it_is_complete_and_is_tried_again():
    """Nothing of it was handed out before the check, so a stream is no reason to give up."""
    wanted = LLMRequest(prompt="Hello", response_format="json")
    backend = WithFaults(MockBackend(latency=4.0), Faults(malformed=0.5), seed=4)
    came, result, _ = read(backend, ClientPolicy(), wanted)
    assert (result.attempts, result.ok, "".join(piece for _, piece in came)) == (2, True, "{}")


@pytest.mark.parametrize("fault", FaultKind)
def test_the_events_under_a_fault_are_those_of_a_call_that_waits_for_the_whole(fault):
    policy = ONCE.replace(timeouts=Timeouts(between_chunks=0.6), attempt_timeout=9.0)

    def waited():
        log = EventLog()
        run(AsyncClient(faulty(fault), policy, observers=[log], seed=1).generate("Hello"))
        return log

    _, _, log = read(faulty(fault), policy)
    assert str(log.attempts) == str(waited().attempts)


def test_a_stream_behind_a_faulty_backend_is_closed_with_it():
    log = EventLog()
    with Client(WithFaults(AsyncClient(SERVER, observers=[log]))).stream("Hello") as stream:
        next(stream)
    assert [call.reason for call in log.calls] == [R.CANCELLED]


# ---- a server with a queue


def served(**settings):
    return MockBackend(latency=4.0, first_token_share=0.25, server=ServerModel(**settings.pop("model", {})), **settings)


def test_a_server_with_a_queue_writes_token_by_token():
    came, result, _ = read(served())
    assert [at for at, _ in came] == pytest.approx([1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0])
    assert "".join(piece for _, piece in came) == result.text == TEXT


def test_tokens_come_slower_where_others_are_served_too():
    async def main():
        loop, at = asyncio.get_running_loop(), []
        llm = AsyncClient(served(model={"slots": 2, "batch_slowdown": 1.0}), ONCE)
        async with llm.stream("Hello") as one, llm.stream("Hello") as other:
            at = [loop.time() async for _ in one]
            assert [piece async for piece in other]
        return at

    assert run(main()) == pytest.approx([2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])


def test_leaving_a_stream_gives_the_servers_slot_to_the_next():
    async def main():
        llm = AsyncClient(served(model={"slots": 1}), ONCE)
        async with llm.stream("Hello") as stream:
            await anext(stream)
        result = await llm.generate("Hello")
        return result.latency

    assert run(main()) == 4.0


@pytest.mark.parametrize(
    "bounds", [{}, {"first_byte": 3.0}, {"between_chunks": 0.6}, {"between_chunks": None}], ids=str
)
@pytest.mark.parametrize("fault", [None, *FaultKind])
def test_the_events_at_a_server_with_a_queue_are_those_of_calls_that_wait_for_the_whole(fault, bounds):
    """Also where calls wait for a slot, are slowed down by others, meet faults, are given up, or are read late."""
    faults = Faults() if fault is None else Faults(**{fault: 0.5}, retry_after=0.5)
    model = {"slots": 2, "queue": 3, "batch_slowdown": 0.5, "requests_per_minute": 60, "limit_burst": 5.0}
    backend = served(faults=faults, model=model, seed=5)
    policy = ClientPolicy(attempt_timeout=14.0, timeouts=Timeouts(**bounds))

    def events(ask):
        log = EventLog()

        async def main():
            llm = AsyncClient(backend, policy, observers=[log], seed=1)
            await asyncio.gather(*(ask(llm, f"Number {n}") for n in range(6)))

        run(main())
        return sorted(rounded(event) for event in (*log.attempts, *log.calls))  # what comes at once has no order

    async def streamed(llm, prompt):
        async with llm.stream(prompt) as stream:
            await asyncio.sleep(1000.0)
            text = "".join([piece async for piece in stream])
        assert text == (stream.result.text if stream.result.ok else "")

    assert events(streamed) == events(lambda llm, prompt: llm.generate(prompt))


def rounded(event):
    return str([round(value, 9) if isinstance(value, float) else value for value in event])
