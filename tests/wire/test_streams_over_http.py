"""Streams through our own HTTP parsers, over the simulated server: the same pieces at the same times as in memory."""

import asyncio

import httpx
import pytest

from llmlab import AsyncLocalLLM, AsyncMockLLM, AsyncOpenAILLM, EventLog, FailureReason, MockBackend, Timeouts
from llmlab.virtual_time import run
from llmlab.wire.transport import SimulatedTransport

SETTINGS = {"max_retries": 1, "timeouts": Timeouts(between_chunks=2.0), "attempt_timeout": 30.0}
OVER_HTTP = {
    "ollama": (AsyncLocalLLM, {"base_url": "http://simulated", "model": "mock"}),
    "openai": (AsyncOpenAILLM, {"base_url": "http://simulated/v1", "model": "mock"}),
}


async def read(llm):
    """Read a stream to its end; return its pieces with their times, and how it ended."""
    loop = asyncio.get_running_loop()
    async with llm.stream("Hello") as stream:
        came = [(round(loop.time(), 6), piece) async for piece in stream]
    result = stream.result
    return came, (result.attempts, result.text if result.ok else (result.reason, result.fate, result.partial_text))


@pytest.mark.parametrize("protocol", OVER_HTTP)
@pytest.mark.parametrize(
    "script", [(), ("overload",), ("cut",), ("error_in_stream",), ("stall",), ("no_end_marker",), ("timeout", "cut")]
)
def test_a_stream_over_http_is_what_it_is_in_memory(protocol, script):
    backend = {"latency": 4.0, "script": script}

    async def over_http():
        kind, where = OVER_HTTP[protocol]
        async with httpx.AsyncClient(transport=SimulatedTransport(MockBackend(**backend))) as http:
            return await read(kind(http_client=http, seed=1, **where, **SETTINGS))

    assert run(over_http()) == run(read(AsyncMockLLM(seed=1, **backend, **SETTINGS)))


@pytest.mark.parametrize("protocol", OVER_HTTP)
def test_leaving_a_stream_over_http_ends_the_attempt_at_once(protocol):
    log = EventLog()

    async def main():
        kind, where = OVER_HTTP[protocol]
        async with httpx.AsyncClient(transport=SimulatedTransport(MockBackend(latency=4.0))) as http:
            async with kind(http_client=http, observers=[log], **where).stream("Hello") as stream:
                first = await anext(stream)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            return first, stream.result.reason

    assert run(main()) == ("This", FailureReason.CANCELLED)
    assert [(attempt.reason, attempt.ended_at_s) for attempt in log.attempts] == [(FailureReason.CANCELLED, 1.0)]
