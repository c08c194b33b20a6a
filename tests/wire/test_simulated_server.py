"""The simulated server against the recordings of Ollama: status, headers, shape and chunking."""

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab import AttemptKey, MockBackend
from llmlab.virtual_time import run
from llmlab.wire.exchange import Head, HTTPRequest
from llmlab.wire.simulated_server import SimulatedServer

RECORDINGS = Path(__file__).parents[1] / "data" / "ollama"
MODELS = ["tiny", "tiny-slow", "tiny-eos"]


def exchanges(case):
    recording = json.loads((RECORDINGS / f"{case}.json").read_text(encoding="utf-8"))
    for exchange in recording.get("exchanges", [recording]):
        asked, answered = exchange["request"], exchange["response"]
        method, path, _ = asked["line"].split(" ")
        request = HTTPRequest(method, path, (), asked.get("body", "").encode("latin-1" if "utf8" in case else "utf-8"))
        chunks = [chunk["data"] for chunk in answered.get("chunks", [])]
        yield request, answered["status_line"], dict(answered.get("headers", [])), chunks or [answered["body"]]


def answered(request, **settings):
    async def main():
        server = SimulatedServer(MockBackend(text="one two three four five six", **settings), models=MODELS)
        return [step async for step in server.exchange(request)]

    head, *body = run(main())
    assert isinstance(head, Head)
    return head, body


REFUSED = [
    "chat_content_list",
    "chat_messages_string",
    "chat_missing_model",
    "embed",
    "generate_duplicate_keys",
    "generate_empty_body",
    "generate_format_bad",
    "generate_keep_alive_bad",
    "generate_malformed_json",
    "generate_malformed_json_2",
    "generate_missing_model",
    "generate_model_name_invalid",
    "generate_no_model",
    "generate_wrong_type_option",
    "generate_wrong_type_option_2",
    "generate_wrong_type_prompt",
    "generate_wrong_type_stream",
    "head_root",
    "method_not_allowed",
    "not_found",
    "root",
    "show_missing",
    "version",
]


@pytest.mark.parametrize("case", REFUSED)
def test_what_needs_no_model_is_answered_to_the_byte(case):
    for request, status, headers, body in exchanges(case):
        head, said = answered(request)
        assert f"HTTP/1.1 {head.status} " in status
        kept = {name: value for name, value in headers.items() if name != "Date"}
        assert {name.title(): value for name, value in head.headers} == kept
        assert b"".join(said).decode() == "".join(body)


def shape(value):
    """Return a JSON value without what only a real model could give: its keys in order, and the types below."""
    if isinstance(value, dict):
        return {key: shape(part) for key, part in value.items() if key != "context"}
    return [shape(value[0])] if isinstance(value, list) and value else type(value).__name__


ANSWERED = ["generate", "generate_stream", "chat_stream", "chat_warm", "generate_load_empty_prompt", "chat_no_messages"]


@pytest.mark.parametrize("case", [*ANSWERED, "generate_unload", "generate_stream_default", "generate_invalid_utf8"])
def test_answers_have_the_recorded_shape_and_chunking(case):
    for request, status, headers, recorded in exchanges(case):
        head, body = answered(request)
        assert f"HTTP/1.1 {head.status} " in status
        assert head.header("content-type") == headers["Content-Type"]
        assert (head.header("content-length") is None) == ("Transfer-Encoding" in headers)
        assert (len(body) > 1) == (len(recorded) > 1)
        for piece, like in ((body[0], recorded[0]), (body[-1], recorded[-1])):
            assert list(shape(json.loads(piece)).items()) == list(shape(json.loads(like)).items())
            assert piece.endswith(b"\n") == like.endswith("\n")


def test_listings_have_the_recorded_shape():
    for case in ("tags", "ps_loaded"):
        for request, _, headers, recorded in exchanges(case):
            head, body = answered(request)
            assert head.header("content-type") == headers["Content-Type"]
            assert shape(json.loads(b"".join(body))) == shape(json.loads("".join(recorded)))


def chat(**more):
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Hello there"}], **more}
    return HTTPRequest("POST", "/v1/chat/completions", (), json.dumps(body).encode())


def test_a_chat_completion_has_the_shape_of_openai():
    head, body = answered(chat())
    value = json.loads(b"".join(body))
    assert head.headers[0] == ("content-type", "application/json")
    assert value["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "one two three four five six"},
            "finish_reason": "stop",
        }
    ]
    assert value["usage"] == {"prompt_tokens": 3, "completion_tokens": 7, "total_tokens": 10}
    assert value["object"] == "chat.completion"


@pytest.mark.parametrize("include_usage", [False, True])
def test_a_streamed_chat_completion_is_server_sent_events_with_usage_only_if_asked(include_usage):
    head, body = answered(chat(stream=True, stream_options={"include_usage": include_usage}))
    assert head.headers == (("content-type", "text/event-stream"),)
    *events, done, rest = b"".join(body).decode().split("\n\n")
    values = [json.loads(event.removeprefix("data: ")) for event in events]
    assert (done, rest) == ("data: [DONE]", "")
    pieces = [value["choices"][0]["delta"].get("content", "") for value in values if value["choices"]]
    assert "".join(pieces) == "one two three four five six"
    assert values[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [value["usage"]["total_tokens"] for value in values if "usage" in value] == [10] * include_usage
    ends = [value["choices"][0]["finish_reason"] for value in values if value["choices"]]
    assert ends == [None] * (len(ends) - 1) + ["stop"]


def test_a_refusal_asks_for_its_wait_in_seconds_and_in_milliseconds():
    faults = {"rate_limit": 1.0, "retry_after": 1.25}
    head, body = answered(chat(), faults=faults)
    assert head.status == 429
    assert (head.header("retry-after"), head.header("retry-after-ms")) == ("2", "1250")
    assert json.loads(body[0])["error"]["type"] == "rate_limit_error"


def test_chat_completions_say_how_the_rate_limits_stand():
    server = SimulatedServer(MockBackend(server={"requests_per_minute": 60, "tokens_per_minute": 6000}, latency=1.0))

    async def main():
        head, *_ = [step async for step in server.exchange(chat())]
        return head

    limits = {name: value for name, value in run(main()).headers if name.startswith("x-ratelimit")}
    # The answer comes after a second, in which what it took has come back.
    assert limits == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "60",
        "x-ratelimit-reset-requests": "0s",
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": "6000",
        "x-ratelimit-reset-tokens": "0s",
    }


def test_a_request_over_the_limit_is_told_when_it_is_let_in():
    limits = {"requests_per_minute": 60, "limit_burst": 2.0}
    server = SimulatedServer(MockBackend(server=limits, latency=1.0, refusal_latency=0.0))

    async def one():
        head, *_ = [step async for step in server.exchange(chat())]
        return head

    async def main():
        return await asyncio.gather(one(), one(), one())

    head = run(main())[-1]
    found = [head.header(name) for name in ("retry-after", "retry-after-ms", "x-ratelimit-remaining-requests")]
    assert (head.status, found) == (429, ["1", "1000", "0"])
    assert head.header("x-ratelimit-reset-requests") == "2s"


def test_a_request_without_the_header_is_keyed_by_its_arrival():
    server = SimulatedServer(MockBackend())
    said = chat()._replace(headers=(("x-llmlab-attempt", "7.2"),))

    async def main():
        exchanges = [server.exchange(request) for request in (chat(), HTTPRequest("GET", "/"), said, chat())]
        for exchange in exchanges:
            assert exchange.key is None
            async for _ in exchange:
                pass
        return [(exchange.key, exchange.keyed) for exchange in exchanges]

    expected = [(AttemptKey(0, 1), False), (None, False), (AttemptKey(7, 2), True), (AttemptKey(1, 1), False)]
    assert run(main()) == expected
    assert run(main()) == expected  # each run counts for itself


def test_closing_the_exchange_stops_the_work():
    async def main():
        backend = MockBackend(server={"slots": 1}, latency=10.0, text="word " * 40)
        steps = SimulatedServer(backend).exchange(chat(stream=True))
        await anext(steps)
        await steps.aclose()
        view = backend.session().view.columns()
        return asyncio.get_running_loop().time(), view["busy"][-1], view["wasted_s"][-1]

    assert run(main()) == (2.5, 0, 2.5)


ODD = [None, True, 5, -1, 0.5, 10**400, "", "x", [], [5], ["x", None], {}, {"role": 5}]
ODD += [{"type": "json_schema"}, {"type": "json_schema", "json_schema": 5}, {"include_usage": 1}, {"type": 5}]
FIELDS = ["messages", "prompt", "system", "stream", "stop", "seed", "temperature", "max_tokens", "keep_alive", "format"]
FIELDS += ["max_completion_tokens", "response_format", "stream_options", "options", "num_predict"]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("path", ["/api/generate", "/api/chat", "/v1/chat/completions"])
def test_a_field_of_a_wrong_kind_is_answered_and_breaks_nothing(path, field):
    turns = [{"role": "user", "content": "Hello"}]
    for odd in [*ODD, [{"role": odd, "content": odd} for odd in ODD]]:
        body = {"model": "tiny", "prompt": "Hello", "messages": turns, field: odd}
        body.setdefault("options", {field: odd})
        head, *_ = answered(HTTPRequest("POST", path, (), json.dumps(body).encode()))
        assert head.status in {200, 400, 500}


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
def test_numbers_that_are_no_json_are_refused(path, number):
    turns = '[{"role": "user", "content": "Hello"}]'
    more = f'"seed": {number}, "options": {{"seed": {number}}}'
    head, *_ = answered(HTTPRequest("POST", path, (), f'{{"model": "tiny", "messages": {turns}, {more}}}'.encode()))
    assert head.status in {400, 500}


@given(body=st.binary(max_size=20), path=st.sampled_from(["/api/chat", "/v1/chat/completions", "/api/show"]))
def test_whatever_bytes_a_client_sends_are_answered(body, path):
    head, *_ = answered(HTTPRequest("POST", path, (), body))
    assert head.status in {400, 404}
