"""Each phase of an attempt has its own bound and its own words, and a failed attempt closes its connection at once.

The server sees the end of the connection before the caller does anything more: so it stops generating.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from llmlab import AsyncLocalLLM, LLMFailure, LLMRequest, LocalLLM
from llmlab.core.vocabulary import FailureReason
from llmlab.llms import LOCAL_POLICY
from llmlab.server.recording import Chunk, Ending, Exchange
from llmlab.server.replay import ReplayServer
from tests.ollama_replay import answer, line

R = FailureReason
CHAT = LLMRequest(messages=[{"role": "user", "content": "Hello"}])
STREAMED = "streamed"
WAYS: dict[str, LLMRequest] = {
    "/api/generate": LLMRequest(prompt="Hello"),
    "/api/chat": CHAT,
    STREAMED: LLMRequest(prompt="Hello"),
}


def text_line(path: str) -> bytes:
    return b'{"message":{"content":"a"},"done":false}\n' if path == "/api/chat" else line("a")


def begun(way: str, *more: bytes, ending: Ending = "stall", status: str = "200 OK") -> Exchange:
    """Begin an answer in the shape of the way, and end it so."""
    path = "/api/generate" if way == STREAMED else way
    return answer(text_line(path), *more, path=path, ending=ending, status=status)


async def made(llm: AsyncLocalLLM, way: str) -> LLMFailure:
    """Make a call that way, to its end."""
    if way != STREAMED:
        result = await llm.generate(WAYS[way])
    else:
        async with llm.stream(WAYS[way]) as stream:
            async for _ in stream:
                pass
            result = stream.result
    assert isinstance(result, LLMFailure)
    return result


def at_a_server(
    exchange: Exchange, act: Callable[[AsyncLocalLLM, ReplayServer], Awaitable[Any]], **settings: Any
) -> Any:
    """Let something happen between a client and a server; then no connection is open, before the client is closed."""

    async def main() -> Any:
        async with AsyncLocalLLM(base_url=server.url, model="m", max_retries=0, **settings) as llm:
            done = await act(llm, server)
            assert await asyncio.to_thread(server.wait_until_closed)
            assert server.connections == 1
            return done

    with ReplayServer([exchange]) as server:
        return asyncio.run(main())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("settings", "more", "reason"),
    [
        ({"attempt_timeout": 0.1}, (), R.ATTEMPT_TIMEOUT),
        ({"total_timeout": 0.1}, (), R.TOTAL_DEADLINE_EXCEEDED),
        ({"timeouts": LOCAL_POLICY.timeouts.replace(between_chunks=0.1)}, (), R.ATTEMPT_TIMEOUT),
        ({}, (b"nonsense\n",), R.MALFORMED_RESPONSE),
        ({}, (b'{"error":"it broke"}\n',), R.SERVER_ERROR),
    ],
)
def test_a_failed_attempt_closes_its_connection_at_once(way, settings, more, reason):
    failure = at_a_server(begun(way, *more), lambda llm, _: made(llm, way), **settings)
    assert failure.reason is reason


@pytest.mark.parametrize("way", WAYS)
def test_a_refusal_that_is_not_read_to_its_end_closes_its_connection_at_once(way):
    huge = begun(way, *[b"x" * 40_000] * 2, status="500 Internal Server Error")
    assert at_a_server(huge, lambda llm, _: made(llm, way)).reason is R.SERVER_ERROR


@pytest.mark.parametrize("way", WAYS)
def test_a_cancelled_call_closes_its_connection_at_once(way):
    async def cancel(llm: AsyncLocalLLM, server: ReplayServer) -> None:
        call = asyncio.create_task(made(llm, way))
        assert await asyncio.to_thread(server.wait_for_requests, 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    at_a_server(begun(way), cancel)


def test_a_stream_that_its_reader_leaves_closes_its_connection_at_once():
    async def leave(llm: AsyncLocalLLM, _: ReplayServer) -> None:
        async with llm.stream("Hello") as stream:
            assert await anext(aiter(stream)) == "a"

    at_a_server(begun(STREAMED), leave)


def phase_of(**bounds: Any) -> dict[str, Any]:
    return {"timeouts": LOCAL_POLICY.timeouts.replace(**bounds)}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (phase_of(first_byte=0.1), "sent no first byte within 0.1 s (timeouts.first_byte)"),
        ({"attempt_timeout": 0.1}, "no complete answer within attempt_timeout=0.1 s"),
        ({"total_timeout": 0.1}, "total_timeout=0.1 s"),
    ],
)
def test_a_silent_server_breaks_the_bound_that_is_named(settings, words):
    late = answer().replace(chunks=(Chunk(line("a"), at=60.0),))
    client = {"model": "m", "max_retries": 0, **settings}
    with ReplayServer([late], pace=1) as server, LocalLLM(base_url=server.url, **client) as llm:
        failure = llm.generate("Hello")
    assert words in failure.message


def test_a_stall_between_two_pieces_names_its_bound():
    client = {"model": "m", "max_retries": 0, **phase_of(between_chunks=0.1)}
    with ReplayServer([begun("/api/generate")]) as server, LocalLLM(base_url=server.url, **client) as llm:
        failure = llm.generate("Hello")
    assert "stood still for 0.1 s (timeouts.between_chunks)" in failure.message


def test_a_full_pool_names_its_bound():
    async def main() -> Any:
        async with httpx.AsyncClient(limits=httpx.Limits(max_connections=1)) as mine:
            settings = {"http_client": mine, "max_retries": 0, **phase_of(pool=0.1)}
            llm = AsyncLocalLLM(base_url=server.url, model="m", **settings)
            async with llm, llm.stream("Hello") as holder:
                await anext(aiter(holder))
                return await llm.generate("Hello")

    with ReplayServer([begun("/api/generate")]) as server:
        assert "no connection of the pool came free within 0.1 s (timeouts.pool)" in asyncio.run(main()).message


def test_the_callers_own_timeout_stays_the_callers():
    async def outlast(llm: AsyncLocalLLM, _: ReplayServer) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await llm.generate("Hello")

    at_a_server(begun("/api/generate"), outlast)
