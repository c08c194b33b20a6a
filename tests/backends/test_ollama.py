import asyncio
import copy
import gc
import json
import pickle
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from llmlab.backends.ollama import OllamaBackend
from llmlab.backends.ollama_session import OllamaSession
from llmlab.core.backend import (
    ATTEMPT_HEADER,
    Answer,
    AttemptFailure,
    Backend,
    Outcome,
    SessionBackend,
    StreamingBackend,
    Timeouts,
)
from llmlab.core.messages import LLMRequest, Message
from llmlab.core.settings import SettingsError
from llmlab.core.vocabulary import FailureReason
from llmlab.llms import LocalLLM
from llmlab.server.recording import Exchange
from llmlab.server.replay import ReplayServer
from tests.ollama_replay import HELLO, KEY, LAST, answer, attempt, line, recorded, tags

R = FailureReason


def on_a_loop(backend: OllamaBackend, act: Callable[[OllamaSession], Awaitable[Any]]) -> Any:
    """Do something with a session on an event loop of its own, and close the session."""

    async def run() -> Any:
        session = backend.session()
        try:
            return await act(session)
        finally:
            await session.aclose()

    return asyncio.run(run())


def outcome_of(
    *exchanges: Exchange, timeouts: Timeouts | None = None, request: LLMRequest = HELLO, **settings
) -> Outcome:
    with ReplayServer(exchanges) as server:
        return attempt(server.url, request, timeouts=timeouts, **settings)


def failure_of(*exchanges: Exchange, timeouts: Timeouts | None = None, **settings) -> AttemptFailure:
    outcome = outcome_of(*exchanges, timeouts=timeouts, **settings)
    assert isinstance(outcome, AttemptFailure)
    return outcome


# Settings


def test_the_backend_keeps_the_protocols_of_the_core():
    backend: Backend = OllamaBackend()
    assert isinstance(backend, SessionBackend)
    assert isinstance(backend, StreamingBackend)
    assert (OllamaBackend.name, OllamaBackend.simulated) == ("ollama", False)


def test_it_is_a_value_that_serialises_without_its_connections():
    client = httpx.AsyncClient()
    backend = OllamaBackend(base_url="myhost", options={"num_ctx": 8192}, keep_alive="10m", http_client=client)
    written = backend.model_dump_json()
    assert json.loads(written) == {
        "kind": "ollama",
        "base_url": "myhost",
        "model": None,
        "options": {"num_ctx": 8192},
        "keep_alive": "10m",
        "endpoint": "auto",
    }
    assert OllamaBackend.model_validate_json(written) == backend.replace(http_client=None)
    assert "AsyncClient" not in repr(backend)


def test_copies_are_equal_and_share_no_session():
    async def check() -> None:
        backend = OllamaBackend(model="m")
        session = backend.session()
        for made in (copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one)), OllamaBackend.model_copy):
            other = made(backend)
            assert other == backend
            assert other.session() is not session

    asyncio.run(check())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"base_url": "myhost:99999"}, "base_url must be an address like"),
        ({"base_url": "http://me:secret@myhost"}, "pass http_client="),
        ({"model": ""}, "model"),
        ({"endpoint": "complete"}, "endpoint must be one of 'auto', 'generate' or 'chat'"),
        ({"keep_alive": "soon"}, "keep_alive must be seconds or a text like '10m'"),
        ({"keep_alive": "300"}, "keep_alive must be seconds or a text like '10m'"),
        ({"keep_alive": float("nan")}, "keep_alive"),
        ({"options": {"x": float("nan")}}, "options must be what JSON can hold"),
        ({"options": {"x": object()}}, "options must be what JSON can hold"),
        ({"http_client": 5}, "http_client"),
        ({"url": "x"}, "OllamaBackend has no setting 'url'; "),
    ],
)
def test_wrong_settings_are_refused(settings, words):
    with pytest.raises(SettingsError) as caught:
        OllamaBackend(**settings)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("keep_alive", [0, -1, 300, 1.5, "0", "-1s", "5m", "1h30m", "1.5h", "100ms"])
def test_keep_alive_is_sent_as_it_is_given(keep_alive):
    with ReplayServer([answer(LAST)]) as server:
        attempt(server.url, keep_alive=keep_alive)
        assert server.received[0].json()["keep_alive"] == keep_alive


def test_ollama_host_names_the_server_when_the_session_begins(monkeypatch):
    async def address(**settings: Any) -> str:
        return OllamaBackend(**settings).session().target.base_url

    monkeypatch.delenv("OLLAMA_HOST", raising=False)
    assert asyncio.run(address()) == "http://127.0.0.1:11434"
    monkeypatch.setenv("OLLAMA_HOST", "0.0.0.0:8080")
    assert asyncio.run(address()) == "http://127.0.0.1:8080"
    assert asyncio.run(address(base_url="myhost")) == "http://myhost:11434"
    monkeypatch.setenv("OLLAMA_HOST", "myhost:port")
    with pytest.raises(SettingsError, match="OLLAMA_HOST must be an address"):
        asyncio.run(address())


# Sessions


def test_a_loop_has_one_session_and_another_loop_another():
    backend = OllamaBackend()

    async def session() -> OllamaSession:
        assert backend.session() is backend.session()
        return backend.session()

    assert asyncio.run(session()) is not asyncio.run(session())


def test_a_session_can_be_used_again_after_it_was_closed():
    async def twice(session: OllamaSession) -> list[Outcome]:
        first = await session.attempt(HELLO, timeouts=Timeouts(), key=KEY)
        await session.aclose()
        return [first, await session.attempt(HELLO, timeouts=Timeouts(), key=KEY)]

    with ReplayServer([answer(line("a"), LAST)]) as server:
        outcomes = on_a_loop(OllamaBackend(base_url=server.url, model="m"), twice)
    assert [outcome.text for outcome in outcomes] == ["a", "a"]


def test_a_complete_answer_leaves_its_connection_to_the_next_attempt():
    async def thrice(session: OllamaSession) -> int:
        for _ in range(3):
            await session.attempt(HELLO, timeouts=Timeouts(), key=KEY)
        return server.connections

    with ReplayServer([answer(line("a"), LAST), *recorded("generate_missing_model")]) as server:
        assert on_a_loop(OllamaBackend(base_url=server.url, model="m"), thrice) == 1
        assert on_a_loop(OllamaBackend(base_url=server.url, model="nosuch"), thrice) == 2


def test_a_session_that_is_dropped_closes_its_connections():
    async def drop() -> bool:
        backend = OllamaBackend(base_url=server.url, model="m")
        await backend.attempt(HELLO, timeouts=Timeouts(), key=KEY)
        assert server.open_connections == 1
        del backend
        gc.collect()
        return await asyncio.to_thread(server.wait_until_closed)

    with ReplayServer([answer(LAST)]) as server:
        assert asyncio.run(drop())


def test_many_calls_at_once_meet_no_limit_of_the_pool():
    async def many(session: OllamaSession) -> list[Outcome]:
        attempts = (session.attempt(HELLO, timeouts=Timeouts(pool=0.01), key=KEY) for _ in range(200))
        return await asyncio.gather(*attempts)

    with ReplayServer([answer(line("a"), LAST)]) as server:
        outcomes = on_a_loop(OllamaBackend(base_url=server.url, model="m"), many)
    assert {type(outcome) for outcome in outcomes} == {Answer}


def test_a_client_that_was_passed_in_is_used_and_never_closed():
    async def check() -> None:
        async with httpx.AsyncClient(headers={"x-mine": "1"}) as client:
            session = OllamaBackend(base_url=server.url, model="m", http_client=client).session()
            assert isinstance(await session.attempt(HELLO, timeouts=Timeouts(), key=KEY), Answer)
            await session.aclose()
            assert not client.is_closed

    with ReplayServer([answer(LAST)]) as server:
        asyncio.run(check())
        assert server.received[0].headers["x-mine"] == "1"


def test_the_pool_of_a_client_that_was_passed_in_may_be_full():
    async def check() -> Outcome:
        limits = httpx.Limits(max_connections=1)
        async with httpx.AsyncClient(limits=limits) as client:
            session = OllamaBackend(base_url=server.url, model="m", http_client=client).session()
            holder = session.stream(HELLO, timeouts=Timeouts(), key=KEY)
            await anext(aiter(holder))
            outcome = await session.attempt(HELLO, timeouts=Timeouts(pool=0.05), key=KEY)
            await holder.aclose()
            return outcome

    with ReplayServer([answer(line("a"), ending="stall")]) as server:
        failure = asyncio.run(check())
    assert isinstance(failure, AttemptFailure)
    assert failure.reason is R.ATTEMPT_TIMEOUT
    assert "0.05 s (timeouts.pool)" in failure.message


def test_a_proxy_from_the_environment_is_ignored_for_this_machine_only(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert isinstance(outcome_of(answer(LAST)), Answer)
    failure = attempt("http://far.example.test:11434")
    assert isinstance(failure, AttemptFailure)
    assert failure.reason is R.CONNECTION_FAILED


# What is sent


def test_the_endpoint_follows_the_request_or_the_setting():
    messages = LLMRequest(messages=(Message(role="user", content="Hi"),))
    with ReplayServer([answer(LAST), answer(LAST, path="/api/chat")]) as server:
        attempt(server.url, HELLO)
        attempt(server.url, messages)
        attempt(server.url, HELLO, endpoint="chat")
        assert [request.path for request in server.received] == ["/api/generate", "/api/chat", "/api/chat"]
        failure = attempt(server.url, messages, endpoint="generate")
        assert isinstance(failure, AttemptFailure)
        assert failure.reason is R.INVALID_REQUEST
        assert "endpoint='auto'" in failure.message
        assert len(server.received) == 3


def test_a_path_in_the_base_url_stands_before_the_endpoint():
    with ReplayServer([answer(LAST, path="/some/prefix/api/generate")]) as server:
        assert isinstance(attempt(f"{server.url}/some/prefix/"), Answer)


def test_the_headers_ask_for_an_uncompressed_answer():
    with ReplayServer([answer(LAST)]) as server:
        attempt(server.url)
        headers = server.received[0].headers
    assert headers["accept-encoding"] == "identity"
    assert headers["content-type"] == "application/json"


def test_every_attempt_says_which_call_and_attempt_it_is():
    busy = answer(b'{"error":"server busy"}', status="503 Service Unavailable", headers=(("Retry-After", "0"),))
    with ReplayServer([busy, answer(line("a"), LAST)]) as server, LocalLLM(base_url=server.url, model="m") as llm:
        assert [llm.generate(HELLO).attempts for _ in range(2)] == [2, 2]
        sent = [request.headers[ATTEMPT_HEADER] for request in server.received]
    assert sent == ["0.1", "0.2", "1.1", "1.2"]


# Which model


def models_asked(server: ReplayServer) -> list[str]:
    return [request.json()["model"] for request in server.received if request.method == "POST"]


def test_the_requests_model_wins_over_the_backends():
    with ReplayServer([answer(LAST)]) as server:
        attempt(server.url, LLMRequest(prompt="Hello", model="mine"), model="default")
        attempt(server.url, HELLO, model="default")
        assert models_asked(server) == ["mine", "default"]


def test_without_a_model_the_first_installed_one_is_looked_up_once_for_all():
    async def many(session: OllamaSession) -> list[Outcome]:
        at_once = await asyncio.gather(*(session.attempt(HELLO, timeouts=Timeouts(), key=KEY) for _ in range(20)))
        return [*at_once, await session.attempt(HELLO, timeouts=Timeouts(), key=KEY)]

    with ReplayServer([tags("first", "second"), answer(LAST)]) as server:
        outcomes = on_a_loop(OllamaBackend(base_url=server.url), many)
        assert {type(outcome) for outcome in outcomes} == {Answer}
        assert models_asked(server) == ["first"] * 21
        assert len(server.received) == 22


def test_no_model_installed_says_how_to_get_one():
    failure = failure_of(tags(), answer(LAST), model=None)
    assert failure.reason is R.MODEL_NOT_FOUND
    assert "`ollama pull " in failure.message
    assert not failure.is_retryable


def test_a_chosen_model_that_has_gone_is_looked_up_again():
    async def twice(session: OllamaSession) -> list[Outcome]:
        return [await session.attempt(HELLO, timeouts=Timeouts(), key=KEY) for _ in range(2)]

    gone = recorded("generate_missing_model")
    with ReplayServer([tags("nosuch"), tags("new"), tags("new"), *gone, answer(LAST)]) as server:
        first, second = on_a_loop(OllamaBackend(base_url=server.url), twice)
    assert first.reason is R.MODEL_NOT_FOUND
    assert "installed: new" in first.message
    assert isinstance(second, Answer)


@pytest.mark.parametrize(
    ("listing", "reason"),
    [
        (answer(b"nonsense", path="/api/tags", method="GET"), R.MALFORMED_RESPONSE),
        (answer(b"{}", status="503 Service Unavailable", path="/api/tags", method="GET"), R.OVERLOADED),
        (answer(b'{"models', path="/api/tags", method="GET", ending="cut"), R.CONNECTION_LOST),
        (answer(b'{"models', path="/api/tags", method="GET", ending="stall"), R.ATTEMPT_TIMEOUT),
    ],
)
def test_a_look_up_that_fails_fails_the_attempt(listing, reason):
    timeouts = Timeouts(between_chunks=0.1)
    assert failure_of(listing, answer(LAST), model=None, timeouts=timeouts).reason is reason


def test_to_cancel_one_of_those_who_wait_for_the_look_up_leaves_it_to_the_others():
    async def check(session: OllamaSession) -> Outcome:
        waiting = [asyncio.create_task(session.attempt(HELLO, timeouts=Timeouts(), key=KEY)) for _ in range(2)]
        assert await asyncio.to_thread(server.wait_for_requests, 1)
        waiting[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting[0]
        return await waiting[1]

    with ReplayServer([tags("first").replace(chunks=late(tags("first"), 0.1)), answer(LAST)], pace=1) as server:
        assert isinstance(on_a_loop(OllamaBackend(base_url=server.url), check), Answer)
        assert [request.path for request in server.received] == ["/api/tags", "/api/generate"]


def test_a_look_up_that_nobody_waits_for_is_given_up():
    async def check(session: OllamaSession) -> None:
        waiting = asyncio.create_task(session.attempt(HELLO, timeouts=Timeouts(), key=KEY))
        assert await asyncio.to_thread(server.wait_for_requests, 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await asyncio.to_thread(server.wait_until_closed)
        for _ in range(5):  # who closes the connection ends a few turns of the loop after the server has seen it closed
            await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1
        assert session.pools.users == 0

    with ReplayServer([answer(b"{", path="/api/tags", method="GET", ending="stall")]) as server:
        on_a_loop(OllamaBackend(base_url=server.url), check)


def test_who_comes_right_after_a_look_up_was_given_up_gets_a_new_one():
    async def check(session: OllamaSession) -> Outcome:
        waiting = asyncio.create_task(session.attempt(HELLO, timeouts=Timeouts(), key=KEY))
        assert await asyncio.to_thread(server.wait_for_requests, 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return await session.attempt(HELLO, timeouts=Timeouts(), key=KEY)

    with ReplayServer([tags("first").replace(chunks=late(tags("first"), 0.1)), answer(LAST)], pace=1) as server:
        assert isinstance(on_a_loop(OllamaBackend(base_url=server.url), check), Answer)


def late(exchange: Exchange, *seconds: float):
    return tuple(chunk.__class__(chunk.data, at) for chunk, at in zip(exchange.chunks, seconds, strict=True))
