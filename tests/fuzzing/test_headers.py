"""Headers and heads of answers: waits, dates, addresses of any text, and HTTP that is none."""

import asyncio
import contextlib
import math
import time
from datetime import UTC, datetime
from functools import partial

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmlab import OllamaBackend, OpenAIBackend, SettingsError
from llmlab.backends.ollama_host import parse_host
from llmlab.backends.openai import _parse_url
from llmlab.backends.openai_waits import parse_duration, should_retry, wait_of
from llmlab.core.backend import Answer, AttemptFailure, AttemptKey, Timeouts, parse_attempt_header
from llmlab.core.messages import LLMRequest
from llmlab.core.retry_after import parse_http_date, parse_retry_after
from tests.fuzzing.strategies import few

NOW = datetime(2026, 11, 29, tzinfo=UTC)
LONGEST_WAIT_S = 400_000 * 365.25 * 86400  # a date of the year 9999 is in it, and nothing is that is not finite
LONG = 10**6

waits = st.one_of(
    st.text(max_size=40),
    st.from_regex("[0-9+\\-.eE_\u0660-\u0669 ]{0,20}"),
    st.from_regex(r"([0-9]{1,4}(ms|us|ns|h|m|s|d)){1,8}"),
    st.integers().map(str),
    st.floats().map(str),
    st.datetimes().map(lambda moment: moment.strftime("%a, %d %b %Y %H:%M:%S GMT")),
    st.tuples(st.integers(-5, 10**6), st.integers(-99999, 99999)).map(
        lambda given: f"Mon, 29 Feb {given[0]} 99:99:99 {given[1]:+05}"
    ),
)
ENDLESS = [
    "9" * LONG,
    "9" * LONG + "s",
    "1." + "0" * LONG,
    " " * LONG + "5",
    "1s" * LONG,
    "Mon, " * LONG,
    "\x00" * LONG,
]


@given(waits, waits)
@example("Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 +2359")
@example("Mon, 01 Jan 0001 00:00:00 +2359", "")
@example("1e999", "NaN")
@example("٣", "-1")
def test_any_wait_is_seconds_or_nothing(one, other):
    names = ("retry-after", "retry-after-ms", "date", "x-ratelimit-reset-requests", "x-ratelimit-remaining-tokens")
    found = [parse_retry_after(one, NOW), parse_duration(one)]
    for first in names:
        for second in names:
            found += [wait_of({first: one, second: other}, rate_limited=limited) for limited in (False, True)]
    assert all(wait is None or 0 <= wait < LONGEST_WAIT_S for wait in found)
    assert should_retry({"x-should-retry": one}) in {True, False, None}


@pytest.mark.parametrize("text", ENDLESS, ids=lambda text: text[:8])
def test_a_text_of_a_million_characters_is_no_wait_and_takes_no_time(text):
    began = time.process_time()
    assert parse_duration(text) in {None, 5.0}
    assert parse_http_date(text) is None
    assert parse_retry_after(text, NOW) in {None, 5.0}
    assert parse_attempt_header(text) is None
    wait_of({"retry-after": text, "x-ratelimit-reset-tokens": text, "retry-after-ms": text}, rate_limited=True)
    assert time.process_time() - began < 2.0, "seconds of the processor; what is quadratic would take hours"


hosts = st.one_of(
    st.text(max_size=60),
    st.from_regex(r"(https?://)?[\w.\-\[\]:%]{0,30}(:[0-9]{0,7})?(/[\w./%]*)?"),
    st.sampled_from(
        ["http://", "//", ":", "[", "[]", "[::1", "::ffff:1.2.3.4%eth0", "é.example", "a" * 300, "..", "%00"]
    ),
)


@given(hosts)
@example("x" * LONG)
@example("http://" + "[" * 1000)
@example("9" * LONG)
@example("http://" + "é" * 300)
@example("http://xn--a")
@example("1.2.3.4.5.6")
def test_any_address_is_one_that_requests_can_be_sent_to_or_refused(text):
    for read in (parse_host, partial(_parse_url, setting="base_url")):
        refused = None
        try:
            url = read(text)
        except SettingsError as error:
            refused = str(error)
        assert httpx.URL(url).host if refused is None else len(refused) < 1000
        with contextlib.nullcontext() if refused is None else pytest.raises(SettingsError):
            OllamaBackend(base_url=text)


# HTTP that is none: a server that writes what it likes


async def answered(wire):
    """Return what both backends make of a server that writes these bytes, without end where they have none."""

    async def serve(reader, writer):
        await reader.read(1)
        try:
            for data in wire():
                writer.write(data)
                await writer.drain()
            writer.close()
        except OSError:
            pass  # the client has heard enough

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    outcomes = []
    timeouts = Timeouts(first_byte=1.0, between_chunks=1.0)
    for backend in (OllamaBackend, OpenAIBackend):
        session = backend(base_url=f"http://127.0.0.1:{port}", model="m").session()
        asked = session.attempt(LLMRequest(prompt="Hello"), timeouts=timeouts, key=AttemptKey(0, 1))
        try:
            outcomes.append(await asyncio.wait_for(asked, 10.0))
        finally:
            await session.aclose()
    server.close()
    return outcomes


def repeated(data, times):
    def wire():
        for _ in range(times):
            yield data

    return wire


OK = b"HTTP/1.1 200 OK\r\n"
ODD = {
    "a gigabyte of a header": lambda: (piece for piece in [OK, b"x: ", *[b"9" * 65536] * 16384]),
    "a million headers": lambda: (piece for piece in [OK, *[b"a: b\r\n" * 1000] * 1000]),
    "a status line without end": repeated(b"HTTP/1.1 200 " + b"x" * 65536, 16384),
    "no HTTP": repeated(b"SSH-2.0-OpenSSH\r\n", 1),
    "nothing": repeated(b"", 1),
    "a length of thousands of digits": repeated(OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 1),
    "a length that is none": repeated(OK + b"Content-Length: -1\r\n\r\n", 1),
    "two lengths": repeated(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{", 1),
    "a chunk of a size of thousands of digits": repeated(OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 5000, 1),
    "a negative chunk": repeated(OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", 1),
    "an encoding that is none": repeated(OK + b"Transfer-Encoding: gzip\r\n\r\n{", 1),
    "a status of five digits": repeated(b"HTTP/1.1 20000 OK\r\n\r\n", 1),
    "a status of 000": repeated(b"HTTP/1.1 000 OK\r\n\r\n", 1),
    "a status of 999": repeated(b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n", 1),
    "switching protocols": repeated(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", 1),
    "another version": repeated(b"HTTP/9.9 200 OK\r\n\r\n", 1),
    "nul in a header": repeated(OK + b"a\x00b: c\x00\r\n\r\n", 1),
    "bytes that are no text in headers": repeated(OK + b"Content-Type: \xff\xfe\xc3\r\nRetry-After: \xff\r\n\r\n", 1),
    "an encoding that is not there": repeated(OK + b"Content-Type: text/plain; charset=\xff\r\n\r\n{", 1),
    "hundreds of 100s": repeated(b"HTTP/1.1 100 Continue\r\n\r\n", 500),
    "an error with waits of all kinds": repeated(
        b"HTTP/1.1 429 Too Many\r\nRetry-After: " + b"9" * 5000 + b"\r\nDate: \xff\r\nContent-Length: 0\r\n\r\n", 1
    ),
}


@pytest.mark.parametrize("wire", ODD.values(), ids=ODD)
def test_http_that_is_none_is_a_failure_with_a_word_for_it(wire):
    for outcome in asyncio.run(answered(wire)):
        assert isinstance(outcome, AttemptFailure)
        assert outcome.reason in {
            "malformed_response",
            "connection_lost",
            "server_error",
            "rate_limited",
            "attempt_timeout",
        }
        assert outcome.retry_after is None or math.isfinite(outcome.retry_after)
        assert len(outcome.message) < 1000


HEAD = OK + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nRetry-After: 1\r\n\r\n"
LINE = b'{"response":"a","done":true}\n'
WHOLE = HEAD + b"%x\r\n" % len(LINE) + LINE + b"\r\n0\r\n\r\n"
edits = st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.binary(max_size=3)), min_size=1, max_size=4)


@few
@given(edits)
def test_http_with_a_few_bytes_changed_is_an_answer_or_a_failure(edits):
    changed = bytearray(WHOLE)
    for at, new in edits:
        changed[at : at + 1] = new
    for outcome in asyncio.run(answered(repeated(bytes(changed), 1))):
        assert isinstance(outcome, Answer | AttemptFailure)
