"""What one attempt at an OpenAI-compatible server meets on the wire, and that its key is seen by nobody else."""

import asyncio
import logging
import pickle
import socket
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from llmlab import AsyncClient, Backoff, Client, ClientPolicy, EventLog, OpenAIBackend, RetryPolicy
from llmlab.backends import http_transport, sse
from llmlab.backends.openai_session import OpenAISession
from llmlab.core.backend import Answer, AttemptFailure, Timeouts
from llmlab.core.messages import LLMFailure, LLMRequest
from llmlab.core.vocabulary import FailureReason, FinishReason
from llmlab.server.recording import Chunk, Exchange
from llmlab.server.replay import ReplayServer
from llmlab.virtual_time import run
from tests.openai_replay import DONE, HELLO, KEY, LAST, answer, attempt, chunk, event, refusal, whole

R = FailureReason
SHORT = Timeouts(first_byte=0.1, between_chunks=0.1)


@pytest.fixture(autouse=True)
def _no_key_from_outside(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def failure_of(*exchanges: Exchange, timeouts: Timeouts | None = None, **settings: Any) -> AttemptFailure:
    with ReplayServer(exchanges) as server:
        outcome = attempt(server.url, timeouts=timeouts, **settings)
    assert isinstance(outcome, AttemptFailure), outcome
    return outcome


def answer_of(*exchanges: Exchange, pace: float = 0.0, **settings: Any) -> Answer:
    with ReplayServer(exchanges, pace=pace) as server:
        outcome = attempt(server.url, **settings)
    assert isinstance(outcome, Answer), outcome
    return outcome


def timed(exchange: Exchange, *seconds: float) -> Exchange:
    chunks = (Chunk(one.data, at) for one, at in zip(exchange.chunks, seconds, strict=True))
    return exchange.replace(chunks=tuple(chunks))


def with_session(server: ReplayServer, act: Callable[[OpenAISession], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        session = OpenAIBackend(base_url=f"{server.url}/v1", model="m").session()
        try:
            return await act(session)
        finally:
            await session.aclose()

    return asyncio.run(run())


def client_of(server: ReplayServer) -> Client:
    """Return a client that retries at once."""
    policy = ClientPolicy(retry=RetryPolicy(backoff=Backoff(base=0)))
    return Client(OpenAIBackend(base_url=f"{server.url}/v1", model="m"), policy=policy)


# Answers


def test_a_streamed_answer():
    outcome = answer_of(answer(chunk("", role="assistant"), chunk("a"), chunk("b") + LAST))
    assert outcome._replace(time_to_first_token=None) == Answer("ab", "m", (3, 2), FinishReason.STOP)
    assert outcome.time_to_first_token is not None


def test_the_time_to_the_first_token_is_that_of_the_first_text_or_thought():
    waiting = b": OPENROUTER PROCESSING\n\n" + chunk("", role="assistant")
    exchange = timed(answer(waiting, chunk(None, reasoning="Hm"), chunk("a"), LAST), 0.0, 0.1, 0.2, 0.2)
    time = answer_of(exchange, pace=1).time_to_first_token
    assert time is not None
    assert 0.09 < time < 0.19


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8"])
def test_one_object_is_taken_where_a_stream_was_asked_for(kind):
    body = whole("ab")
    assert answer_of(answer(body[:20], body[20:], kind=kind)) == Answer("ab", "m", (3, 2), FinishReason.STOP)


def test_a_stream_without_a_content_type_shows_by_its_events_what_it_is():
    assert answer_of(answer(chunk("a"), LAST, kind=None)).text == "a"


@pytest.mark.parametrize("kind", ["text/html", "text/plain", "application/x-ndjson"])
def test_another_content_type_is_malformed_and_named(kind):
    failure = failure_of(answer(chunk("a"), LAST, kind=kind))
    assert failure.reason is R.MALFORMED_RESPONSE
    assert f"the content type is '{kind}', not text/event-stream" in failure.message


def test_an_answer_is_complete_with_its_end_marker_however_the_connection_ends():
    for ending in ("complete", "cut", "reset", "stall"):
        assert answer_of(answer(chunk("a"), LAST, ending=ending)).text == "a"


# Failures


def test_no_server_says_what_was_tried_and_what_to_do():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    outcome = attempt(f"http://127.0.0.1:{port}")
    assert isinstance(outcome, AttemptFailure)
    assert (outcome.reason, outcome.is_retryable) == (R.CONNECTION_FAILED, True)
    assert outcome.message == (
        f"no server at http://127.0.0.1:{port}/v1 (connection refused); start it, or set base_url or OPENAI_BASE_URL "
        "to where one is"
    )


def test_a_server_that_sends_nothing_breaks_the_first_byte():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        outcome = attempt(f"http://127.0.0.1:{silent.getsockname()[1]}", timeouts=SHORT)
    assert isinstance(outcome, AttemptFailure)
    assert (outcome.reason, outcome.status_code) == (R.ATTEMPT_TIMEOUT, None)
    assert "no first byte within 0.1 s (timeouts.first_byte)" in outcome.message


def test_a_stall_between_two_pieces_is_noticed():
    failure = failure_of(answer(chunk("a"), ending="stall"), timeouts=SHORT)
    assert (failure.reason, failure.status_code) == (R.ATTEMPT_TIMEOUT, 200)
    assert "stood still for 0.1 s (timeouts.between_chunks)" in failure.message


@pytest.mark.parametrize(
    ("exchange", "reason", "words"),
    [
        (answer(chunk("a")), R.MALFORMED_RESPONSE, "ended after 1 event without [DONE]"),
        (answer(chunk("a"), chunk(finish="stop")), R.MALFORMED_RESPONSE, "set strict_end=False"),
        (answer(chunk("a"), DONE), R.MALFORMED_RESPONSE, "without a finish_reason"),
        (answer(chunk("a"), b"data: {\n\n"), R.MALFORMED_RESPONSE, "event 2 of the answer is not JSON"),
        (answer(chunk("a"), ending="cut"), R.CONNECTION_LOST, "broke before the answer was complete"),
        (answer(chunk("a"), ending="reset"), R.CONNECTION_LOST, "broke before the answer was complete"),
        (answer(chunk("a"), event({"error": {"message": "it broke"}})), R.SERVER_ERROR, "in its answer: it broke"),
        (answer(b'{"error":{"message":"it broke"}}', kind="application/json"), R.SERVER_ERROR, "it broke"),
        (answer(b'{"error":{"code":429}}', kind="application/json"), R.RATE_LIMITED, "in its answer; send fewer"),
        (answer(LAST, headers=(("Content-Encoding", "gzip"),)), R.MALFORMED_RESPONSE, "encoded as 'gzip'"),
        (
            refusal("307 Temporary Redirect", headers=(("Location", "http://127.0.0.1:9/"),)),
            R.INVALID_REQUEST,
            "set base_url",
        ),
        (refusal("401 Unauthorized", {"error": {}}), R.NOT_AUTHORISED, "check the key in OPENAI_API_KEY"),
    ],
)
def test_what_goes_wrong_has_its_reason(exchange, reason, words):
    failure = failure_of(exchange)
    assert failure.reason is reason
    assert words in failure.message


def test_the_wait_that_a_refusal_asks_for_is_kept():
    failure = failure_of(refusal("429 Too Many Requests", {}, (("x-ratelimit-reset-requests", "6m0s"),)))
    assert (failure.reason, failure.retry_after) == (R.RATE_LIMITED, 360.0)
    failure = failure_of(refusal("429 Too Many Requests", {}, (("retry-after-ms", "20"), ("x-should-retry", "false"))))
    assert (failure.retry_after, failure.is_retryable) == (0.02, False)


@pytest.mark.parametrize("ending", ["cut", "reset", "stall"])
def test_a_refusal_is_known_by_its_status_even_where_its_text_does_not_arrive(monkeypatch, ending):
    monkeypatch.setattr(http_transport, "ERROR_PATIENCE", 0.1)
    exchange = refusal("503 Service Unavailable", b'{"error":', (("Retry-After", "7"),)).replace(ending=ending)
    failure = failure_of(exchange)
    assert (failure.reason, failure.status_code, failure.retry_after) == (R.OVERLOADED, 503, 7.0)


def test_an_endless_event_is_refused_and_its_connection_closed(monkeypatch):
    monkeypatch.setattr(sse, "LONGEST_LINE", 10_000)
    with ReplayServer([answer(*[b"x" * 1000] * 20, ending="stall")]) as server:
        outcome = attempt(server.url)
        assert isinstance(outcome, AttemptFailure)
        assert outcome.reason is R.MALFORMED_RESPONSE
        assert server.wait_until_closed()


def test_a_filtered_answer_is_a_refusal_of_the_call():
    exchange = answer(chunk(None), chunk(finish="content_filter"), DONE)
    with ReplayServer([exchange]) as server, client_of(server) as client:
        result = client.generate("Hello")
    assert isinstance(result, LLMFailure)
    assert (result.reason, result.retryable, result.attempts) == (R.REFUSED, False, 1)


# Time, as the event loop has it

PATIENT = Timeouts(first_byte=5.0, between_chunks=2.0)


class Pieces(httpx.AsyncByteStream):
    """A body whose pieces come at these times, in seconds from its beginning."""

    def __init__(self, *pieces: tuple[float, bytes]) -> None:
        self._pieces = pieces
        self.is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        began = asyncio.get_running_loop().time()
        for at, piece in self._pieces:
            await asyncio.sleep(began + at - asyncio.get_running_loop().time())
            yield piece

    async def aclose(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize(
    ("pieces", "reason", "ended"),
    [
        (Pieces((4.5, chunk("a")), (6.0, LAST)), None, 6.0),
        (Pieces((5.5, chunk("a")), (6.0, LAST)), R.ATTEMPT_TIMEOUT, 5.0),
        (Pieces((1.0, chunk("a")), (3.5, LAST)), R.ATTEMPT_TIMEOUT, 3.0),
        (Pieces((1.0, b": keep-alive\n\n"), (2.5, b": keep-alive\n\n"), (4.0, chunk("a") + LAST)), None, 4.0),
        (Pieces((1.0, b": keep-alive\n\n"), (3.5, chunk("a") + LAST)), R.ATTEMPT_TIMEOUT, 3.0),
        (Pieces((1.0, chunk("a") + LAST), (90.0, b"late")), None, 1.5),
    ],
)
def test_each_phase_ends_when_its_time_is_over_and_closes_the_body(pieces, reason, ended):
    kind = {"content-type": "text/event-stream"}

    async def talk() -> tuple[Any, float]:
        transport = httpx.MockTransport(lambda request: httpx.Response(200, headers=kind, stream=pieces))
        async with httpx.AsyncClient(transport=transport) as http_client:
            backend = OpenAIBackend(base_url="http://simulated/v1", model="m", http_client=http_client)
            outcome = await backend.attempt(HELLO, timeouts=PATIENT, key=KEY)
            return outcome, asyncio.get_running_loop().time()

    outcome, now = run(talk())
    assert getattr(outcome, "reason", None) == reason
    assert now == ended
    assert pieces.is_closed


# Giving up


def test_a_cancelled_attempt_closes_its_connection_at_once():
    async def cancel(session: OpenAISession) -> bool:
        running = asyncio.create_task(session.attempt(HELLO, timeouts=Timeouts(), key=KEY))
        assert await asyncio.to_thread(server.wait_for_requests, 1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert session.pools.users == 0
        return await asyncio.to_thread(server.wait_until_closed)

    for exchange in (answer(chunk("a"), ending="stall"), timed(answer(chunk("a"), LAST), 100.0, 100.0)):
        with ReplayServer([exchange], pace=1) as server:
            assert with_session(server, cancel)


def test_a_stream_that_is_closed_early_closes_its_connection():
    async def close_early(session: OpenAISession) -> bool:
        stream = session.stream(HELLO, timeouts=Timeouts(), key=KEY)
        assert [await anext(aiter(stream)), await anext(aiter(stream))] == ["a", "b"]
        await stream.aclose()
        await stream.aclose()
        assert not hasattr(stream, "outcome")
        return await asyncio.to_thread(server.wait_until_closed)

    with ReplayServer([answer(chunk("a") + chunk("b"), ending="stall")]) as server:
        assert with_session(server, close_early)


def test_a_client_hands_over_the_text_as_it_is_written():
    exchange = answer(chunk("a"), chunk("b"), LAST)
    with ReplayServer([exchange]) as server, client_of(server) as client, client.stream("Hello") as stream:
        assert list(stream) == ["a", "b"]
        assert stream.result.unwrap().text == "ab"


def test_each_attempt_of_a_call_says_which_it_is():
    busy = refusal("503 Service Unavailable", {})
    with ReplayServer([busy, busy, answer(chunk("a"), LAST)]) as server, client_of(server) as client:
        assert client.generate("Hello").ok
        assert [request.headers["x-llmlab-attempt"] for request in server.received] == ["0.1", "0.2", "0.3"]


# The key

CANARY = "sk-canary-5e1f0c9ab7d24f63"
PROMPT = "My name is Ada Lovelace, keep it to yourself"


def shown(value: Any) -> str:
    """Return everything that printing, logging or storing a result could show."""
    cause = getattr(value, "cause", None)
    texts = [repr(value), str(value)]
    inner: BaseException | None = cause
    while inner is not None:
        texts += [repr(inner), repr(vars(inner)), *traceback.format_exception(inner)]
        request = getattr(inner, "_request", None)
        texts += [repr(request.headers.raw), repr(request.content)] if request is not None else []
        inner = inner.__cause__ or inner.__context__
    if cause is not None:
        texts.append(repr(pickle.dumps(vars(cause))))
    return "\n".join(texts)


ECHO = f"you sent Authorization: Bearer {CANARY}"
MEETINGS = [
    answer(chunk("a"), LAST),
    answer(chunk("a"), ending="cut"),
    answer(chunk("a"), ending="reset"),
    answer(ending="cut"),
    answer(chunk("a"), ending="stall"),
    answer(chunk("a"), event({"error": {"message": ECHO}})),
    answer(CANARY.encode(), kind="text/html"),
    answer(b"data: " + CANARY.encode() + b"\n\n"),
    refusal("401 Unauthorized", {"error": {"message": f"Incorrect API key provided: {CANARY}"}}),
    refusal("400 Bad Request", {"error": {"message": ECHO}}),
    refusal("500 Internal Server Error", ECHO.encode()),
    refusal("307 Temporary Redirect", headers=(("Location", "http://127.0.0.1:9/"),)),
    refusal("422 Unprocessable Entity", {"detail": [{"loc": ["body"], "msg": "bad", "input": PROMPT}]}),
]


@pytest.mark.parametrize("exchange", MEETINGS)
def test_neither_key_nor_prompt_is_shown_by_anything(monkeypatch, caplog, exchange):
    caplog.set_level(logging.DEBUG)  # of httpx and httpcore too, which say what they do
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    log = EventLog()

    async def talk(url: str) -> list[Any]:
        backend = OpenAIBackend(base_url=f"{url}/v1", model="m")
        session = backend.session()
        request = LLMRequest(prompt=PROMPT)
        assert "authorization" in session.target.headers()
        outcome = await session.attempt(request, timeouts=SHORT, key=KEY)
        policy = ClientPolicy(timeouts=SHORT, retry=RetryPolicy(max_retries=0))
        async with AsyncClient(backend, policy=policy, observers=[log]) as client:
            result = await client.generate(request)
        return [
            backend,
            session,
            session.target,
            session.target.headers(),
            session.pools,
            outcome,
            result,
            client,
            backend.model_dump_json(),
        ]

    with ReplayServer([exchange]) as server:
        values = asyncio.run(talk(server.url))
        assert {request.headers["authorization"] for request in server.received} == {f"Bearer {CANARY}"}
    assert (len(log.attempts), len(log.calls)) == (1, 1)
    seen = "\n".join([*map(shown, values), caplog.text, *map(repr, log.attempts), *map(repr, log.calls)])
    assert "send_request_headers" in caplog.text, "the libraries below did log"
    assert CANARY not in seen
    assert CANARY[9:] not in seen
    assert "Ada" not in seen


def test_a_crash_on_the_way_does_not_show_the_key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)

    def broken(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route", request=request)

    async def talk() -> Any:
        async with httpx.AsyncClient(transport=httpx.MockTransport(broken)) as http_client:
            backend = OpenAIBackend(base_url="https://far.example.test/v1", model="m", http_client=http_client)
            return await backend.attempt(HELLO, timeouts=Timeouts(), key=KEY)

    failure = asyncio.run(talk())
    assert failure.reason is R.CONNECTION_FAILED
    assert CANARY not in shown(failure)
