"""What an OpenAI-compatible server says when it refuses, in llmlab's words: from status, code and text to a reason.

Pure. The servers agree on `{"error": {"message", "type", "code"}}` and little else: the code says most where there is
one, then the words of the message, then the status. In the middle of a stream the status is 200, and the code or type
stands in for it. How long to wait says `openai_waits.py`; what fails below all that, on the way, is in
`http_failures.py`.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from llmlab.backends.http_failures import TRY_AGAIN, Server, Where, quoted
from llmlab.backends.http_transport import LONGEST_ERROR
from llmlab.backends.openai_waits import should_retry, wait_of
from llmlab.core.backend import AttemptFailure
from llmlab.core.vocabulary import FailureReason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_R = FailureReason

SERVER = Server("the server", "no server", "start it, or set base_url or OPENAI_BASE_URL to where one is")


class _Meaning(NamedTuple):
    reason: FailureReason
    advice: str = ""
    retryable: bool | None = None  # None: as the vocabulary says


_FEWER = "send fewer requests or tokens per time"
_NO_MONEY = _Meaning(_R.RATE_LIMITED, "the account's quota is used up: see its billing", False)
_TOO_LONG = _Meaning(_R.CONTEXT_LENGTH_EXCEEDED, "shorten the prompt, or ask for fewer tokens with max_tokens")
_NO_MODEL = _Meaning(_R.MODEL_NOT_FOUND)
_KEY = _Meaning(_R.NOT_AUTHORISED)
_FILTERED = _Meaning(_R.REFUSED, "a content filter does not let the prompt pass")
_BUSY = _Meaning(_R.OVERLOADED, "send fewer requests at once")

# By `code` and `type`, in lower case. Types that only repeat the status are left out.
_CODES = {
    "insufficient_quota": _NO_MONEY,
    "billing_hard_limit_reached": _NO_MONEY,
    "billing_not_active": _NO_MONEY,
    "rate_limit_exceeded": _Meaning(_R.RATE_LIMITED, _FEWER),
    "context_length_exceeded": _TOO_LONG,
    "exceed_context_size_error": _TOO_LONG,  # llama.cpp
    "model_not_found": _NO_MODEL,
    "invalid_api_key": _KEY,
    "content_filter": _FILTERED,  # Azure
    "content_policy_violation": _FILTERED,
    "overloaded_error": _BUSY,
    "server_overloaded": _BUSY,
}
# The statuses that types stand for in a stream, where the status itself is 200.
_STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "badrequesterror": 400,  # vLLM
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "notfounderror": 404,
    "rate_limit_error": 429,
    "requests": 429,
    "tokens": 429,
}
_CONTEXT = re.compile(
    r"(?:exceed|too long|longer than|larger than|greater than)[\w (),'.]{0,80}"
    r"(?:context|maximum model) (?:length|size|window)"
    r"|maximum context length|context[ _](?:length|size|window)[ _]exceeded|prompt is too long",
    re.IGNORECASE,
)
_UNKNOWN_MODEL = re.compile(
    r"model\b.{0,200}\b(?:not found|does not exist|is not a valid model)|is not a valid model",
    re.IGNORECASE | re.DOTALL,
)
_OVERLOADED = re.compile(r"overloaded|server busy|maximum pending requests|at capacity", re.IGNORECASE)
_NEVER_FITS = re.compile(r"request too large", re.IGNORECASE)  # one request asks for more tokens than a minute has
_USAGE_OPTION = re.compile(r"stream_options|include_usage", re.IGNORECASE)
_BY_STATUS = {
    402: _Meaning(_R.NOT_AUTHORISED, "the account has no credit: see its billing"),
    407: _Meaning(_R.NOT_AUTHORISED, "a proxy wants credentials"),
    413: _Meaning(_R.INVALID_REQUEST, "the request is too large: shorten it"),
    429: _Meaning(_R.RATE_LIMITED, _FEWER),
    501: _Meaning(_R.SERVER_ERROR, "it cannot do this", False),
    503: _BUSY,
    529: _BUSY,
}
_LONGEST_CODE = 100
_LONGEST_READ = 2000  # characters of a message that are searched for what it means


class ServerError(NamedTuple):
    """An error as the server words it; "" and `None` for what it does not say."""

    text: str
    code: str = ""
    type: str = ""
    status: int | None = None


def read_error(body: bytes | object) -> ServerError:
    """Read an error body, or what stands under `error` in an event.

    Understood are the forms of OpenAI, vLLM (`{"object": "error", "message": ...}`), FastAPI (`{"detail": ...}`, as a
    text or a list) and Mistral (that list as the message). What is no JSON is its own text.
    """
    value = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    code: object = None
    kind: object = None
    for _ in range(5):  # {"error": {"message": {"detail": [{"msg": ...}]}}} is the deepest that is known
        if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
            value = _opened(value)
        if isinstance(value, list):
            value = "; ".join(filter(None, map(_complaint, value[:10])))
        if not isinstance(value, dict):
            break
        code, kind = value.get("code", code), value.get("type", kind)
        value = next((value[name] for name in ("error", "message", "detail") if value.get(name)), "")
    status = code if isinstance(code, int) and not isinstance(code, bool) and 400 <= code <= 599 else None
    text = " ".join(value.split()) if isinstance(value, str) else ""
    return ServerError(text, _word(code), _word(kind), status)


def _complaint(value: object) -> str:
    """Return one of FastAPI's complaints as a text, without the input that it repeats."""
    if isinstance(value, dict) and "msg" in value:
        place = value.get("loc")
        path = ".".join(map(str, place)) if isinstance(place, list | tuple) else ""
        return f"{path}: {value['msg']}" if path else str(value["msg"])
    return read_error(value).text if isinstance(value, dict) else ""


def failure_of_answer(
    status: int,
    headers: Mapping[str, str],
    body: bytes | None,
    where: Where,
    *,
    key_env: str | None = None,
    private: Iterable[str] = (),
) -> AttemptFailure:
    """Return the failure that an answer with an error status means.

    Args:
        status: the HTTP status.
        headers: its headers, to be looked up in lower case.
        body: its body, `None` where it was too long to read.
        where: who was asked.
        key_env: the environment variable that holds the key, for the advice.
        private: texts that the message must not repeat: the prompt, the key.
    """
    error = ServerError(f"(more than {LONGEST_ERROR} bytes, not read)") if body is None else read_error(body)
    failure = failure_of_error(status, error, where, key_env=key_env, private=private)
    said = should_retry(headers)
    return failure._replace(
        retry_after=wait_of(headers, rate_limited=failure.reason is _R.RATE_LIMITED),
        retryable=failure.retryable if said is None else said,
    )


def failure_of_error(
    status: int, error: ServerError, where: Where, *, key_env: str | None = None, private: Iterable[str] = ()
) -> AttemptFailure:
    """Return the failure for an error answer, or for an error in a stream (its status is 200); see above."""
    standing_for = status
    if status == 200:
        standing_for = error.status or _STATUS_OF_TYPE.get(error.type.lower(), 500)
    reason, advice, retryable = _meaning(standing_for, error, where)
    said = quoted(error.text, private)
    if reason is _R.NOT_AUTHORISED and not advice:
        # Not quoted: servers repeat the key here, or half of it.
        said, advice = "", f"check the key in {key_env}" if key_env else "it wants a key: set api_key_env"
    answered = "reported an error in its answer" if status == 200 else f"answered {status}"
    parts = [f"{where} {answered}", f": {said}" if said else "", f"; {advice}" if advice else ""]
    if reason is _R.MODEL_NOT_FOUND:
        parts = [f"{where} has no model '{where.model}'; {where.url}/models lists those it has"]
    return AttemptFailure(reason, "".join(parts), status_code=status, retryable=retryable)


def refuses_usage(status: int, body: bytes | None) -> bool:
    """Whether a server refuses a request because it does not know `stream_options`."""
    return status in {400, 422} and bool(_USAGE_OPTION.search((body or b"").decode("utf-8", "replace")))


def without_usage(failure: AttemptFailure) -> AttemptFailure:
    """Return the failure of a request whose `stream_options` were refused: the next one goes without."""
    message = (
        f"{failure.message}; it knows no stream_options, which later attempts leave out: set include_usage=False "
        "to begin without"
    )
    return failure._replace(message=message, retryable=True)


def _meaning(status: int, error: ServerError, where: Where) -> _Meaning:
    text = error.text[:_LONGEST_READ]
    found = _CODES.get(error.code.lower()) or _CODES.get(error.type.lower())
    if found is None and _CONTEXT.search(text):
        found = _TOO_LONG
    if found is None and status in {400, 404} and _UNKNOWN_MODEL.search(text):
        found = _NO_MODEL
    if found is None and (status == 429 or status >= 500) and _OVERLOADED.search(text):
        found = _BUSY
    if found is None:
        found = _BY_STATUS.get(status) or _meaning_of_status(status, where)
    if found.reason is _R.RATE_LIMITED and (status == 413 or _NEVER_FITS.search(text)):
        found = _Meaning(_R.RATE_LIMITED, "it alone is more than the limit allows: shorten it", False)
    return found


def _meaning_of_status(status: int, where: Where) -> _Meaning:
    if status == 401:
        return _KEY
    if status == 403:
        return _Meaning(_R.NOT_AUTHORISED, "the key, the account or this place may not use it")
    if status in {404, 405}:
        return _Meaning(_R.INVALID_REQUEST, f"it does not serve {where.path}: should base_url end in /v1?")
    if 300 <= status < 400:
        return _Meaning(_R.INVALID_REQUEST, "it redirects, which is not followed: set base_url to where it leads")
    # 409: of servers that make requests wait for one another
    if status in TRY_AGAIN or status == 409 or status >= 500:
        return _Meaning(_R.SERVER_ERROR, "see the server's log or status page")
    if status >= 400:
        return _Meaning(_R.INVALID_REQUEST)
    return _Meaning(_R.MALFORMED_RESPONSE, "an answer has the status 200")


def _opened(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _word(value: object) -> str:
    return value if isinstance(value, str) and len(value) <= _LONGEST_CODE else ""
