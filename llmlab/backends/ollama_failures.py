"""What Ollama says when it refuses, in llmlab's words: from status and error text to a reason.

Pure. Statuses are not enough, for Ollama answers 500 to a mistake in the request and reports errors inside a 200; so
its texts are read where they say more. What fails below that, on the way, is in `http_failures.py`; the attempts that
meet all this are in `ollama_session.py`.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from llmlab.backends.http_failures import TRY_AGAIN, Server, Where, quoted
from llmlab.backends.http_transport import LONGEST_ERROR, retry_after
from llmlab.core.backend import AttemptFailure
from llmlab.core.settings import nearest
from llmlab.core.vocabulary import FailureReason

if TYPE_CHECKING:
    from collections.abc import Iterable

    import httpx

_R = FailureReason

OLLAMA = Server("Ollama", "no Ollama server", "start it with `ollama serve`, or set base_url or OLLAMA_HOST")

_CONTEXT = re.compile(
    r"exceed_context_size|(?:exceed|too long|longer than)[\w ()]{0,60}context|context length", re.IGNORECASE
)
_LENGTHS = re.compile(r"\((\d{1,12}) tokens\).{0,60}\((\d{1,12}) tokens\)", re.DOTALL)
_NO_MODEL = re.compile(r"model ['\"].*['\"] not found", re.IGNORECASE)
_BUSY = re.compile(r"server busy|maximum pending requests", re.IGNORECASE)
# The request's fault, although Ollama answers 500: an option or format of the wrong type fails every time.
_FAULT_OF_REQUEST = re.compile(r"option \".*\" must be of type|invalid format:", re.IGNORECASE)


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


def failure_of_answer(
    status: int, headers: httpx.Headers, body: bytes | None, where: Where, *, private: Iterable[str] = ()
) -> AttemptFailure:
    """Return the failure that an answer with an error status means.

    Args:
        status: the HTTP status.
        headers: its headers.
        body: its body, `None` where it was too long to read.
        where: who was asked.
        private: texts that the message must not repeat.
    """
    error = ServerError(f"(more than {LONGEST_ERROR} bytes, not read)") if body is None else read_error(body)
    return failure_of_error(status, error, where, private=private, wait=retry_after(headers))


def failure_of_error(
    status: int, error: ServerError, where: Where, *, private: Iterable[str] = (), wait: float | None = None
) -> AttemptFailure:
    """Return the failure for an error answer, or for an error line in a stream (its status is 200).

    Args:
        status: the HTTP status.
        error: what the server wrote.
        where: who was asked.
        private: texts that the message must not repeat: the prompt, the answer so far.
        wait: the wait that the server asked for, in seconds.
    """
    reason, advice, retryable = _meaning(status, error, where)
    said = quoted(error.text, private)
    answered = "reported an error in its answer" if status == 200 else f"answered {status}"
    parts = [f"{where} {answered}", f": {said}" if said else "", f"; {advice}" if advice else ""]
    if reason is _R.MODEL_NOT_FOUND:
        parts = [f"{where} has no model '{where.model}'; {advice}"]
    elif reason is _R.CONTEXT_LENGTH_EXCEEDED and error.prompt_tokens is not None:
        parts = [f"the prompt has {error.prompt_tokens} tokens, the context holds {error.context_tokens}; {advice}"]
    return AttemptFailure(reason, "".join(parts), status_code=status, retry_after=wait, retryable=retryable)


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
    if status in TRY_AGAIN or status >= 500:
        return _R.SERVER_ERROR, "see the server's log", False if status == 501 else None
    if status >= 400:
        return _R.INVALID_REQUEST, "", None
    return _R.MALFORMED_RESPONSE, "an answer has the status 200", None


def no_such_model(where: Where, installed: Iterable[str]) -> str:
    """Return the message for a model that is not there, where it is known which ones are."""
    names = [name.removesuffix(":latest") for name in installed]
    there = nearest(where.model.removesuffix(":latest"), names, called="installed") if names else "none is installed"
    pull = f"try `ollama pull {where.model}` (while a model is being pulled, it is not there yet)"
    return f"{where} has no model '{where.model}'; {there}; {pull}"


def no_model_installed(where: Where) -> AttemptFailure:
    """Return the failure for a server without any model to choose."""
    message = f"{where} has no model installed; get one with `ollama pull llama3.2`, or any other"
    return AttemptFailure(_R.MODEL_NOT_FOUND, message, status_code=200)


def _opened(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
