"""What went wrong in a talk with Ollama, in llmlab's words: from status, error text or exception to a reason.

Pure. Statuses are not enough, for Ollama answers 500 to a mistake in the request and reports errors inside a 200; so
its texts are read where they say more. Messages name what to do next. They may quote the server's text, cut, and never
where it repeats the request or the answer. The attempts that meet all this are in `ollama_session.py`.
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx

from llmlab.core.backend import AttemptFailure, Timeouts
from llmlab.core.vocabulary import FailureReason

if TYPE_CHECKING:
    from collections.abc import Iterable

_R = FailureReason

LONGEST_QUOTE = 300
"""Characters of a server's text in a message."""

_CONTEXT = re.compile(
    r"exceed_context_size|(?:exceed|too long|longer than)[\w ()]{0,60}context|context length", re.IGNORECASE
)
_LENGTHS = re.compile(r"\((\d{1,12}) tokens\).{0,60}\((\d{1,12}) tokens\)", re.DOTALL)
_NO_MODEL = re.compile(r"model ['\"].*['\"] not found", re.IGNORECASE)
_BUSY = re.compile(r"server busy|maximum pending requests", re.IGNORECASE)
# The request's fault, although Ollama answers 500: an option or format of the wrong type fails every time.
_FAULT_OF_REQUEST = re.compile(r"option \".*\" must be of type|invalid format:", re.IGNORECASE)
# Statuses below 500 with which a server (or a proxy) says that it, and not the request, was too slow or too early.
_TRY_AGAIN = frozenset({408, 425, 499})


class Where(NamedTuple):
    """Who was asked: for the messages."""

    url: str
    model: str = ""
    path: str = ""


class ServerError(NamedTuple):
    """An error as the server words it, and the two lengths where it gives them."""

    text: str
    prompt_tokens: int | None = None
    context_tokens: int | None = None


def read_error(body: bytes | object) -> ServerError:
    """Read an error body, or what stands under `error` in a line.

    Ollama wraps the JSON error of its inference process, as a text, into its own: both are opened. What is no JSON is
    its own text.
    """
    value = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    lengths: tuple[int | None, int | None] = (None, None)
    for _ in range(4):  # {"error": "{\"error\": {\"message\": ...}}"} is the deepest that was seen
        if isinstance(value, str) and value.lstrip().startswith("{"):
            value = _opened(value)
        if not isinstance(value, dict):
            break
        found = (_whole(value.get("n_prompt_tokens")), _whole(value.get("n_ctx")))
        lengths = lengths if found == (None, None) else found
        value = value.get("error", value.get("message", ""))
    text = " ".join(value.split()) if isinstance(value, str) else ""
    if lengths == (None, None) and (match := _LENGTHS.search(text)):
        lengths = (int(match[1]), int(match[2]))
    return ServerError(text, *lengths)


def failure_of_error(
    status: int, error: ServerError, where: Where, *, private: Iterable[str] = (), retry_after: float | None = None
) -> AttemptFailure:
    """Return the failure for an error answer, or for an error line in a stream (its status is 200).

    Args:
        status: the HTTP status.
        error: what the server wrote.
        where: who was asked.
        private: texts that the message must not repeat: the prompt, the answer so far.
        retry_after: the wait that the server asked for, in seconds.
    """
    reason, advice, retryable = _meaning(status, error, where)
    said = _quoted(error.text, private)
    answered = "reported an error in its answer" if status == 200 else f"answered {status}"
    parts = [f"Ollama at {where.url} {answered}", f": {said}" if said else "", f"; {advice}" if advice else ""]
    if reason is _R.MODEL_NOT_FOUND:
        parts = [f"Ollama at {where.url} has no model '{where.model}'; {advice}"]
    elif reason is _R.CONTEXT_LENGTH_EXCEEDED and error.prompt_tokens is not None:
        parts = [f"the prompt has {error.prompt_tokens} tokens, the context holds {error.context_tokens}; {advice}"]
    return AttemptFailure(reason, "".join(parts), status_code=status, retry_after=retry_after, retryable=retryable)


def _meaning(status: int, error: ServerError, where: Where) -> tuple[FailureReason, str, bool | None]:
    """Return the reason, what to do, and whether to try again helps (`None`: as the vocabulary says)."""
    text = error.text
    if error.prompt_tokens is not None or _CONTEXT.search(text):
        return _R.CONTEXT_LENGTH_EXCEEDED, "shorten it, or give the model more with options={'num_ctx': ...}", None
    if _NO_MODEL.search(text):
        return _R.MODEL_NOT_FOUND, f"try `ollama pull {where.model}`, or see what is there with `ollama list`", None
    if _FAULT_OF_REQUEST.search(text):
        return _R.INVALID_REQUEST, "correct the request or the backend's options", None
    if status in {503, 529} or _BUSY.search(text):
        return _R.OVERLOADED, "send fewer requests at once, or raise OLLAMA_MAX_QUEUE on the server", None
    if status == 200:
        return _R.SERVER_ERROR, "see the server's log", None
    return _meaning_of_status(status, text, where)


def _meaning_of_status(status: int, text: str, where: Where) -> tuple[FailureReason, str, bool | None]:
    if status == 429:
        return _R.RATE_LIMITED, "send fewer requests per time", None
    if status in {401, 403, 407}:
        # Ollama itself has no accounts: an empty 403 is its answer to a Host or Origin that it does not know.
        unknown_host = "it does not accept this host name or origin: see OLLAMA_HOST and OLLAMA_ORIGINS on the server"
        return _R.NOT_AUTHORISED, unknown_host if status == 403 and not text else "check the credentials", None
    if status in {404, 405}:
        return _R.INVALID_REQUEST, f"it does not serve {where.path}: is base_url that of an Ollama server?", None
    if 300 <= status < 400:
        return _R.INVALID_REQUEST, "it redirects, which is not followed: set base_url to where it leads", None
    if status in _TRY_AGAIN or status >= 500:
        return _R.SERVER_ERROR, "see the server's log", False if status == 501 else None
    if status >= 400:
        return _R.INVALID_REQUEST, "", None
    return _R.MALFORMED_RESPONSE, "an answer has the status 200", None


def failure_of_exception(
    error: httpx.TransportError, where: Where, timeouts: Timeouts, *, status: int | None = None
) -> AttemptFailure:
    """Return the failure for an exception of httpx; `status` is that of the answer that had begun, if any."""
    match error:
        case httpx.ConnectTimeout():
            return _no_connection(where, f"no connection within {timeouts.connect} s, timeouts.connect", error)
        case httpx.ConnectError() | httpx.ProxyError():
            return _no_connection(where, _root(error), error)
        case httpx.PoolTimeout():
            what = f"no connection of the pool came free within {timeouts.pool} s (timeouts.pool)"
        case httpx.WriteTimeout():
            what = f"sending the request stood still for {timeouts.between_chunks} s (timeouts.between_chunks)"
        case httpx.TimeoutException():
            return no_first_byte(where, timeouts, error)
        case httpx.RemoteProtocolError() if not _CLOSED.search(str(error)):
            # Its text quotes what was received, which may be the model's: neither text nor exception is kept.
            return malformed(f"Ollama at {where.url} broke the HTTP protocol", status)
        case httpx.NetworkError() | httpx.RemoteProtocolError():
            message = f"the connection to {where.url} broke before the answer was complete"
            return AttemptFailure(_R.CONNECTION_LOST, message, status_code=status, cause=error)
        case _:  # a URL or header that cannot be sent: a mistake in the program, not a failure of the server
            raise error
    return AttemptFailure(_R.ATTEMPT_TIMEOUT, what, status_code=status, cause=error)


# The words with which httpcore and h11 say that the peer went away; everything else is a breach of the protocol.
_CLOSED = re.compile(
    r"peer closed connection|server disconnected|peer unexpectedly closed|ConnectionClosed", re.IGNORECASE
)


def _no_connection(where: Where, detail: str, error: httpx.TransportError) -> AttemptFailure:
    message = (
        f"no Ollama server at {where.url} ({detail}); start it with `ollama serve`, or set base_url or OLLAMA_HOST"
    )
    return AttemptFailure(_R.CONNECTION_FAILED, message, cause=error)


def _root(error: BaseException) -> str:
    """Return what the operating system said, under the layers that only say that all attempts failed."""
    said = str(error)
    inner: BaseException | None = error
    for _ in range(10):  # six layers were seen; the bound is against a circle
        if inner is None:
            break
        if isinstance(inner, OSError) and inner.errno is not None:
            said = os.strerror(inner.errno) if inner.errno > 0 else str(inner.strerror)
        inner = inner.exceptions[0] if isinstance(inner, BaseExceptionGroup) else inner.__cause__ or inner.__context__
    return _cut(said.lower()) or "connection failed"


def no_first_byte(
    where: Where, timeouts: Timeouts, error: BaseException | None = None, *, status: int | None = None
) -> AttemptFailure:
    """Return the failure for an answer that did not begin in time."""
    what = f"Ollama at {where.url} sent no first byte within {timeouts.first_byte} s (timeouts.first_byte)"
    message = f"{what}; it may be loading the model, or busy with the requests before this one"
    return AttemptFailure(_R.ATTEMPT_TIMEOUT, message, status_code=status, cause=error)


def stalled(where: Where, timeouts: Timeouts, *, status: int) -> AttemptFailure:
    """Return the failure for an answer that began and stood still."""
    message = (
        f"the answer of Ollama at {where.url} stood still for {timeouts.between_chunks} s (timeouts.between_chunks)"
    )
    return AttemptFailure(_R.ATTEMPT_TIMEOUT, message, status_code=status)


def malformed(message: str, status: int | None) -> AttemptFailure:
    """Return the failure for an answer that breaks the protocol."""
    return AttemptFailure(_R.MALFORMED_RESPONSE, message, status_code=status)


def no_model_installed(where: Where) -> AttemptFailure:
    """Return the failure for a server without any model to choose."""
    message = f"Ollama at {where.url} has no model installed; get one with `ollama pull llama3.2`, or any other"
    return AttemptFailure(_R.MODEL_NOT_FOUND, message, status_code=200)


def _opened(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}..."


_WINDOW = 16


def _quoted(text: str, private: Iterable[str]) -> str:
    """Return the server's text, cut; nothing of it where it repeats something private.

    Ollama quotes at most a character of a request that it cannot read, but what stands before it may quote all of it.
    Sixteen characters in common are taken as a repetition; of a shorter private text, the whole text as a word.
    """
    quote = _cut(text)
    windows = [quote[at : at + _WINDOW] for at in range(len(quote) - _WINDOW + 1)]
    for secret in private:
        words = " ".join(secret.split())
        if len(words) >= _WINDOW:
            repeated = any(window in words for window in windows)
        else:
            repeated = bool(words) and re.search(rf"(?<!\w){re.escape(words)}(?!\w)", quote) is not None
        if repeated:
            return "(its text is left out, for it repeats the prompt or the answer)"
    return quote
