import pickle

import httpx
import pytest

from llmlab.backends.http_failures import Where, failure_of_exception
from llmlab.backends.ollama_failures import OLLAMA
from llmlab.core.backend import Timeouts
from llmlab.core.vocabulary import FailureReason

R = FailureReason
WHERE = Where(OLLAMA, "http://127.0.0.1:11434", "m", "/api/generate")


@pytest.mark.parametrize(
    ("error", "reason", "words"),
    [
        (
            httpx.ConnectTimeout("x"),
            R.CONNECTION_FAILED,
            "(no connection within 1.0 s, timeouts.connect); start it with `ollama serve`",
        ),
        (httpx.ConnectError("[SSL] bad"), R.CONNECTION_FAILED, "([ssl] bad); start it"),
        (httpx.ProxyError("x"), R.CONNECTION_FAILED, "(x); start it"),
        (httpx.PoolTimeout("x"), R.ATTEMPT_TIMEOUT, "within 2.0 s (timeouts.pool)"),
        (httpx.WriteTimeout("x"), R.ATTEMPT_TIMEOUT, "4.0 s (timeouts.between_chunks)"),
        (httpx.ReadTimeout("x"), R.ATTEMPT_TIMEOUT, "no first byte within 3.0 s (timeouts.first_byte)"),
        (httpx.ReadError("x"), R.CONNECTION_LOST, "broke before the answer was complete"),
        (httpx.WriteError("x"), R.CONNECTION_LOST, "broke before"),
        (
            httpx.RemoteProtocolError("Server disconnected without sending a response."),
            R.CONNECTION_LOST,
            "broke before",
        ),
        (httpx.RemoteProtocolError("illegal status line: 'text'"), R.MALFORMED_RESPONSE, "broke the HTTP protocol"),
    ],
)
def test_an_exception_of_the_transport_has_a_reason(error, reason, words):
    timeouts = Timeouts(connect=1.0, pool=2.0, first_byte=3.0, between_chunks=4.0)
    failure = failure_of_exception(error, WHERE, timeouts)
    assert failure.reason is reason
    assert words in failure.message
    assert failure.cause is (None if reason is R.MALFORMED_RESPONSE else error)


def test_a_mistake_in_the_program_is_no_failure_of_the_server():
    with pytest.raises(httpx.LocalProtocolError):
        failure_of_exception(httpx.LocalProtocolError("illegal header"), WHERE, Timeouts())


def throw(error: Exception, cause: Exception | None = None) -> None:
    raise error from cause


def test_the_exception_that_is_kept_holds_neither_request_nor_stack():
    request = httpx.Request("POST", WHERE.url, headers={"Authorization": "Bearer secret"}, content=b"secret")
    below, error = OSError("below"), httpx.ReadError("broken", request=request)
    with pytest.raises(OSError, match="below"):
        throw(below)
    with pytest.raises(httpx.ReadError):
        throw(error, below)
    failure = failure_of_exception(error, WHERE, Timeouts())
    assert failure.cause is error
    assert error.__cause__ is below
    assert (error.__traceback__, below.__traceback__) == (None, None)
    assert str(error.request.url) == WHERE.url
    assert b"secret" not in pickle.dumps(error.__dict__)
