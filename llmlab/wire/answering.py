"""When each word of an answer comes, and what a fault makes of it: from a visit at the server to steps on the wire.

The times are those of `fault_effects.py`, which says what a client of llmlab's own makes of the same visit in memory.
"""

from __future__ import annotations

from math import ceil, inf
from typing import TYPE_CHECKING

from llmlab.backends.faults import FaultKind, Faults, with_spoilt_text
from llmlab.backends.http_answers import LONGEST_LINE
from llmlab.backends.token_stream import pieces
from llmlab.backends.waiting import wait_until
from llmlab.core.vocabulary import FailureReason
from llmlab.wire.dialect import Body, whole_answer
from llmlab.wire.exchange import Break, Head

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import AsyncGenerator, Iterator

    from llmlab.backends.visit import Instead, Visit
    from llmlab.core.backend import Answer
    from llmlab.wire.dialect import Asked, Words
    from llmlab.wire.exchange import Step

_K, _R = FaultKind, FailureReason
_PAGE = Body("text/html; charset=utf-8", b"<!doctype html><title>Sign in</title><p>Sign in to use this network.</p>")
_BREAKS = {
    _R.CONNECTION_FAILED: Break.REFUSED,
    _R.CONNECTION_LOST: Break.RESET,
}
_STATUSES = {
    _R.RATE_LIMITED: 429,
    _R.OVERLOADED: 503,
    _R.INVALID_REQUEST: 400,
    _R.CONTEXT_LENGTH_EXCEEDED: 400,
    _R.MODEL_NOT_FOUND: 404,
    _R.NOT_AUTHORISED: 401,
}


async def refused(loop: AbstractEventLoop, instead: Instead, words: Words) -> AsyncGenerator[Step, None]:
    """Yield what comes instead of an answer.

    A scripted failure without an error status is told as the wire can tell it: a timeout as silence, a lost connection
    as a reset, and what has no form of its own as an error 500.
    """
    failure, fault = instead.failure, instead.fault
    if fault is _K.CONNECT_STALL:
        yield Break.NO_CONNECTION
        return
    await wait_until(loop, loop.time() + instead.after)
    if failure.reason is _R.ATTEMPT_TIMEOUT:
        await wait_until(loop, inf)
    broken = _BREAKS.get(failure.reason)
    if broken is not None:
        yield broken
        return
    status = failure.status_code or _STATUSES.get(failure.reason, 500)
    status = status if status >= 400 else 500
    for step in whole_answer(status, words.error(status, failure.message), _wait_headers(failure.retry_after)):
        yield step


def _wait_headers(seconds: float | None) -> tuple[tuple[str, str], ...]:
    """Return the headers that ask for a wait: whole seconds, as the standard knows them, and the milliseconds."""
    if seconds is None:
        return ()
    return ("retry-after", str(ceil(seconds))), ("retry-after-ms", str(ceil(seconds * 1000)))


def answered(loop: AbstractEventLoop, visit: Visit, asked: Asked, faults: Faults) -> AsyncGenerator[Step, None]:
    """Return the steps of an answer, as far as its fault, if it has one, lets it through."""
    fault = visit.fault
    answer = visit.answer if fault is None else with_spoilt_text(fault, asked.request, visit.answer)
    slower = faults.slow_drip_factor if fault is _K.SLOW_DRIP else 1.0
    return (_streamed if asked.streamed else _whole)(loop, visit, answer, asked.words, slower)


async def _streamed(
    loop: AbstractEventLoop, visit: Visit, answer: Answer, words: Words, slower: float
) -> AsyncGenerator[Step, None]:
    left = iter(pieces(answer.text, answer.usage.output_tokens) if answer.text else ())
    first = inf
    while await visit.token():
        if first == inf:
            first = visit.at
            if visit.fault is _K.WRONG_CONTENT_TYPE:
                break
            yield Head(200, (("content-type", words.stream_type),))
        await wait_until(loop, first + (visit.at - first) * slower)
        piece = next(left, None)
        if piece is not None:
            yield words.piece(piece)
        if visit.fault is _K.STALL:
            await wait_until(loop, inf)
    if slower > 1.0:
        await wait_until(loop, first + (visit.at - first) * slower)
    for step in _ending(visit, answer, words, left):
        yield step


def _ending(visit: Visit, answer: Answer, words: Words, left: Iterator[str]) -> Iterator[Step]:
    """Yield what comes at the end of the work: the rest of the text and the end marker, or what a fault makes of it."""
    match visit.fault:
        case _K.WRONG_CONTENT_TYPE:
            yield from whole_answer(200, _PAGE)
            return
        case _K.CUT:
            yield Break.CUT
            return
        case _K.ERROR_IN_STREAM:
            yield words.broken("the server failed while it wrote its answer")
            return
        case _K.INVALID_UTF8:
            yield _no_utf8(words.piece(_REPLACED))
        case _K.MALFORMED_CHUNK:
            yield _no_json(words.piece(next(left, "")), words.line_end)
        case _K.HUGE_LINE:
            yield words.piece("x" * LONGEST_LINE)
    for piece in left:
        yield words.piece(piece)
    if visit.fault is not _K.NO_END_MARKER:
        yield words.last(answer, visit.phases())


async def _whole(
    loop: AbstractEventLoop, visit: Visit, answer: Answer, words: Words, slower: float
) -> AsyncGenerator[Step, None]:
    await visit.end()
    if visit.fault is _K.STALL:
        await wait_until(loop, inf)
    phases = visit.phases()
    await wait_until(loop, visit.at + phases.decode * (slower - 1.0))
    body = words.whole(answer, phases, complete=visit.fault is not _K.NO_END_MARKER)
    match visit.fault:
        case _K.WRONG_CONTENT_TYPE:
            steps: tuple[Step, ...] = whole_answer(200, _PAGE)
        case _K.ERROR_IN_STREAM:
            steps = whole_answer(500, words.error(500, "the server failed while it wrote its answer"))
        case _K.CUT:
            head, _ = whole_answer(200, Body(words.whole_type, body))
            steps = head, body[: len(body) // 2], Break.CUT
        case fault:
            steps = whole_answer(200, Body(words.whole_type, _mangled(fault, body, answer, words, visit)))
    for step in steps:
        yield step


def _mangled(fault: FaultKind | None, body: bytes, answer: Answer, words: Words, visit: Visit) -> bytes:
    """Return a whole body as a fault of the protocol leaves it."""
    match fault:
        case _K.INVALID_UTF8:
            return _no_utf8(words.whole(answer._replace(text=_REPLACED + answer.text), visit.phases()))
        case _K.MALFORMED_CHUNK:
            return _no_json(body, b"")
        case _K.HUGE_LINE:
            return words.whole(answer._replace(text="x" * LONGEST_LINE), visit.phases())
    return body


_REPLACED = "\ufffd"


def _no_utf8(data: bytes) -> bytes:
    return data.replace(_REPLACED.encode(), b"\xff\xfe")


def _no_json(data: bytes, line_end: bytes) -> bytes:
    return data.rstrip()[:-2] + line_end
