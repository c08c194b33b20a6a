"""What one attempt at an Ollama server meets on the wire: stalls, cuts, nonsense, a caller who gives up."""

import asyncio
import logging
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

import pytest

from llmlab.backends import http_transport, ollama_protocol
from llmlab.backends.ollama import OllamaBackend
from llmlab.backends.ollama_session import OllamaSession, OllamaStream
from llmlab.core.backend import Answer, AttemptFailure, AttemptStream, Timeouts
from llmlab.core.messages import LLMRequest
from llmlab.core.vocabulary import FailureReason, FinishReason
from llmlab.server.recording import Chunk, Exchange
from llmlab.server.replay import ReplayServer
from tests.ollama_replay import HELLO, KEY, LAST, answer, attempt, line

R = FailureReason
SHORT = Timeouts(first_byte=0.1, between_chunks=0.1)


def failure_of(*exchanges: Exchange, timeouts: Timeouts | None = None, pace: float = 0.0) -> AttemptFailure:
    with ReplayServer(exchanges, pace=pace) as server:
        outcome = attempt(server.url, timeouts=timeouts)
    assert isinstance(outcome, AttemptFailure), outcome
    return outcome


def answer_of(*exchanges: Exchange, timeouts: Timeouts | None = None, pace: float = 0.0) -> Answer:
    with ReplayServer(exchanges, pace=pace) as server:
        outcome = attempt(server.url, timeouts=timeouts)
    assert isinstance(outcome, Answer), outcome
    return outcome


def timed(exchange: Exchange, *seconds: float) -> Exchange:
    chunks = (Chunk(chunk.data, at) for chunk, at in zip(exchange.chunks, seconds, strict=True))
    return exchange.replace(chunks=tuple(chunks))


def with_session(server: ReplayServer, act: Callable[[OllamaSession], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        session = OllamaBackend(base_url=server.url, model="m").session()
        try:
            return await act(session)
        finally:
            await session.aclose()

    return asyncio.run(run())


# No connection


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_no_server_says_what_was_tried_and_how_to_start_one():
    url = f"http://127.0.0.1:{closed_port()}"
    outcome = attempt(url)
    assert isinstance(outcome, AttemptFailure)
    assert (outcome.reason, outcome.is_retryable) == (R.CONNECTION_FAILED, True)
    assert outcome.message == (
        f"no Ollama server at {url} (connection refused); start it with `ollama serve`, or set base_url or OLLAMA_HOST"
    )


def test_a_connection_that_does_not_come_about_in_time():
    # A listener whose queue is full: Linux then drops further attempts to connect without an answer.
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(2)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(address)
        outcome = attempt(f"http://127.0.0.1:{address[1]}", timeouts=Timeouts(connect=0.1))
        for one in waiting:
            one.close()
    assert isinstance(outcome, AttemptFailure)
    assert outcome.reason is R.CONNECTION_FAILED
    assert "no connection within 0.1 s, timeouts.connect" in outcome.message


# Time


def test_a_server_that_sends_nothing_breaks_the_first_byte():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        outcome = attempt(f"http://127.0.0.1:{silent.getsockname()[1]}", timeouts=SHORT)
    assert isinstance(outcome, AttemptFailure)
    assert (outcome.reason, outcome.status_code) == (R.ATTEMPT_TIMEOUT, None)
    assert "no first byte within 0.1 s (timeouts.first_byte)" in outcome.message


def test_a_body_that_does_not_begin_breaks_the_first_byte_too():
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
    with raw_server(head) as url:
        failure = attempt(url, timeouts=SHORT)
    assert isinstance(failure, AttemptFailure)
    assert (failure.reason, failure.status_code) == (R.ATTEMPT_TIMEOUT, 200)
    assert "(timeouts.first_byte)" in failure.message


@contextmanager
def raw_server(sent: bytes, then: Literal["wait", "close", "reset"] = "wait") -> Iterator[str]:
    """Answer one request with bytes that need not be HTTP, and then wait for the client to close, or close first."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(5)
            while b"\r\n\r\n" not in connection.recv(65536):
                pass
            connection.sendall(sent)
            if then == "wait":
                with suppress(ConnectionError):
                    while connection.recv(65536):
                        pass
            elif then == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def test_a_stall_between_two_pieces_is_noticed():
    failure = failure_of(answer(line("a"), ending="stall"), timeouts=Timeouts(between_chunks=0.1))
    assert (failure.reason, failure.status_code, failure.is_retryable) == (R.ATTEMPT_TIMEOUT, 200, True)
    assert "stood still for 0.1 s (timeouts.between_chunks)" in failure.message


@pytest.mark.parametrize(
    ("timeouts", "seconds"),
    [
        (Timeouts(first_byte=0.05, between_chunks=0.5), (0.0, 0.12, 0.24)),
        (Timeouts(first_byte=0.5, between_chunks=0.1), (0.2, 0.2, 0.2)),
        (Timeouts(first_byte=None, between_chunks=None), (0.1, 0.2, 0.2)),
        (Timeouts(first_byte=0.15, between_chunks=0.15), (0.1, 0.2, 0.3)),
    ],
)
def test_each_phase_has_its_own_clock(timeouts, seconds):
    exchange = timed(answer(line("a"), line("b"), LAST), *seconds)
    assert answer_of(exchange, timeouts=timeouts, pace=1).text == "ab"


def test_the_consumer_of_a_stream_may_take_its_time():
    async def slowly(session: OllamaSession) -> Any:
        stream = session.stream(HELLO, timeouts=SHORT, key=KEY)
        async for _ in stream:
            await asyncio.sleep(0.15)
        return stream.outcome

    with ReplayServer([answer(line("a"), LAST)]) as server:
        assert isinstance(with_session(server, slowly), Answer)


def test_the_time_to_the_first_token_is_that_of_the_first_piece():
    exchange = timed(answer(line(""), line("a"), line("b"), LAST), 0.0, 0.1, 0.2, 0.2)
    time = answer_of(exchange, pace=1).time_to_first_token
    assert time is not None
    assert 0.09 < time < 0.19


# Endings


def test_an_answer_is_complete_with_its_last_line_however_the_connection_ends():
    for ending in ("complete", "cut", "reset", "stall"):
        got = answer_of(answer(line("a"), LAST, ending=ending))
        assert (got.text, got.finish_reason, got.usage) == ("a", FinishReason.STOP, (3, 2))


def test_an_end_without_the_last_line_is_malformed():
    failure = failure_of(answer(line("a"), line("b")))
    assert failure.reason is R.MALFORMED_RESPONSE
    assert failure.is_retryable
    assert 'ended after 2 lines without "done": true' in failure.message


@pytest.mark.parametrize("ending", ["cut", "reset"])
def test_a_connection_that_breaks_inside_the_answer_is_lost(ending):
    assert failure_of(answer(line("a"), ending=ending)).reason is R.CONNECTION_LOST


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Ty"])
def test_a_connection_that_breaks_before_the_answer_is_lost(sent, then):
    with raw_server(sent, then) as url:
        failure = attempt(url)
    assert isinstance(failure, AttemptFailure)
    assert (failure.reason, failure.status_code) == (R.CONNECTION_LOST, None)


def test_a_server_that_was_restarted_is_found_again():
    async def check() -> None:
        port = 0
        session = None
        for _ in range(2):
            with ReplayServer([answer(line("a"), LAST)], port=port) as server:
                port = int(server.url.rpartition(":")[2])
                session = session or OllamaBackend(base_url=server.url, model="m").session()
                assert isinstance(await session.attempt(HELLO, timeouts=Timeouts(), key=KEY), Answer)
        assert session is not None
        await session.aclose()

    asyncio.run(check())


# Nonsense

SECRET = "the model's own words"


@pytest.mark.parametrize(
    "sent",
    [
        b"SSH-2.0 " + SECRET.encode() + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + SECRET.encode() + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + SECRET.encode() + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + SECRET.encode() + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000,
    ],
)
def test_what_is_no_http_is_malformed_and_not_quoted(sent):
    with raw_server(sent) as url:
        failure = attempt(url, timeouts=Timeouts(between_chunks=1.0))
    assert isinstance(failure, AttemptFailure)
    assert (failure.reason, failure.is_retryable) == (R.MALFORMED_RESPONSE, True)
    assert SECRET not in repr(failure)


@pytest.mark.parametrize(
    "chunk", [SECRET.encode(), b'{"response": "%b\xff"}' % SECRET.encode(), b'["%b"]' % SECRET.encode()]
)
def test_what_is_no_line_of_ollama_is_malformed_and_not_quoted(chunk):
    failure = failure_of(answer(line("a"), chunk + b"\n"))
    assert failure.reason is R.MALFORMED_RESPONSE
    assert "line 2 of the answer" in failure.message
    assert SECRET not in repr(failure)


def test_the_content_type_must_be_that_of_ollama():
    for kind in ("application/x-ndjson", "application/json; charset=utf-8", "APPLICATION/JSON", None):
        assert answer_of(answer(LAST, kind=kind)).text == ""
    failure = failure_of(answer(LAST, kind="text/html"))
    assert failure.reason is R.MALFORMED_RESPONSE
    assert "the content type is 'text/html'" in failure.message


def test_an_encoding_that_was_not_asked_for_is_not_unpacked():
    failure = failure_of(answer(LAST, headers=(("Content-Encoding", "gzip"),)))
    assert failure.reason is R.MALFORMED_RESPONSE
    assert "encoded as 'gzip'" in failure.message


def test_an_endless_line_is_refused_and_its_connection_closed(monkeypatch):
    monkeypatch.setattr(ollama_protocol, "LONGEST_LINE", 10_000)
    with ReplayServer([answer(*[b"x" * 1000] * 20, ending="stall")]) as server:
        outcome = attempt(server.url)
        assert isinstance(outcome, AttemptFailure)
        assert outcome.reason is R.MALFORMED_RESPONSE
        assert server.wait_until_closed()


def test_an_attempt_gives_its_pool_back_however_it_ends():
    async def all_of_them(session: OllamaSession) -> int:
        for _ in range(4):
            await session.attempt(HELLO, timeouts=SHORT, key=KEY)
        return session.pools.users

    ends = [answer(LAST), answer(line("a"), ending="cut"), answer(line("a"), ending="stall"), answer(status="503 Busy")]
    with ReplayServer(ends) as server:
        assert with_session(server, all_of_them) == 0


# Refusals


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ((("Retry-After", "7"),), 7.0),
        ((("Date", "Sun, 06 Nov 1994 08:49:07 GMT"), ("Retry-After", "Sun, 06 Nov 1994 08:49:37 GMT")), 30.0),
        ((("Retry-After", "Sun, 06 Nov 1994 08:49:37 GMT"),), 0.0),
        ((("Retry-After", "soon"),), None),
        ((), None),
    ],
)
@pytest.mark.parametrize(
    ("status", "reason"), [("429 Too Many Requests", R.RATE_LIMITED), ("503 Service Unavailable", R.OVERLOADED)]
)
def test_the_wait_that_a_refusal_asks_for_is_kept(status, reason, headers, seconds):
    failure = failure_of(answer(b'{"error":"slow down"}', status=status, headers=headers))
    assert (failure.reason, failure.retry_after) == (reason, seconds)
    assert "slow down" in failure.message


@pytest.mark.parametrize("ending", ["cut", "reset", "stall"])
def test_a_refusal_is_known_by_its_status_even_where_its_text_does_not_arrive(monkeypatch, ending):
    monkeypatch.setattr(http_transport, "ERROR_PATIENCE", 0.1)
    exchange = answer(
        b'{"error":"serv', status="503 Service Unavailable", headers=(("Retry-After", "7"),), ending=ending
    )
    failure = failure_of(exchange)
    assert (failure.reason, failure.status_code, failure.retry_after) == (R.OVERLOADED, 503, 7.0)


def test_a_refusal_of_any_length_is_known_by_its_status():
    failure = failure_of(answer(*[b"x" * 10_000] * 10, status="503 Service Unavailable", ending="stall"))
    assert failure.reason is R.OVERLOADED
    assert "(more than 65536 bytes, not read)" in failure.message


def test_a_redirect_is_not_followed():
    failure = failure_of(answer(status="307 Temporary Redirect", headers=(("Location", "http://127.0.0.1:9/"),)))
    assert (failure.reason, failure.status_code) == (R.INVALID_REQUEST, 307)
    assert "set base_url" in failure.message


# Privacy


def test_no_failure_shows_the_prompt_or_the_answer(caplog):
    caplog.set_level(logging.DEBUG)
    prompt, text = "My name is Ada Lovelace, keep it to yourself", "Certainly, dear Ada Lovelace, I shall"
    request = LLMRequest(prompt=prompt, system=f"System: {prompt}", model="m")
    exchanges = [
        answer(line(text), b'{"error":"cannot go on after: %b"}\n' % text.encode()),
        answer(b'{"detail":[{"input":"%b"}]}' % prompt.encode(), status="422 Unprocessable Entity"),
        answer(prompt.encode(), status="500 Internal Server Error", kind="text/plain"),
        answer(line(text), text.encode()),
        answer(line(text), ending="cut"),
        answer(line(text)),
    ]
    for exchange in exchanges:
        with ReplayServer([exchange]) as server:
            outcome = attempt(server.url, request)
        assert isinstance(outcome, AttemptFailure)
        assert "Ada" not in repr(outcome)
        assert "Ada" not in caplog.text


# Giving up


def test_a_cancelled_attempt_closes_its_connection_at_once():
    async def cancel(session: OllamaSession) -> bool:
        running = asyncio.create_task(session.attempt(HELLO, timeouts=Timeouts(), key=KEY))
        assert await asyncio.to_thread(server.wait_for_requests, 1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert session.pools.users == 0
        return await asyncio.to_thread(server.wait_until_closed)

    for exchange in (answer(line("a"), ending="stall"), timed(answer(line("a"), LAST), 100.0, 100.0)):
        with ReplayServer([exchange], pace=1) as server:
            assert with_session(server, cancel)


@pytest.mark.parametrize("turns", range(4))
def test_an_attempt_that_is_cancelled_as_its_answer_ends_gives_its_connection_back(turns, monkeypatch):
    ends = OllamaStream._end

    async def ends_and_is_cancelled(stream: OllamaStream) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def cancel_in(turns_left: int) -> None:
            if turns_left:
                loop.call_soon(cancel_in, turns_left - 1)
            elif task is not None:
                task.cancel()

        cancel_in(turns + 1)
        await ends(stream)

    async def cancel_and_ask_again(session: OllamaSession) -> int:
        with monkeypatch.context() as patch:
            patch.setattr(OllamaStream, "_end", ends_and_is_cancelled)
            (outcome,) = await asyncio.gather(
                session.attempt(HELLO, timeouts=Timeouts(), key=KEY), return_exceptions=True
            )
            assert isinstance(outcome, asyncio.CancelledError | Answer)
        assert isinstance(await session.attempt(HELLO, timeouts=Timeouts(), key=KEY), Answer)
        return server.connections

    with ReplayServer([answer(LAST)]) as server:
        assert with_session(server, cancel_and_ask_again) == 1


def test_a_stream_hands_over_each_piece_when_it_comes():
    async def pieces(session: OllamaSession) -> Any:
        stream: AttemptStream = session.stream(HELLO, timeouts=Timeouts(), key=KEY)
        loop = asyncio.get_running_loop()
        began = loop.time()
        came = [(piece, loop.time() - began) async for piece in stream]
        return came, stream.outcome

    with ReplayServer([timed(answer(line("a") + line("b"), line("c"), LAST), 0.0, 0.15, 0.15)], pace=1) as server:
        came, outcome = with_session(server, pieces)
    assert [piece for piece, _ in came] == ["a", "b", "c"]
    assert came[1][1] < 0.1 < came[2][1]
    assert outcome.text == "abc"


def test_nothing_is_sent_before_the_first_piece_is_asked_for():
    async def unused(session: OllamaSession) -> None:
        stream = session.stream(HELLO, timeouts=Timeouts(), key=KEY)
        await asyncio.sleep(0.02)
        await stream.aclose()
        assert [piece async for piece in stream] == []

    with ReplayServer([answer(LAST)]) as server:
        with_session(server, unused)
        assert server.connections == 0


def test_a_stream_that_is_closed_early_closes_its_connection_and_can_be_closed_again():
    async def close_early(session: OllamaSession) -> bool:
        stream = session.stream(HELLO, timeouts=Timeouts(), key=KEY)
        assert await anext(aiter(stream)) == "a"
        await stream.aclose()
        await stream.aclose()
        assert not hasattr(stream, "outcome")
        return await asyncio.to_thread(server.wait_until_closed)

    with ReplayServer([answer(line("a"), ending="stall")]) as server:
        assert with_session(server, close_early)


def test_a_stream_may_be_closed_while_another_task_reads_it():
    async def close_under_the_reader(session: OllamaSession) -> bool:
        stream = session.stream(HELLO, timeouts=Timeouts(), key=KEY)
        assert await anext(aiter(stream)) == "a"
        reading = asyncio.create_task(drain(stream))
        await asyncio.sleep(0.02)
        await stream.aclose()
        assert await asyncio.wait_for(reading, 1.0) == []
        return await asyncio.to_thread(server.wait_until_closed)

    async def drain(stream: OllamaStream) -> list[str]:
        return [piece async for piece in stream]

    with ReplayServer([answer(line("a"), ending="stall")]) as server:
        assert with_session(server, close_under_the_reader)


def test_pieces_before_a_failure_are_handed_over():
    async def pieces(session: OllamaSession) -> Any:
        stream = session.stream(HELLO, timeouts=Timeouts(), key=KEY)
        return [piece async for piece in stream], stream.outcome

    with ReplayServer([answer(line("a") + line("b") + b'{"error":"it broke"}\n')]) as server:
        came, outcome = with_session(server, pieces)
    assert came == ["a", "b"]
    assert outcome.reason is R.SERVER_ERROR
    assert "it broke" in outcome.message
