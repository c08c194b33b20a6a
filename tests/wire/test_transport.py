"""A client over the simulated transport meets what a client in memory meets: the same weather, by the same draws."""

import httpx
import pytest

from llmlab import (
    AsyncClient,
    ClientPolicy,
    EventLog,
    FailureReason,
    FaultKind,
    Faults,
    LLMRequest,
    MockBackend,
    OllamaBackend,
    OpenAIBackend,
    RetryPolicy,
    ServerModel,
    Timeouts,
)
from llmlab.backends.fault_kinds import FAULTS
from llmlab.virtual_time import run
from llmlab.wire.transport import SimulatedTransport

POLICY = ClientPolicy(
    retry=RetryPolicy(max_retries=2),
    attempt_timeout=20.0,
    total_timeout=None,
    timeouts=Timeouts(connect=3.0, first_byte=8.0, between_chunks=5.0),
)
ONCE = POLICY.replace(retry=RetryPolicy(max_retries=0))
SCHEMA = {"type": "object", "properties": {"verdict": {"const": "guilty"}}, "required": ["verdict"]}
JUDGE = LLMRequest(prompt="Judge.", response_format=SCHEMA)
SERVERS = {"endless": None, "queue": ServerModel(slots=2)}


ROUTES = ["generate", "chat", "openai"]


def over_the_wire(backend, route="generate"):
    """Return a backend of ours that talks to the simulated server: Ollama's two endpoints, or chat completions."""
    http = httpx.AsyncClient(transport=SimulatedTransport(backend))
    if route == "openai":
        return OpenAIBackend(http_client=http, base_url="http://simulated/v1", model="mock", api_key_env=None)
    return OllamaBackend(http_client=http, base_url="http://simulated", model="mock", endpoint=route)


def met(backend, requests, policy=POLICY):
    """Make calls one after another; return what each attempt met, and when it began and ended."""
    log = EventLog()

    async def main():
        async with AsyncClient(backend, policy, seed=0, observers=[log]) as client:
            for request in requests:
                await client.generate(request)

    run(main())
    return [(e.call, e.attempt, e.reason, round(e.started_at_s, 6), round(e.ended_at_s, 6)) for e in log.attempts]


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("kind", FaultKind)
def test_each_fault_is_over_the_wire_what_it_is_in_memory(kind, route, server):
    faults = Faults(**{kind: 1.0}, slow_drip_factor=100.0, retry_after=2.0)
    backend = MockBackend(latency=4.0, refusal_latency=0.5, faults=faults, server=SERVERS[server])
    ((_, _, reason, *times),) = met(over_the_wire(backend, route), [JUDGE], ONCE)
    ((_, _, expected, *expected_times),) = met(backend, [JUDGE], ONCE)
    if kind is FaultKind.REFUSAL and route != "openai":  # Ollama has no word for it: the text is empty
        expected = FailureReason.EMPTY_OUTPUT
    assert reason == expected
    assert times == expected_times
    assert expected in {FAULTS[kind].reason, FailureReason.EMPTY_OUTPUT}


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("route", ["generate", "openai"])
def test_a_client_over_the_wire_meets_the_weather_of_one_in_memory_attempt_for_attempt(route, server):
    faults = Faults(**dict.fromkeys(["timeout", "overload", "cut", "empty", "stall", "reset", "truncated"], 0.1))
    backend = MockBackend(seed=7, faults=faults, server=SERVERS[server])
    wire, memory = met(over_the_wire(backend, route), ["Hello"] * 60), met(backend, ["Hello"] * 60)
    assert wire == memory
    assert len({reason for _, _, reason, *_ in wire}) == 5


def test_calls_at_once_queue_for_the_slots_as_they_do_in_memory():
    backend = MockBackend(
        server=ServerModel(
            slots=2, decode_rate=20.0, prefill_rate=50.0, batch_slowdown=0.5, load_time=1.0, load_queue=6
        )
    )

    async def at_once(backend):
        async with AsyncClient(backend, ONCE, seed=0) as client:
            results = await client.generate_many(["Hello there"] * 12)
        return [(result.ok, round(result.latency, 6)) for result in results]

    wire, memory = run(at_once(over_the_wire(backend))), run(at_once(backend))
    assert wire == memory
    assert 0 < sum(ok for ok, _ in wire) < 12


def test_a_client_that_goes_away_frees_its_slot():
    backend = MockBackend(latency=10.0, server=ServerModel(slots=1))
    impatient = POLICY.replace(attempt_timeout=1.0, retry=RetryPolicy(max_retries=0))

    async def main():
        async with AsyncClient(over_the_wire(backend), impatient) as client:
            await client.generate_many(["Hello"] * 3, concurrency=1)
        return backend.session().view.columns()["busy"][-1]

    assert run(main()) == 0


def test_it_says_what_it_takes():
    with pytest.raises(TypeError, match="must be a MockBackend, got a OllamaBackend"):
        SimulatedTransport(OllamaBackend())


def test_what_the_server_saw_is_a_tidy_frame():
    faults = Faults(retry_after=2.0)
    transport = SimulatedTransport(MockBackend(latency=1.0, refusal_latency=0.5, script=["overload"], faults=faults))
    backend = OllamaBackend(http_client=httpx.AsyncClient(transport=transport), model="mock")
    met(backend, ["Hello", "Again"])
    seen = transport.requests()
    assert list(seen.request) == [0, 1, 2, 3]
    assert list(zip(seen.call, seen.attempt, strict=True)) == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert list(seen.status) == [503, 200, 503, 200]
    assert list(seen.fault.fillna("")) == ["overload", "", "overload", ""]
    assert list(seen.arrived_at_s) == pytest.approx([0.0, 2.5, 3.5, 6.0])
    assert list(seen.first_chunk_at_s) == pytest.approx([0.5, 2.75, 4.0, 6.25])
    assert list(seen.ended_at_s) == pytest.approx([0.5, 3.5, 4.0, 7.0])
    assert list(seen.ended_by.unique()) == ["server"]
    assert list(seen.digest) == ["0", "0", "1", "1"]
    assert list(seen.retry_after_s.fillna(0)) == [2, 0, 2, 0]


def test_the_record_tells_who_ended_an_answer():
    transport = SimulatedTransport(MockBackend(latency=4.0, script=["cut", "stall", "reset", "connect_stall"]))
    backend = OllamaBackend(http_client=httpx.AsyncClient(transport=transport), model="mock")
    met(backend, ["Hello"], POLICY.replace(retry=RetryPolicy(max_retries=3)))
    assert list(transport.requests().ended_by) == ["broken", "client", "broken", "client"]
    assert [request.ended_by for request in transport.recording().requests] == ["broken", "client", "broken", "client"]
    assert SimulatedTransport(MockBackend()).requests().empty
