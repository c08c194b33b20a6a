"""The way to a server on this machine: what the wire carries, and what is kept, however much or little it takes."""

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx
import pytest

from llmlab.backends import http_loopback
from llmlab.backends.http_loopback import LoopbackTransport
from llmlab.backends.http_pools import Pools
from llmlab.core.backend import Answer, AttemptFailure, Timeouts
from llmlab.core.messages import LLMRequest
from llmlab.core.vocabulary import FailureReason
from llmlab.server.recording import Exchange
from llmlab.server.replay import ReplayServer
from tests.ollama_replay import LAST, answer, attempt, line


def talk(exchanges: list[Exchange], act: Callable[[httpx.AsyncClient, ReplayServer], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        transport = LoopbackTransport(keep_idle=30.0)
        async with httpx.AsyncClient(transport=transport, base_url=server.url) as client:
            return await act(client, server)

    with ReplayServer(exchanges) as server:
        return asyncio.run(main())


@contextmanager
def listener(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """Serve one connection on a thread."""

    def accept() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.settimeout(5)
            serve(connection)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=accept)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


def test_only_plain_http_to_this_machine_goes_this_way():
    async def ways() -> list[bool]:
        urls = [
            "http://127.0.0.1:1",
            "http://localhost:1",
            "http://[::1]:1",
            "https://127.0.0.1:1",
            "http://far.test:1",
        ]
        pools = [Pools(url) for url in urls]
        taken = [one.take().client._transport for one in pools]
        for one in pools:
            await one.aclose()
        return [isinstance(one, LoopbackTransport) for one in taken]

    assert asyncio.run(ways()) == [True, True, True, False, False]


def test_a_request_is_one_packet():
    received: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        received.append(connection.recv(65536))
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n"
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(LAST) + LAST)

    with listener(serve) as url:
        assert isinstance(attempt(url), Answer)
    head, _, body = received[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /api/generate HTTP/1.1\r\n")
    assert json.loads(body)["prompt"] == "Hello"


@pytest.mark.parametrize("size", [100, 70_000, 5_000_000])
def test_a_request_of_any_size_arrives_whole(size):
    with ReplayServer([answer(line("a"), LAST)]) as server:
        assert isinstance(attempt(server.url, LLMRequest(prompt="x" * size)), Answer)
        assert len(server.received[0].json()["prompt"]) == size


def test_a_server_that_takes_in_nothing_breaks_the_bound_between_two_pieces():
    done = threading.Event()

    def ignore(_: socket.socket) -> None:
        done.wait(5)

    with listener(ignore) as url:
        failure = attempt(url, LLMRequest(prompt="x" * 30_000_000), timeouts=Timeouts(between_chunks=0.1))
        done.set()
    assert isinstance(failure, AttemptFailure)
    assert failure.reason is FailureReason.ATTEMPT_TIMEOUT
    assert "sending the request stood still for 0.1 s (timeouts.between_chunks)" in failure.message


def test_a_reader_that_takes_its_time_gets_everything_and_holds_the_server_back():
    piece = b"x" * 60_000

    async def slowly(client: httpx.AsyncClient, _: ReplayServer) -> int:
        length = 0
        async with client.stream("POST", "/api/generate", json={"model": "m"}) as response:
            async for data in response.aiter_raw():
                length += len(data)
                await asyncio.sleep(0.001)
        return length

    assert talk([answer(*[piece] * 40)], slowly) == 40 * len(piece)


def test_connections_are_used_again_unless_the_server_has_closed_them():
    async def thrice(client: httpx.AsyncClient, server: ReplayServer) -> int:
        for _ in range(3):
            await client.post("/api/generate", json={"model": "m"})
        return server.connections

    assert talk([answer(LAST)], thrice) == 1
    assert talk([answer(LAST, headers=(("Connection", "close"),)).replace(ending="cut")] * 1, _each_fails) == 3


async def _each_fails(client: httpx.AsyncClient, server: ReplayServer) -> int:
    for _ in range(3):
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/api/generate", json={"model": "m"})
    return server.connections


def test_a_name_is_resolved_and_a_refusal_is_a_connect_error():
    async def by_name(client: httpx.AsyncClient, server: ReplayServer) -> int:
        url = server.url.replace("127.0.0.1", "localhost")
        return (await client.post(f"{url}/api/generate", json={"model": "m"})).status_code

    async def refused(client: httpx.AsyncClient, _: ReplayServer) -> None:
        with pytest.raises(httpx.ConnectError):
            await client.get("http://127.0.0.1:9/")

    assert talk([answer(LAST)], by_name) == 200
    talk([], refused)


def test_closing_ends_who_is_reading():
    async def close_under_the_reader(client: httpx.AsyncClient, server: ReplayServer) -> None:
        reading = asyncio.create_task(client.post("/api/generate", json={"model": "m"}))
        assert await asyncio.to_thread(server.wait_for_requests, 1)
        await asyncio.sleep(0.02)
        await client.aclose()
        with pytest.raises(httpx.NetworkError):
            await asyncio.wait_for(reading, 2.0)
        assert await asyncio.to_thread(server.wait_until_closed)

    talk([answer(line("a"), ending="stall")], close_under_the_reader)


@pytest.mark.parametrize("turns", range(5))
def test_who_is_cancelled_twice_leaves_no_connection_open(turns: int):
    """As where a deadline ends an attempt, and its caller leaves a turn of the loop later."""

    async def twice(client: httpx.AsyncClient, server: ReplayServer) -> bool:
        asking = asyncio.create_task(client.post("/api/generate", json={"model": "tiny"}))
        assert await asyncio.to_thread(server.wait_for_requests, 1)
        asking.cancel()
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        return await asyncio.to_thread(server.wait_until_closed)

    assert talk([answer(line("a"), ending="stall")], twice)


def test_who_is_cancelled_while_a_timeout_closes_the_connection_leaves_none(monkeypatch: pytest.MonkeyPatch):
    read = http_loopback._Stream.read

    async def cancelled_as_it_ends(stream: Any, *given: Any, **named: Any) -> bytes:
        task = asyncio.current_task()
        assert task is not None
        try:
            return await read(stream, *given, **named)
        except httpcore.ReadTimeout:
            asyncio.get_running_loop().call_soon(task.cancel)
            raise

    async def impatient(client: httpx.AsyncClient, server: ReplayServer) -> bool:
        monkeypatch.setattr(http_loopback._Stream, "read", cancelled_as_it_ends)
        asking = asyncio.create_task(client.post("/api/generate", json={"model": "tiny"}, timeout=0.05))
        await asyncio.gather(asking, return_exceptions=True)
        assert asking.cancelled()
        return await asyncio.to_thread(server.wait_until_closed)

    assert talk([answer(line("a"), ending="stall")], impatient)


def test_who_is_cancelled_just_after_a_connection_was_opened_leaves_none(monkeypatch: pytest.MonkeyPatch):
    connect = http_loopback._Network.connect_tcp

    async def cancelled(client: httpx.AsyncClient, server: ReplayServer) -> list[int]:
        loop, left = asyncio.get_running_loop(), []
        for turns in range(12):

            async def connected(*given: Any, turns: int = turns, **named: Any) -> Any:
                task = asyncio.current_task()
                assert task is not None

                def cancel_in(turns_left: int) -> None:
                    if turns_left:
                        loop.call_soon(cancel_in, turns_left - 1)
                    else:
                        task.cancel()

                cancel_in(turns + 1)
                return await connect(*given, **named)

            monkeypatch.setattr(http_loopback._Network, "connect_tcp", connected)
            asking = asyncio.create_task(client.post("/api/generate", json={"model": "tiny"}))
            await asyncio.gather(asking, return_exceptions=True)
            if not await asyncio.to_thread(server.wait_until_closed):
                left.append(turns)
        return left

    assert talk([answer(line("a"), ending="stall")], cancelled) == []
