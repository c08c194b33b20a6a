"""The SDKs of OpenAI and Ollama, unmodified, on simulated time: their own retries, timeouts and parsers."""

import asyncio
import random

import httpx
import ollama
import openai
import pytest

from llmlab import Faults, MockBackend, ServerModel, Window
from llmlab.virtual_time import run
from llmlab.wire.randomness import seeded_random
from llmlab.wire.transport import SimulatedTransport

HELLO = [{"role": "user", "content": "Hello"}]
OUTAGE = Faults(schedule=[Window(kind="overload", start=5.0, end=20.0)])


# One's own httpx client, or that of the SDK, which is of another library: httpx's successor.
HTTP_CLIENTS = pytest.mark.parametrize(
    "http_client", [httpx.AsyncClient, openai.DefaultAsyncHttpxClient], ids=["httpx", "its own"]
)


def openai_client(transport, http_client=httpx.AsyncClient, **settings):
    http = http_client(transport=transport)
    return openai.AsyncOpenAI(api_key="none", base_url="http://simulated/v1", http_client=http, **settings)


async def ask(client, **more):
    """Make a call; return what it came to, when."""
    loop = asyncio.get_running_loop()
    try:
        answer = await client.chat.completions.create(model="any", messages=HELLO, **more)
    except openai.APIError as error:
        return type(error).__name__, round(loop.time(), 3)
    return answer.choices[0].message.content, round(loop.time(), 3)


def asked(transport, http_client=httpx.AsyncClient, **settings):
    async def main():
        async with openai_client(transport, http_client, **settings) as client:
            return await ask(client)

    with seeded_random(0):
        return run(main(), executor="inline")


async def storm(transport, http_client):
    async def call(number):
        await asyncio.sleep(number * 0.5)
        return await ask(client)

    async with openai_client(transport, http_client) as client:
        return await asyncio.gather(*(call(number) for number in range(60)))


@HTTP_CLIENTS
def test_an_outage_is_the_same_storm_in_every_run(http_client):
    runs = []
    for _ in range(2):
        transport = SimulatedTransport(MockBackend(faults=OUTAGE, latency=0.5))
        with seeded_random(3):
            results = run(storm(transport, http_client), executor="inline")
        runs.append((results, transport.requests().to_dict("records")))
    assert runs[0] == runs[1]
    results, requests = runs[0]
    assert {text for text, _ in results} == {"This is a simulated answer.", "InternalServerError"}
    assert {request["claimed_retry"] for request in requests} == {0, 1, 2}  # its default: two retries


def test_the_storm_leaves_the_global_generator_as_it_was():
    before = random.getstate()
    with seeded_random(1):
        random.random()
    assert random.getstate() == before


def test_the_sdk_waits_as_long_as_retry_after_says():
    faults = Faults(retry_after=7.5)
    transport = SimulatedTransport(
        MockBackend(script=["rate_limit", "answer"], latency=1.0, refusal_latency=0.5, faults=faults)
    )
    # A foreign client does not say which call a request belongs to, so the script goes by order of arrival.
    assert asked(transport, max_retries=1)[1] == 9.0
    assert list(transport.requests().arrived_at_s) == [0.0, 8.0]
    assert list(transport.requests().status) == [429, 200]


@HTTP_CLIENTS
@pytest.mark.parametrize(
    ("fault", "error", "at"),
    [
        ("timeout", "APITimeoutError", 3.0),
        ("connection_error", "APIConnectionError", 0.5),
        ("connect_stall", "APITimeoutError", 2.0),
        ("reset", "APIConnectionError", 0.5),
        ("rate_limit", "RateLimitError", 0.5),
        ("overload", "InternalServerError", 0.5),
        ("bad_gateway", "InternalServerError", 0.5),
        ("error_in_stream", "InternalServerError", 1.0),
        ("stall", "APITimeoutError", 3.0),
    ],
)
def test_each_fault_is_the_error_that_the_sdk_has_for_it(http_client, fault, error, at):
    transport = SimulatedTransport(MockBackend(latency=1.6, refusal_latency=0.5, faults={fault: 1.0}))
    timeout = openai.Timeout(3.0, connect=2.0)
    assert asked(transport, http_client, max_retries=0, timeout=timeout) == (error, at)


def test_a_streamed_completion_comes_piece_by_piece_with_its_usage():
    async def main():
        async with openai_client(SimulatedTransport(MockBackend(latency=4.0))) as client:
            stream = await client.chat.completions.create(
                model="any", messages=HELLO, stream=True, stream_options={"include_usage": True}
            )
            return [(asyncio.get_running_loop().time(), chunk) async for chunk in stream]

    chunks = run(main(), executor="inline")
    assert "".join(chunk.choices[0].delta.content or "" for _, chunk in chunks[:-1]) == "This is a simulated answer."
    assert [round(at, 3) for at, _ in chunks] == [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.0, 4.0]
    assert chunks[-1][1].usage.total_tokens == 9


def test_a_cut_stream_is_an_exception_and_one_without_its_end_marker_is_none():
    async def read(fault):
        async with openai_client(SimulatedTransport(MockBackend(latency=4.0, faults={fault: 1.0}))) as client:
            stream = await client.chat.completions.create(model="any", messages=HELLO, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    with pytest.raises((httpx.RemoteProtocolError, openai.APIConnectionError)):
        run(read("cut"), executor="inline")
    # A finding about the SDK: a stream that merely ends is taken for a whole one.
    assert run(read("no_end_marker"), executor="inline") == "This is a simulated answer."


def test_calls_at_once_queue_for_the_slot():
    async def main():
        async with openai_client(SimulatedTransport(MockBackend(latency=1.0, server=ServerModel(slots=1)))) as client:
            return await asyncio.gather(*(ask(client) for _ in range(3)))

    assert [at for _, at in run(main(), executor="inline")] == [1.0, 2.0, 3.0]


def ollama_client(backend, **settings):
    return ollama.AsyncClient(host="http://simulated", transport=SimulatedTransport(backend), **settings)


def test_the_client_of_ollama_reads_answers_streams_and_listings():
    async def main():
        client = ollama_client(MockBackend(latency=4.0, model="tiny"))
        whole = await client.chat(model="tiny", messages=HELLO)
        pieces = [part.response async for part in await client.generate(model="tiny", prompt="Hello", stream=True)]
        return whole, pieces, await client.list(), await client.ps(), await client.show("tiny")

    whole, pieces, listed, loaded, shown = run(main())
    assert whole.message.content == "".join(pieces) == "This is a simulated answer."
    assert (whole.total_duration, whole.eval_count, whole.done_reason) == (4_000_000_000, 7, "stop")
    assert [model.model for model in listed.models] == [model.model for model in loaded.models] == ["tiny:latest"]
    assert shown.capabilities == ["completion"]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("overload", ollama.ResponseError),
        ("server_error", ollama.ResponseError),
        ("connection_error", httpx.ConnectError),
        ("reset", httpx.ReadError),
        ("cut", httpx.RemoteProtocolError),
        ("timeout", httpx.ReadTimeout),
        ("error_in_stream", ollama.ResponseError),
    ],
)
def test_the_client_of_ollama_retries_nothing(fault, error):
    transport = SimulatedTransport(MockBackend(faults={fault: 1.0}))

    async def main():
        client = ollama.AsyncClient(host="http://simulated", transport=transport, timeout=5.0)
        return [part async for part in await client.chat(model="m", messages=HELLO, stream=True)]

    with pytest.raises(error):
        run(main())
    assert len(transport.requests()) == 1


def test_a_sync_client_is_told_what_it_needs_instead():
    client = openai.OpenAI(
        api_key="none",
        base_url="http://simulated/v1",
        http_client=httpx.Client(transport=SimulatedTransport(MockBackend())),
    )
    with pytest.raises(TypeError, match=r"for async clients.*AsyncOpenAI.*llmlab serve"):
        client.chat.completions.create(model="any", messages=HELLO)
