import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.backends.http_failures import LONGEST_QUOTE, Where
from llmlab.backends.openai_failures import (
    SERVER,
    ServerError,
    failure_of_answer,
    failure_of_error,
    read_error,
    refuses_usage,
)
from llmlab.core.backend import AttemptFailure
from llmlab.core.vocabulary import FailureReason

R = FailureReason
WHERE = Where(SERVER, "http://127.0.0.1:8000/v1", "m", "/chat/completions")


def refused(status, message="", code=None, kind=None, *, headers=None, **more) -> AttemptFailure:
    body = json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()
    return failure_of_answer(status, headers or {}, body, WHERE, **more)


@pytest.mark.parametrize(
    ("status", "reason", "retryable"),
    [
        (204, R.MALFORMED_RESPONSE, True),
        (301, R.INVALID_REQUEST, False),
        (307, R.INVALID_REQUEST, False),
        (400, R.INVALID_REQUEST, False),
        (401, R.NOT_AUTHORISED, False),
        (402, R.NOT_AUTHORISED, False),
        (403, R.NOT_AUTHORISED, False),
        (404, R.INVALID_REQUEST, False),
        (405, R.INVALID_REQUEST, False),
        (407, R.NOT_AUTHORISED, False),
        (408, R.SERVER_ERROR, True),
        (409, R.SERVER_ERROR, True),
        (413, R.INVALID_REQUEST, False),
        (422, R.INVALID_REQUEST, False),
        (425, R.SERVER_ERROR, True),
        (429, R.RATE_LIMITED, True),
        (499, R.SERVER_ERROR, True),
        (500, R.SERVER_ERROR, True),
        (501, R.SERVER_ERROR, False),
        (502, R.SERVER_ERROR, True),
        (503, R.OVERLOADED, True),
        (504, R.SERVER_ERROR, True),
        (529, R.OVERLOADED, True),
        (599, R.SERVER_ERROR, True),
    ],
)
def test_a_status_alone_has_a_meaning(status, reason, retryable):
    failure = failure_of_answer(status, {}, b"", WHERE)
    assert (failure.reason, failure.is_retryable, failure.status_code) == (reason, retryable, status)


@pytest.mark.parametrize(
    ("status", "code", "kind", "reason", "retryable"),
    [
        (429, "rate_limit_exceeded", "requests", R.RATE_LIMITED, True),
        (429, "rate_limit_exceeded", "tokens", R.RATE_LIMITED, True),
        (429, "insufficient_quota", "insufficient_quota", R.RATE_LIMITED, False),
        (429, None, "insufficient_quota", R.RATE_LIMITED, False),
        (413, "rate_limit_exceeded", "tokens", R.RATE_LIMITED, False),
        (400, "context_length_exceeded", "invalid_request_error", R.CONTEXT_LENGTH_EXCEEDED, False),
        (400, 400, "exceed_context_size_error", R.CONTEXT_LENGTH_EXCEEDED, False),
        (404, "model_not_found", "invalid_request_error", R.MODEL_NOT_FOUND, False),
        (400, "invalid_api_key", "invalid_request_error", R.NOT_AUTHORISED, False),
        (400, "content_filter", None, R.REFUSED, False),
        (400, "content_policy_violation", "invalid_request_error", R.REFUSED, False),
        (500, None, "overloaded_error", R.OVERLOADED, True),
        (400, ["odd"], {"odd": 1}, R.INVALID_REQUEST, False),
    ],
)
def test_a_code_says_more_than_the_status(status, code, kind, reason, retryable):
    failure = refused(status, "it broke", code, kind)
    assert (failure.reason, failure.is_retryable, failure.status_code) == (reason, retryable, status)


@pytest.mark.parametrize(
    ("status", "text", "reason"),
    [
        (
            400,
            "This model's maximum context length is 4096 tokens. However, you requested 5000",
            R.CONTEXT_LENGTH_EXCEEDED,
        ),
        (400, "the request exceeds the available context size, try increasing it", R.CONTEXT_LENGTH_EXCEEDED),
        (400, "The input (50 tokens) is longer than the model's context length (40 tokens)", R.CONTEXT_LENGTH_EXCEEDED),
        (400, "The prompt (length 50) is longer than the maximum model length of 40", R.CONTEXT_LENGTH_EXCEEDED),
        (500, "Context size exceeded", R.CONTEXT_LENGTH_EXCEEDED),
        (404, "The model `m` does not exist.", R.MODEL_NOT_FOUND),
        (404, "model 'm' not found", R.MODEL_NOT_FOUND),
        (400, "m is not a valid model ID", R.MODEL_NOT_FOUND),
        (404, "Not Found", R.INVALID_REQUEST),
        (503, "Loading model", R.OVERLOADED),
        (500, "The server is currently overloaded with other requests", R.OVERLOADED),
        (500, "the context length of the model is odd", R.SERVER_ERROR),
    ],
)
def test_a_text_says_more_than_the_status(status, text, reason):
    assert refused(status, text).reason is reason


def test_a_request_that_no_minute_has_room_for_is_not_tried_again():
    failure = refused(
        429, "Request too large for m on tokens per min (TPM): Limit 10, Requested 15", "rate_limit_exceeded"
    )
    assert (failure.reason, failure.is_retryable) == (R.RATE_LIMITED, False)
    assert "shorten it" in failure.message


@pytest.mark.parametrize(
    ("error", "reason", "retryable"),
    [
        ({"message": "broke", "type": "server_error"}, R.SERVER_ERROR, True),
        ({"message": "broke", "code": 502}, R.SERVER_ERROR, True),
        ({"message": "slow down", "code": 429}, R.RATE_LIMITED, True),
        ({"message": "slow down", "type": "rate_limit_error"}, R.RATE_LIMITED, True),
        ({"message": "no", "type": "insufficient_quota"}, R.RATE_LIMITED, False),
        ({"message": "busy", "type": "overloaded_error"}, R.OVERLOADED, True),
        ({"object": "error", "message": "bad", "type": "BadRequestError", "code": 400}, R.INVALID_REQUEST, False),
        ({"message": "bad", "type": "invalid_request_error"}, R.INVALID_REQUEST, False),
        ("broke", R.SERVER_ERROR, True),
        ({}, R.SERVER_ERROR, True),
        ({"message": "broke", "code": 200}, R.SERVER_ERROR, True),
        ({"message": "broke", "code": True}, R.SERVER_ERROR, True),
    ],
)
def test_in_a_stream_the_error_stands_for_the_status(error, reason, retryable):
    failure = failure_of_error(200, read_error(error), WHERE)
    assert (failure.reason, failure.is_retryable, failure.status_code) == (reason, retryable, 200)
    assert "reported an error in its answer" in failure.message


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"error":{"message":"it broke","type":"t","code":"c"}}', ServerError("it broke", "c", "t")),
        (b'{"error":{"message":"it broke","code":502}}', ServerError("it broke", status=502)),
        (b'{"error":"it broke"}', ServerError("it broke")),
        (b'{"object":"error","message":"it broke","type":"t","code":400}', ServerError("it broke", "", "t", 400)),
        (b'{"detail":"Not Found"}', ServerError("Not Found")),
        (
            b'{"detail":[{"type":"extra","loc":["body","stop"],"msg":"too long","input":"secret"},{"msg":"bad"}]}',
            ServerError("body.stop: too long; bad"),
        ),
        (b'{"object":"error","message":{"detail":[{"msg":"bad"}]},"type":"t"}', ServerError("bad", "", "t")),
        (b'[{"error":{"message":"it broke"}}]', ServerError("it broke")),
        (b"it\n  broke\t", ServerError("it broke")),
        (b"\xffit broke", ServerError("�it broke")),
        (b"", ServerError("")),
        (b"{}", ServerError("")),
        (b'{"error":null}', ServerError("")),
        (b"{ it broke", ServerError("{ it broke")),
        (b'{"error":{"message":"long","code":"%b"}}' % (b"x" * 5000), ServerError("long")),
    ],
)
def test_error_bodies_are_opened(body, error):
    assert read_error(body) == error


NAMES = st.sampled_from(["error", "message", "detail", "msg", "loc", "code", "type", "object"])
JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=9),
    lambda inner: st.dictionaries(NAMES, inner) | st.lists(inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)  # a busy machine is no finding
@given(st.sampled_from([200, 400, 401, 404, 429, 500]), JSON)
def test_any_error_body_can_be_read(status, value):
    for body in (json.dumps(value).encode(), json.dumps({"error": value}).encode()):
        failure = failure_of_error(status, read_error(body), WHERE)
        assert len(failure.message) < LONGEST_QUOTE + 300


@pytest.mark.parametrize("body", [b"\xff" * 50, b"[" * 100_000, b"{" * 100_000, b'"' + b"model" * 20_000])
def test_any_bytes_can_be_an_error_body(body):
    assert failure_of_answer(404, {}, body, WHERE).reason is R.INVALID_REQUEST


def test_a_body_that_is_too_long_is_known_by_its_status():
    assert "(more than 65536 bytes, not read)" in failure_of_answer(500, {}, None, WHERE).message


# Headers


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {"retry-after": "7"}, 7.0),
        (429, {"retry-after-ms": "250"}, 0.25),
        (429, {"x-ratelimit-reset-requests": "1s"}, 1.0),
        (503, {"retry-after": "7"}, 7.0),
        (503, {"x-ratelimit-reset-requests": "1s"}, None),
        (429, {}, None),
    ],
)
def test_the_wait_that_a_refusal_asks_for_is_kept(status, headers, seconds):
    assert refused(status, "slow down", headers=headers).retry_after == seconds


@pytest.mark.parametrize(
    ("status", "said", "retryable"),
    [(400, "true", True), (500, "false", False), (500, "maybe", True), (400, "", False)],
)
def test_the_server_may_say_itself_whether_to_try_again(status, said, retryable):
    assert refused(status, headers={"x-should-retry": said}).is_retryable is retryable


# Messages

KEY = "sk-proj-0123456789abcdef"


def test_a_refused_key_is_not_quoted_and_its_variable_is_named():
    failure = refused(401, f"Incorrect API key provided: {KEY[:8]}****{KEY[-4:]}.", "invalid_api_key", key_env="MY_KEY")
    assert failure.message == "the server at http://127.0.0.1:8000/v1 answered 401; check the key in MY_KEY"
    assert "set api_key_env" in refused(401).message


def test_a_text_that_repeats_key_or_prompt_is_left_out():
    prompt = "The patient's name is Ada and she lives in London"
    for status, text in (
        (400, f"header Authorization: Bearer {KEY}"),
        (422, f"bad input: {prompt[7:30]}"),
        (500, KEY[3:20]),
    ):
        message = refused(status, text, private=[prompt, KEY]).message
        assert "its text is left out" in message
        assert KEY[3:] not in message
        assert "Ada" not in message


def test_a_missing_model_says_where_the_models_are_listed():
    message = refused(404, "The model `m` does not exist.").message
    assert message == (
        "the server at http://127.0.0.1:8000/v1 has no model 'm'; http://127.0.0.1:8000/v1/models lists those it has"
    )


def test_a_path_that_is_not_served_points_to_the_base_url():
    assert "it does not serve /chat/completions: should base_url end in /v1?" in refused(404, "Not Found").message


def test_a_long_text_is_cut():
    message = refused(500, "x" * 10_000).message
    assert "x" * LONGEST_QUOTE + "..." in message
    assert "x" * (LONGEST_QUOTE + 1) not in message


@pytest.mark.parametrize(
    ("status", "body", "refuses"),
    [
        (400, b"Extra inputs are not permitted, field: 'stream_options'", True),
        (422, b'{"detail":[{"loc":["body","stream_options","include_usage"],"msg":"Extra inputs"}]}', True),
        (400, b"something else", False),
        (500, b"stream_options", False),
        (400, None, False),
    ],
)
def test_a_server_that_does_not_know_stream_options(status, body, refuses):
    assert refuses_usage(status, body) is refuses
