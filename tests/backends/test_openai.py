import asyncio
import copy
import json
import pickle
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from llmlab.backends.kinds import as_backend
from llmlab.backends.openai import OpenAIBackend
from llmlab.backends.openai_session import OpenAISession
from llmlab.core.backend import (
    Answer,
    AttemptFailure,
    AttemptKey,
    Backend,
    Outcome,
    SessionBackend,
    StreamingBackend,
    Timeouts,
    session_of,
)
from llmlab.core.messages import LLMRequest
from llmlab.core.settings import SettingsError
from llmlab.core.vocabulary import FailureReason
from llmlab.server.replay import ReplayServer
from tests.openai_replay import HELLO, KEY, LAST, answer, attempt, chunk, models, refusal

R = FailureReason


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def on_a_loop(backend: OpenAIBackend, act: Callable[[OpenAISession], Awaitable[Any]]) -> Any:
    """Do something with a session on an event loop of its own, and close the session."""

    async def run() -> Any:
        session = backend.session()
        try:
            return await act(session)
        finally:
            await session.aclose()

    return asyncio.run(run())


def target_of(**settings: Any) -> Any:
    async def target() -> Any:
        return OpenAIBackend(**settings).session().target

    return asyncio.run(target())


# Settings


def test_the_backend_keeps_the_protocols_of_the_core():
    backend: Backend = OpenAIBackend()
    assert isinstance(backend, SessionBackend)
    assert isinstance(backend, StreamingBackend)
    assert (OpenAIBackend.name, OpenAIBackend.simulated) == ("openai", False)


def test_it_is_a_value_that_serialises_without_its_connections():
    backend = OpenAIBackend(
        base_url="http://127.0.0.1:8000/v1", options={"top_p": 0.9}, http_client=httpx.AsyncClient()
    )
    written = backend.model_dump_json()
    assert json.loads(written) == {
        "kind": "openai",
        "base_url": "http://127.0.0.1:8000/v1",
        "model": None,
        "api_key_env": "OPENAI_API_KEY",
        "allow_plain_http": False,
        "organization": None,
        "options": {"top_p": 0.9},
        "max_tokens_field": "auto",
        "include_usage": True,
        "strict_end": True,
        "strict_schema": False,
    }
    assert OpenAIBackend.model_validate_json(written) == backend.replace(http_client=None)
    assert as_backend(json.loads(written)) == backend.replace(http_client=None)
    assert "AsyncClient" not in repr(backend)


def test_copies_are_equal_and_share_no_session():
    async def check() -> None:
        backend = OpenAIBackend(model="m")
        session = backend.session()
        assert backend.session() is session
        for made in (copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one)), OpenAIBackend.model_copy):
            other = made(backend)
            assert other == backend
            assert other.session() is not session

    asyncio.run(check())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"base_url": "myhost:99999"}, "base_url must be an address like"),
        ({"base_url": "https://me:secret@myhost"}, "pass http_client="),
        ({"base_url": "https://myhost/v1/chat/completions"}, "base_url must be what stands before /chat/completions"),
        ({"model": ""}, "model"),
        ({"api_key_env": "sk-secret"}, "api_key_env must be the name of an environment variable"),
        ({"api_key_env": "gsk_secret"}, "api_key_env must be the name of an environment variable"),
        ({"api_key_env": ""}, "api_key_env must be the name of an environment variable"),
        ({"api_key": "sk-secret"}, "OpenAIBackend has no setting 'api_key'; did you mean 'api_key_env'?"),
        ({"organization": "a\r\nb: c"}, "organization must be of visible ASCII characters"),
        ({"max_tokens_field": "tokens"}, "max_tokens_field must be one of 'auto', 'max_tokens'"),
        ({"options": {"x": float("nan")}}, "options must be what JSON can hold"),
        ({"options": {"stream": False}}, "options must not hold 'stream'"),
        ({"options": {"messages": []}}, "options must not hold 'messages'"),
        ({"http_client": 5}, "http_client"),
        ({"url": "x"}, "OpenAIBackend has no setting 'url'; "),
    ],
)
def test_wrong_settings_are_refused(settings, words):
    with pytest.raises(SettingsError) as caught:
        OpenAIBackend(**settings)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_environment_names_the_server_when_the_session_begins(monkeypatch):
    assert target_of().base_url == "https://api.openai.com/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1/")
    assert target_of().base_url == "http://127.0.0.1:8000/v1"
    assert target_of(base_url="localhost:8080/v1").base_url == "http://localhost:8080/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", " ")
    assert target_of().base_url == "https://api.openai.com/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "myhost:port")
    with pytest.raises(SettingsError, match="OPENAI_BASE_URL must be an address"):
        target_of()


def test_max_tokens_is_called_as_the_server_knows_it():
    assert target_of().max_tokens_field == "max_completion_tokens"
    assert target_of(base_url="https://myhost/v1").max_tokens_field == "max_tokens"
    assert target_of(max_tokens_field="max_tokens").max_tokens_field == "max_tokens"


# The key


def headers_of(server: ReplayServer) -> dict[str, str]:
    return server.received[-1].headers


def test_the_key_is_read_from_the_environment_when_the_session_begins(monkeypatch):
    with ReplayServer([answer(chunk("a"), LAST)]) as server:
        attempt(server.url)
        assert "authorization" not in headers_of(server)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-one \n")
        attempt(server.url)
        assert headers_of(server)["authorization"] == "Bearer sk-one"
        monkeypatch.setenv("MY_KEY", "sk-two")
        attempt(server.url, api_key_env="MY_KEY", organization="org-1")
        assert headers_of(server)["authorization"] == "Bearer sk-two"
        assert headers_of(server)["openai-organization"] == "org-1"
        attempt(server.url, api_key_env=None)
        assert "authorization" not in headers_of(server)


@pytest.mark.parametrize("key", ["sk-a b", "sk-ä", "sk-a\r\nx: y", "sk-\x00"])
def test_a_key_that_no_header_can_hold_is_refused_without_showing_it(monkeypatch, key):
    monkeypatch.setattr("os.environ", {"OPENAI_API_KEY": key})
    with pytest.raises(SettingsError, match="OPENAI_API_KEY must hold a key of visible ASCII characters") as caught:
        target_of()
    assert "sk-" not in str(caught.value)


def test_a_key_does_not_go_unencrypted_to_another_machine(monkeypatch):
    far = "http://far.example.test:8000/v1"
    assert target_of(base_url=far).key is None
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with pytest.raises(
        SettingsError, match=r"OPENAI_API_KEY would go unencrypted to http://far.* set allow_plain_http"
    ) as caught:
        target_of(base_url=far)
    assert "sk-secret" not in str(caught.value)
    assert target_of(base_url=far, allow_plain_http=True).key is not None
    assert target_of(base_url=far, api_key_env=None).key is None
    assert target_of(base_url="https://far.example.test/v1").key is not None
    assert target_of(base_url="http://127.0.0.1.example.test/v1", allow_plain_http=True).key is not None
    with pytest.raises(SettingsError):
        target_of(base_url="http://127.0.0.1.example.test/v1")


# What is sent


def test_what_is_sent_where():
    with ReplayServer([answer(chunk("a"), LAST)]) as server:
        attempt(server.url, options={"top_p": 0.5})
        (request,) = server.received
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-llmlab-attempt"] == "0.1"
    assert request.json() == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "top_p": 0.5,
    }


def test_a_server_that_refuses_stream_options_is_not_sent_them_again():
    async def thrice(session: OpenAISession) -> list[Outcome]:
        return [await session.attempt(HELLO, timeouts=Timeouts(), key=KEY) for _ in range(3)]

    no_usage = refusal("422 Unprocessable Entity", {"detail": [{"loc": ["body", "stream_options"], "msg": "Extra"}]})
    with ReplayServer([no_usage, answer(chunk("a"), LAST)]) as server:
        first, second, third = on_a_loop(OpenAIBackend(base_url=f"{server.url}/v1", model="m"), thrice)
        asked = ["stream_options" in request.json() for request in server.received]
    assert (first.reason, first.is_retryable) == (R.INVALID_REQUEST, True)
    assert "set include_usage=False" in first.message
    assert isinstance(second, Answer)
    assert (third.reason, third.is_retryable) == (R.INVALID_REQUEST, False), "it says the same to another request"
    assert asked == [True, False, False]


def test_token_counts_need_not_be_asked_for():
    with ReplayServer([answer(chunk("a"), LAST)]) as server:
        attempt(server.url, include_usage=False)
        assert "stream_options" not in server.received[0].json()


# Which model


def models_asked(server: ReplayServer) -> list[str]:
    return [request.json()["model"] for request in server.received if request.method == "POST"]


def test_the_requests_model_wins_over_the_backends():
    with ReplayServer([answer(chunk("a"), LAST)]) as server:
        attempt(server.url, LLMRequest(prompt="Hello", model="mine"), model="default")
        attempt(server.url, HELLO, model="default")
        assert models_asked(server) == ["mine", "default"]


def test_the_only_model_of_a_server_is_looked_up_once_for_all(monkeypatch):
    async def many(session: OpenAISession) -> list[Outcome]:
        at_once = await asyncio.gather(*(session.attempt(HELLO, timeouts=Timeouts(), key=KEY) for _ in range(20)))
        return [*at_once, await session.attempt(HELLO, timeouts=Timeouts(), key=KEY)]

    monkeypatch.setenv("OPENAI_API_KEY", "sk-one")
    with ReplayServer([models("qwen"), answer(chunk("a"), LAST)]) as server:
        outcomes = on_a_loop(OpenAIBackend(base_url=f"{server.url}/v1"), many)
        assert {type(outcome) for outcome in outcomes} == {Answer}
        assert models_asked(server) == ["qwen"] * 21
        assert len(server.received) == 22
        assert {request.headers["authorization"] for request in server.received} == {"Bearer sk-one"}


@pytest.mark.parametrize(
    ("listing", "reason", "words"),
    [
        (models("a", "b"), R.MODEL_NOT_FOUND, "serves 2 models; say which with model=...: a, b"),
        (models(*map(str, range(50))), R.MODEL_NOT_FOUND, "39, and 10 more at http://127.0.0.1"),
        (models(), R.MODEL_NOT_FOUND, "serves no model"),
        (models("a", status="401 Unauthorized"), R.NOT_AUTHORISED, "check the key in OPENAI_API_KEY"),
        (models("a", status="404 Not Found"), R.INVALID_REQUEST, "it does not serve /models"),
        (models("a", ending="cut"), R.CONNECTION_LOST, "broke before"),
        (answer(b"nonsense", path="/v1/models", method="GET"), R.MALFORMED_RESPONSE, "/models is no list of models"),
    ],
)
def test_a_look_up_that_finds_no_one_model_fails_the_attempt(listing, reason, words):
    with ReplayServer([listing, answer(chunk("a"), LAST)]) as server:
        failure = attempt(server.url, model=None)
        assert models_asked(server) == []
    assert isinstance(failure, AttemptFailure)
    assert failure.reason is reason
    assert words in failure.message


def test_a_model_that_has_gone_is_looked_up_again():
    async def twice(session: OpenAISession) -> list[Outcome]:
        return [await session.attempt(HELLO, timeouts=Timeouts(), key=KEY) for _ in range(2)]

    gone = refusal("404 Not Found", {"error": {"message": "The model `old` does not exist."}}).replace(model="old")
    with ReplayServer([models("old"), models("new"), gone, answer(chunk("a"), LAST)]) as server:
        first, second = on_a_loop(OpenAIBackend(base_url=f"{server.url}/v1"), twice)
    assert first.reason is R.MODEL_NOT_FOUND
    assert isinstance(second, Answer)
    assert models_asked(server) == ["old", "new"]


# Connections


def test_a_complete_answer_leaves_its_connection_to_the_next_attempt():
    async def thrice(session: OpenAISession) -> int:
        for _ in range(3):
            assert isinstance(await session.attempt(HELLO, timeouts=Timeouts(), key=KEY), Answer)
        assert session.pools.users == 0
        return server.connections

    with ReplayServer([answer(chunk("a"), LAST)]) as server:
        assert on_a_loop(OpenAIBackend(base_url=f"{server.url}/v1", model="m"), thrice) == 1


def test_a_client_that_was_passed_in_is_used_and_never_closed():
    async def check() -> None:
        async with httpx.AsyncClient(headers={"x-mine": "1", "authorization": "Bearer mine"}) as client:
            session = OpenAIBackend(base_url=f"{server.url}/v1", model="m", http_client=client).session()
            assert isinstance(await session.attempt(HELLO, timeouts=Timeouts(), key=KEY), Answer)
            await session.aclose()
            assert not client.is_closed

    with ReplayServer([answer(chunk("a"), LAST)]) as server:
        asyncio.run(check())
        assert headers_of(server)["x-mine"] == "1"
        assert headers_of(server)["authorization"] == "Bearer mine"


def test_a_proxy_from_the_environment_is_ignored_for_this_machine_only(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with ReplayServer([answer(chunk("a"), LAST)]) as server:
        assert isinstance(attempt(server.url), Answer)
    failure = attempt("http://far.example.test:8000")
    assert isinstance(failure, AttemptFailure)
    assert failure.reason is R.CONNECTION_FAILED


# Derived backends


class Recording(OpenAIBackend):
    """A backend that someone derived, with an attempt of its own."""

    async def attempt(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> Outcome:
        return await super().attempt(request, timeouts=timeouts, key=key)


def test_who_derives_a_backend_and_forgets_its_session_is_told_so():
    with pytest.raises(TypeError, match="inherits `session` from OpenAIBackend, which is asked instead"):
        session_of(Recording())
