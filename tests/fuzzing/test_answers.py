"""Whatever bytes a server sends, a reader of answers ends with an answer or a word for what is wrong, within bounds."""

import contextlib
import itertools
import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab import EventLog, LocalLLM, OpenAILLM
from llmlab.backends import http_answers, ollama_description, ollama_failures, openai_failures
from llmlab.backends.http_answers import LONGEST_LINE, ProtocolBreach, ReportedError
from llmlab.backends.http_failures import Where
from llmlab.backends.ollama_protocol import LineReader
from llmlab.backends.openai_protocol import StreamReader, WholeReader, models_of
from llmlab.core.backend import Answer, AttemptFailure
from llmlab.core.vocabulary import FinishReason
from llmlab.server.replay import ReplayServer
from tests import ollama_replay, openai_replay
from tests.fuzzing.strategies import as_json, deep, few, mutated, pieces, spoilt, values

READERS = {
    LineReader: ollama_replay.line("Hel") + ollama_replay.line("lo") + ollama_replay.LAST,
    StreamReader: openai_replay.chunk("Hel") + openai_replay.chunk("lo") + openai_replay.LAST,
    WholeReader: openai_replay.whole("Hello"),
}
each_reader = pytest.mark.parametrize("reader", READERS)


def read(reader, parts):
    """Return what a reader makes of bytes in pieces: an outcome, or the kind of its objection; and the text so far."""
    reading = reader()
    try:
        for part in parts:
            reading.feed(part)
            reading.pieces.clear()
        if not reading.is_complete:
            reading.finish()
        outcome = reading.answer(model="m", time_to_first_token=None)
    except (ProtocolBreach, ReportedError) as error:
        return type(error), reading.text
    assert isinstance(outcome, Answer | AttemptFailure)
    return outcome, reading.text


@each_reader
def test_the_good_bytes_are_an_answer(reader):
    outcome, text = read(reader, [READERS[reader]])
    assert (outcome.text, text, outcome.finish_reason) == ("Hello", "Hello", FinishReason.STOP)


@each_reader
@few
@given(data=st.data())
def test_spoilt_bytes_in_any_pieces_are_an_answer_or_a_breach(reader, data):
    parts = data.draw(pieces(spoilt(READERS[reader])))
    outcome, text = read(reader, parts)
    assert (outcome, text) == read(reader, [b"".join(parts)]), "the cuts make no difference"


@each_reader
@few
@given(parts=pieces(st.binary(max_size=300)))
def test_any_bytes_are_an_answer_or_a_breach(reader, parts):
    assert read(reader, parts) == read(reader, [b"".join(parts)])


ENVELOPES = [
    (LineReader, lambda value: as_json(value) + b"\n"),
    (StreamReader, lambda value: b"data: " + as_json(value) + b"\n\n"),
    (WholeReader, as_json),
]
LINE = json.loads(ollama_replay.LAST)
EVENT = json.loads(openai_replay.chunk("a", finish="stop")[6:])
WHOLE = json.loads(openai_replay.whole())


@pytest.mark.parametrize(("reader", "packed"), ENVELOPES)
@few
@given(value=values | mutated(LINE) | mutated(EVENT) | mutated(WHOLE))
def test_any_json_is_an_answer_or_a_breach_and_its_numbers_fit_into_events(reader, packed, value):
    outcome, _ = read(reader, [packed(value), packed(value)])
    if isinstance(outcome, Answer):
        assert all(count is None or 0 <= count < 2**53 for count in outcome.usage)
        assert isinstance(outcome.model, str)


@each_reader
@given(
    nested=deep, inside=st.sampled_from([b"%b", b'{"done":%b}', b'{"choices":%b}', b'{"error":%b}', b'{"object":%b}'])
)
def test_nesting_of_any_depth_is_refused(reader, nested, inside):
    data = inside.replace(b"%b", nested)
    for packed in (data + b"\n", b"data: " + data + b"\n\n"):
        assert read(reader, [packed])[0] in (ProtocolBreach, ReportedError)


WORDS = [
    b"NaN",
    b"1e999",
    b"-Infinity",
    b"9" * 5000,
    b"0." + b"9" * 5000,
    b'"\\ud800"',
    b"\xff",
    b'"\x00"',
    b"\xef\xbb\xbf1",
]


@pytest.mark.parametrize("word", WORDS)
def test_words_that_json_or_its_readers_stumble_over_are_no_answer_or_no_number(word):
    for place in (b"prompt_eval_count", b"done_reason", b"response", b"done", b"model"):
        outcome, _ = read(LineReader, [b'{"response":"a","done":true,"%b":%b}\n' % (place, word)])
        assert outcome is ProtocolBreach or (isinstance(outcome, Answer) and outcome.usage.input_tokens is None)
    for place in (b"choices", b"usage", b"object", b"model"):
        assert read(StreamReader, [b'data: {"%b":%b}\n\n' % (place, word)])[0] is ProtocolBreach


@few
@given(value=values)
def test_any_error_body_is_a_failure(value):
    where = Where(ollama_failures.OLLAMA, "http://127.0.0.1:1", "m", "/api/generate")
    for body in (as_json(value), as_json({"error": value}), as_json({"detail": [value]}), b"{" + as_json(value), None):
        for status in (200, 301, 400, 401, 404, 413, 429, 500, 503, 529, 599, 999):
            first = ollama_failures.failure_of_answer(status, {}, body, where, private=["secret", ""])
            second = openai_failures.failure_of_answer(status, {}, body, where, private=["secret", ""])
            assert max(len(first.message), len(second.message)) < 1000


@few
@given(value=values | mutated({"models": [{"name": "a", "size": 1, "details": {"family": "f"}, "expires_at": "2026"}]}))
def test_any_listing_is_read_or_a_breach(value):
    readers = ["read_installed", "read_loaded", "read_version", "read_slots"]
    for read_one in [*(getattr(ollama_description, name) for name in readers), models_of]:
        with contextlib.suppress(ProtocolBreach):
            read_one(as_json(value))


def test_a_count_of_thousands_of_digits_ends_no_log():
    log, huge = EventLog(), b'{"response":"a","done":true,"eval_count":%b}\n' % (b"9" * 4000)
    with ReplayServer([ollama_replay.answer(huge)]) as server:
        result = LocalLLM(base_url=server.url, model="m", observers=[log]).generate("Hello")
    assert result.usage.output_tokens is None
    assert len(log.attempts) == len(log.calls) == 1


# Limits: the bytes are made as they are read, so that what is held is the reader's own


def peak(work):
    """Return what work returns, and the most memory that it held at once, in bytes."""
    tracemalloc.start()
    try:
        result = work()
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


GIGABYTE = 16 * 1024  # pieces of 64 KiB


@each_reader
@pytest.mark.parametrize("begin", [b"", b'{"response":"', b"data: ", b": ", b'data: {"choices":[{"delta":{"content":"'])
def test_a_line_of_a_gigabyte_is_refused_at_its_limit(reader, begin):
    taken = []

    def endless():
        yield begin
        for number in range(GIGABYTE):
            taken.append(number)
            yield b"x" * 65536

    (outcome, _), most = peak(lambda: read(reader, endless()))
    assert outcome is ProtocolBreach
    assert len(taken) <= LONGEST_LINE // 65536 + 1
    assert most < 3 * LONGEST_LINE


def test_an_answer_without_end_is_refused_at_its_limit(monkeypatch):
    monkeypatch.setattr(http_answers, "LONGEST_ANSWER", 10_000)
    for reader, piece in ((LineReader, ollama_replay.line("中")), (StreamReader, openai_replay.chunk("中"))):
        (outcome, text), most = peak(lambda reader=reader, piece=piece: read(reader, itertools.repeat(piece * 100)))
        assert outcome is ProtocolBreach
        assert len(text) == 10_000
        assert most < 40 * 10_000, "a character takes a few bytes, however finely the answer is cut"


def test_lines_and_comments_without_text_hold_nothing():
    for reader, piece in ((LineReader, b"\n" * 1000), (StreamReader, b": still here\n\n" * 100)):
        reading = reader()
        _, most = peak(lambda reading=reading, piece=piece: [reading.feed(piece) for _ in range(300)])
        assert most < 100_000


@pytest.mark.parametrize("kind", ["text/event-stream", "application/json"])
def test_an_answer_without_end_ends_at_the_attempts_timeout(kind):
    exchange = openai_replay.answer(b": wait\n\n" if "event" in kind else b"{", kind=kind, ending="stall")
    with ReplayServer([exchange]) as server:
        llm = OpenAILLM(base_url=f"{server.url}/v1", model="m", attempt_timeout=0.2, max_retries=0)
        assert llm.generate("Hello").reason == "attempt_timeout"
        assert server.wait_until_closed()
