"""What went wrong on the way to a server and back, in llmlab's words: from a timeout or exception to a reason.

Pure. Whatever the server's protocol is, its connections fail in the same ways; what its own errors mean is in
`ollama_failures.py` and its likes. Messages name what to do next. They may quote the server's text, cut, and never
where it repeats the request or the answer.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

import httpx

from llmlab.core.backend import AttemptFailure, Timeouts
from llmlab.core.vocabulary import FailureReason

if TYPE_CHECKING:
    from collections.abc import Iterable

_R = FailureReason

LONGEST_QUOTE = 300
"""Characters of a server's text in a message."""

TRY_AGAIN = frozenset({408, 425, 499})
"""Statuses below 500 with which a server (or a proxy) says that it, and not the request, was too slow or too early."""


class Server(NamedTuple):
    """What kind of server it is: for the messages.

    Attributes:
        name: as in "Ollama at ... answered 500".
        missing: as in "no Ollama server at ...".
        unreachable: what to do where there is none.
    """

    name: str
    missing: str
    unreachable: str


class Where(NamedTuple):
    """Who was asked: for the messages."""

    server: Server
    url: str
    model: str = ""
    path: str = ""

    def __str__(self) -> str:
        return f"{self.server.name} at {self.url}"


class Failed(Exception):
    """Ends an attempt with a failure."""

    def __init__(self, failure: AttemptFailure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


def failure_of_exception(
    error: httpx.TransportError, where: Where, timeouts: Timeouts, *, status: int | None = None
) -> AttemptFailure:
    """Return the failure for an exception of httpx; `status` is that of the answer that had begun, if any.

    Raises:
        httpx.TransportError: the exception itself, where it is a mistake in the program and none of the server.
    """
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
            return malformed(f"{where} broke the HTTP protocol", status)
        case httpx.NetworkError() | httpx.RemoteProtocolError():
            message = f"the connection to {where.url} broke before the answer was complete"
            return AttemptFailure(_R.CONNECTION_LOST, message, status_code=status, cause=_without_secrets(error))
        case _:  # a URL or header that cannot be sent: a mistake in the program, not a failure of the server
            raise error
    return AttemptFailure(_R.ATTEMPT_TIMEOUT, what, status_code=status, cause=_without_secrets(error))


def _without_secrets(error: httpx.TransportError) -> httpx.TransportError:
    """Take the request out of an exception that is kept: its body is the prompt, and its headers may hold a key.

    Both are within reach of the stack's frames too, where some error reporters look.
    """
    request = getattr(error, "_request", None)  # `error.request` raises where there is none
    if request is not None:
        error.request = httpx.Request(request.method, request.url)
    inner: BaseException | None = error
    for _ in range(10):  # the bound is against a circle
        if inner is None:
            break
        inner.__traceback__ = None
        inner = inner.__cause__ or inner.__context__
    return error


# The words with which httpcore and h11 say that the peer went away; everything else is a breach of the protocol.
_CLOSED = re.compile(
    r"peer closed connection|server disconnected|peer unexpectedly closed|ConnectionClosed", re.IGNORECASE
)


def _no_connection(where: Where, detail: str, error: httpx.TransportError) -> AttemptFailure:
    message = f"{where.server.missing} at {where.url} ({detail}); {where.server.unreachable}"
    return AttemptFailure(_R.CONNECTION_FAILED, message, cause=_without_secrets(error))


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
    where: Where, timeouts: Timeouts, error: httpx.TransportError | None = None, *, status: int | None = None
) -> AttemptFailure:
    """Return the failure for an answer that did not begin in time."""
    what = f"{where} sent no first byte within {timeouts.first_byte} s (timeouts.first_byte)"
    message = f"{what}; it may be loading the model, or busy with the requests before this one"
    return AttemptFailure(_R.ATTEMPT_TIMEOUT, message, status_code=status, cause=error and _without_secrets(error))


def stalled(where: Where, timeouts: Timeouts, *, status: int) -> AttemptFailure:
    """Return the failure for an answer that began and stood still."""
    message = f"the answer of {where} stood still for {timeouts.between_chunks} s (timeouts.between_chunks)"
    return AttemptFailure(_R.ATTEMPT_TIMEOUT, message, status_code=status)


def malformed(message: str, status: int | None) -> AttemptFailure:
    """Return the failure for an answer that breaks the protocol."""
    return AttemptFailure(_R.MALFORMED_RESPONSE, message, status_code=status)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}..."


_WINDOW = 16


def quoted(text: str, private: Iterable[str]) -> str:
    """Return the server's text, cut; nothing of it where it repeats something private.

    Servers quote at most a character of a request that they cannot read, but what stands before it may quote all of it.
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
