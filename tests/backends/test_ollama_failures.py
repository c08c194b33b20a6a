import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.backends.http_failures import LONGEST_QUOTE, Where
from llmlab.backends.ollama_failures import OLLAMA, ServerError, failure_of_error, read_error
from llmlab.core.vocabulary import FailureReason

R = FailureReason
WHERE = Where(OLLAMA, "http://127.0.0.1:11434", "m", "/api/generate")


def reason_of(status, text=""):
    return failure_of_error(status, ServerError(text), WHERE).reason


@pytest.mark.parametrize(
    ("status", "reason", "retryable"),
    [
        (204, R.MALFORMED_RESPONSE, True),
        (301, R.INVALID_REQUEST, False),
        (307, R.INVALID_REQUEST, False),
        (400, R.INVALID_REQUEST, False),
        (401, R.NOT_AUTHORISED, False),
        (403, R.NOT_AUTHORISED, False),
        (404, R.INVALID_REQUEST, False),
        (405, R.INVALID_REQUEST, False),
        (407, R.NOT_AUTHORISED, False),
        (408, R.SERVER_ERROR, True),
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
    failure = failure_of_error(status, ServerError(""), WHERE)
    assert (failure.reason, failure.is_retryable, failure.status_code) == (reason, retryable, status)


@pytest.mark.parametrize(
    ("status", "text", "reason"),
    [
        (404, "model 'm' not found", R.MODEL_NOT_FOUND),
        (404, 'model "m" not found, try pulling it first', R.MODEL_NOT_FOUND),
        (404, "page not found", R.INVALID_REQUEST),
        (200, "model 'm' not found", R.MODEL_NOT_FOUND),
        (200, "server busy, please try again.  maximum pending requests exceeded", R.OVERLOADED),
        (200, "something else", R.SERVER_ERROR),
        (500, "the input length exceeds the context length", R.CONTEXT_LENGTH_EXCEEDED),
        (400, "prompt too long; exceeded max context length by 7 tokens", R.CONTEXT_LENGTH_EXCEEDED),
        (500, 'option "num_ctx" must be of type integer', R.INVALID_REQUEST),
        (500, "model requires more system memory (9 GiB) than is available (2 GiB)", R.SERVER_ERROR),
    ],
)
def test_the_text_says_more_than_the_status(status, text, reason):
    assert reason_of(status, text) is reason


def test_a_text_without_numbers_still_says_that_the_prompt_is_too_long():
    failure = failure_of_error(400, ServerError("the input length exceeds the context length"), WHERE)
    assert "the input length exceeds the context length" in failure.message
    assert "num_ctx" in failure.message


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"error":"it broke"}', ServerError("it broke")),
        (b'{"error":{"message":"it broke"}}', ServerError("it broke")),
        (b'{"message":"it broke"}', ServerError("it broke")),
        (b'{"error":"{\\"error\\":{\\"code\\":400,\\"message\\":\\"it broke\\"}}"}', ServerError("it broke")),
        (b"it\n  broke\t", ServerError("it broke")),
        (b"\xffit broke", ServerError("�it broke")),
        (b"", ServerError("")),
        (b"{}", ServerError("")),
        (b'{"error":null}', ServerError("")),
        (b'{"error":["it"]}', ServerError("")),
        (b"{ it broke", ServerError("{ it broke")),
        (b'{"error":{"message":"long","n_prompt_tokens":9,"n_ctx":4}}', ServerError("long", 9, 4)),
        (
            b"request (9 tokens) exceeds the available context size (4 tokens)",
            ServerError("request (9 tokens) exceeds the available context size (4 tokens)", 9, 4),
        ),
        (b"{" * 100_000, None),
    ],
)
def test_error_bodies_are_opened(body, error):
    assert error is None or read_error(body) == error
    read_error(body)


NAMES = st.sampled_from(["error", "message", "n_ctx", "n_prompt_tokens", "type"])
JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=9), lambda inner: st.dictionaries(NAMES, inner), max_leaves=8
)


@settings(deadline=None)  # a busy machine is no finding
@given(st.binary(max_size=60) | JSON)
def test_any_error_body_can_be_read(body):
    failure = failure_of_error(400, read_error(body), WHERE)
    assert len(failure.message) < LONGEST_QUOTE + 300


PROMPT = "The patient's name is Ada and she lives in London"


@pytest.mark.parametrize(
    ("text", "private"),
    [
        (f"cannot read: {PROMPT}", PROMPT),
        (f'bad input "{PROMPT[7:30]}..."', PROMPT),
        ("cannot read: The patient's name\\nis Ada and she lives", PROMPT),
        ("cannot read: The  patient's name is Ada", "The patient's\nname is Ada"),
        ("cannot read: 'Ada'", "Ada"),
    ],
)
def test_a_text_that_repeats_the_prompt_is_left_out(text, private):
    message = failure_of_error(422, read_error(text), WHERE, private=["", private]).message
    assert "Ada" not in message
    assert "its text is left out" in message


def test_a_short_prompt_inside_another_word_hides_nothing():
    assert "something broke" in failure_of_error(500, ServerError("something broke"), WHERE, private=["hi"]).message


def test_a_long_text_is_cut():
    message = failure_of_error(500, ServerError("x" * 10_000), WHERE).message
    assert "x" * LONGEST_QUOTE + "..." in message
    assert "x" * (LONGEST_QUOTE + 1) not in message
