import json
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmlab.backends import http_answers, openai_protocol
from llmlab.backends.http_answers import ProtocolBreach, ReportedError
from llmlab.backends.openai_protocol import StreamReader, WholeReader, models_of
from llmlab.core.backend import Answer, AttemptFailure
from llmlab.core.vocabulary import FailureReason, FinishReason
from tests.openai_replay import DONE, LAST, chunk, event, recorded, usage, whole


def read(data: bytes, cuts: tuple[int, ...] = (), *, strict_end: bool = True) -> StreamReader:
    reader = StreamReader(strict_end=strict_end)
    places = [0, *sorted({min(cut, len(data)) for cut in cuts}), len(data)]
    for start, end in pairwise(places):
        reader.feed(data[start:end])
    reader.finish()
    return reader


def read_whole(data: bytes) -> WholeReader:
    reader = WholeReader()
    reader.feed(data)
    reader.finish()
    return reader


def answer_of(data: bytes, **settings) -> Answer:
    outcome = read(data, **settings).answer(model="asked", time_to_first_token=0.5)
    assert isinstance(outcome, Answer)
    return outcome


def whole_answer_of(data: bytes) -> Answer:
    outcome = read_whole(data).answer(model="asked", time_to_first_token=0.5)
    assert isinstance(outcome, Answer)
    return outcome


# Streams

ANSWER = (
    b": OPENROUTER PROCESSING\n\n"
    + chunk("", role="assistant")
    + chunk("Grüße").replace(b"\\u00fc", "ü".encode())
    + chunk(" 😀").replace(b"\n\n", b"\r\n\r\n")
    + chunk(None)
    + chunk(finish="stop", content=None)
    + usage()
    + DONE
)


@settings(deadline=None)  # a busy machine is no finding
@given(st.lists(st.integers(0, len(ANSWER)), max_size=12))
@example(list(range(len(ANSWER))))
def test_an_answer_reads_the_same_however_it_is_cut(cuts):
    reader = read(ANSWER, tuple(cuts))
    assert list(reader.pieces) == ["Grüße", " 😀"]
    assert reader.answer(model="asked", time_to_first_token=0.5) == Answer(
        "Grüße 😀", "m", (3, 2), FinishReason.STOP, 0.5
    )


PIECES = st.sampled_from(
    [
        chunk("a"),
        chunk(finish="length"),
        chunk(refusal="no"),
        usage(),
        DONE,
        event({"error": {"message": "broke"}}),
        event([]),
        b"data: {\n\n",
        b": x\n",
        b"\r",
        b"\n",
        b"data: \xff\n\n",
    ]
)


@settings(deadline=None)
@given(st.lists(PIECES, max_size=8).map(b"".join), st.lists(st.integers(0, 900), max_size=12), st.booleans())
def test_any_stream_ends_the_same_way_however_it_is_cut(data, cuts, strict_end):
    def ending(cuts):
        reader = StreamReader(strict_end=strict_end)
        places = [0, *sorted({min(cut, len(data)) for cut in cuts}), len(data)]
        try:
            for start, end in pairwise(places):
                reader.feed(data[start:end])
            reader.finish()
        except (ProtocolBreach, ReportedError) as error:
            return list(reader.pieces), repr(error), getattr(error, "error", None)
        return list(reader.pieces), reader.answer(model="", time_to_first_token=None), None

    assert ending(cuts) == ending([])


def test_what_follows_the_end_marker_is_not_read():
    assert answer_of(chunk("a") + LAST + b"data: \xff nonsense\n\n").text == "a"


def test_the_end_marker_needs_no_blank_line():
    assert answer_of(chunk("a") + chunk(finish="stop") + b"data: [DONE]").text == "a"


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("stop", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
        ("content_filter", FinishReason.CONTENT_FILTER),
        ("tool_calls", FinishReason.TOOL_CALLS),
        ("function_call", FinishReason.TOOL_CALLS),
        ("abort", FinishReason.OTHER),
        (7, FinishReason.OTHER),
    ],
)
def test_finish_reasons(word, reason):
    assert answer_of(chunk("a") + chunk(finish=word) + DONE).finish_reason is reason
    assert whole_answer_of(whole(finish=word)).finish_reason is reason


def test_a_refusal_is_a_filtered_answer_without_its_words():
    answer = answer_of(chunk(refusal="I cannot") + chunk(refusal=" help") + chunk(finish="stop") + DONE)
    assert (answer.text, answer.finish_reason) == ("", FinishReason.CONTENT_FILTER)
    answer = whole_answer_of(whole(None, refusal="I cannot help"))
    assert (answer.text, answer.finish_reason) == ("", FinishReason.CONTENT_FILTER)


CALL = [{"index": 0, "id": "1", "function": {"name": "f", "arguments": "{}"}}]


def test_a_tool_call_without_text_is_no_output_and_not_worth_another_try():
    readers = (
        read(chunk(None, tool_calls=CALL) + chunk(finish="tool_calls") + DONE),
        read_whole(whole(None, finish="tool_calls", tool_calls=CALL)),
    )
    for reader in readers:
        outcome = reader.answer(model="", time_to_first_token=None)
        assert isinstance(outcome, AttemptFailure)
        assert (outcome.reason, outcome.is_retryable) == (FailureReason.EMPTY_OUTPUT, False)
        assert "called a tool" in outcome.message


def test_a_tool_call_beside_a_text_leaves_the_text():
    answer = answer_of(chunk("a") + chunk(None, tool_calls=CALL) + chunk(finish="tool_calls") + DONE)
    assert (answer.text, answer.finish_reason) == ("a", FinishReason.TOOL_CALLS)


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_a_thought_is_the_first_token_and_no_text(name):
    reader = StreamReader()
    reader.feed(chunk("", role="assistant"))
    assert not reader.has_token
    reader.feed(chunk(None, **{name: "Hm"}))
    assert reader.has_token
    assert reader.text == ""


def test_only_the_first_choice_is_read():
    other = event({"choices": [{"index": 1, "delta": {"content": "x"}, "finish_reason": "length"}]})
    answer = answer_of(chunk("a") + other + chunk(finish="stop") + DONE)
    assert (answer.text, answer.finish_reason) == ("a", FinishReason.STOP)


@pytest.mark.parametrize("choices", [{}, {"choices": []}, {"choices": None}])
def test_the_token_counts_come_without_choices(choices):
    counts = event({"usage": {"prompt_tokens": 3, "completion_tokens": 2}, **choices})
    assert answer_of(chunk("a") + chunk(finish="stop") + counts + DONE).usage == (3, 2)


def test_the_last_token_counts_are_those_of_the_answer():
    assert answer_of(chunk("a") + usage(3, 1) + chunk(finish="stop") + usage(3, 2) + DONE).usage == (3, 2)


@pytest.mark.parametrize("count", [None, "3", 1.5, -1, True, [3]])
def test_a_count_that_is_none_is_unknown(count):
    assert answer_of(chunk("a") + chunk(finish="stop") + usage(count, count) + DONE).usage == (None, None)


def test_the_model_that_was_asked_stands_in_where_the_server_names_none():
    assert answer_of(event({"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}) + DONE).model == "asked"


# How streams end


def test_an_end_without_finish_reason_or_end_marker_is_a_breach():
    for strict_end in (True, False):
        with pytest.raises(ProtocolBreach, match=r"ended after 2 events without \[DONE\]"):
            read(chunk("a") + chunk("b"), strict_end=strict_end)


def test_a_missing_end_marker_is_a_breach_unless_that_is_the_servers_way():
    data = chunk("a") + chunk(finish="stop")
    with pytest.raises(ProtocolBreach, match=r"without \[DONE\]; .* set strict_end=False"):
        read(data)
    assert answer_of(data, strict_end=False).finish_reason is FinishReason.STOP


def test_a_missing_finish_reason_is_a_breach_unless_that_is_the_servers_way():
    with pytest.raises(ProtocolBreach, match=r"without a finish_reason, .* set strict_end=False"):
        read(chunk("a") + DONE)
    assert answer_of(chunk("a") + DONE, strict_end=False).finish_reason is FinishReason.OTHER


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "the stream ended after 0 events"),
        (b"data: nonsense\n\n", "event 1 of the answer is not JSON"),
        (chunk("a") + b'data: {"choices"', "event 2 of the answer is not JSON"),
        (b"data: " + b"[" * 100_000 + b"\n\n", "is not JSON"),
        (b"data: []\n\n", "is JSON, but not an object"),
        (b'data: {"choices": "\xff"}\n\n', "is not UTF-8"),
        (event({"choices": "nonsense"}), 'has "choices" that are not a list'),
        (event({"choices": ["nonsense"]}), "has a choice that is not an object"),
        (event({"choices": [{"delta": "nonsense"}]}), 'has a "delta" that is not an object'),
        (event({"choices": [{"delta": {"content": ["nonsense"]}}]}), 'has a "content" that is no text'),
        (b'data: {"choices":[{"delta":{"content":"\\ud83d"}}]}\n\n', "half a surrogate pair"),
        (b'{"nonsense": 1}', "the stream ended after 0 events"),
    ],
)
def test_what_breaks_the_protocol_is_named_and_not_quoted(data, why):
    with pytest.raises(ProtocolBreach) as caught:
        read(data)
    assert why in str(caught.value)
    assert "nonsense" not in str(caught.value)
    assert caught.value.__cause__ is None, "the exception of the parser holds the model's text"


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (event({"error": {"message": "broke", "code": 502}}), {"message": "broke", "code": 502}),
        (event({"error": "broke"}), "broke"),
        (event({"error": {"message": "broke"}, "choices": []}), {"message": "broke"}),
        (event({"object": "error", "message": "broke"}), {"object": "error", "message": "broke"}),
        (b'error: {"code":500,"message":"broke"}\n\n', {"code": 500, "message": "broke"}),
        (event({"choices": [{"delta": {}, "error": {"message": "broke"}}]}), {"message": "broke"}),
        (event({"choices": [{"delta": {}, "finish_reason": "error"}]}), "the model behind it failed"),
    ],
)
def test_an_error_in_the_stream_ends_the_answer(data, error):
    reader = StreamReader()
    with pytest.raises(ReportedError) as caught:
        reader.feed(chunk("a") + data)
    assert caught.value.error == error
    assert list(reader.pieces) == ["a"]


def test_an_answer_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(http_answers, "LONGEST_ANSWER", 1000)
    reader = StreamReader()
    reader.feed(chunk("x" * 1000))
    with pytest.raises(ProtocolBreach, match="the answer is longer than 1000 characters"):
        reader.feed(chunk("x"))


# One object


def test_an_answer_that_is_one_object_has_no_time_to_its_first_token():
    assert whole_answer_of(whole("ab")) == Answer("ab", "m", (3, 2), FinishReason.STOP, None)
    assert whole_answer_of(whole("ab", finish=None)).finish_reason is FinishReason.OTHER


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "the answer is not JSON"),
        (b"nonsense", "the answer is not JSON"),
        (b"[]", "the answer is JSON, but not an object"),
        (b"{}", "the answer has no choices"),
        (whole()[:-9], "the answer is not JSON"),
    ],
)
def test_an_object_that_is_no_answer_is_a_breach(data, why):
    with pytest.raises(ProtocolBreach, match=why):
        read_whole(data)


def test_an_error_may_come_with_the_status_200():
    with pytest.raises(ReportedError) as caught:
        read_whole(b'{"error": {"message": "broke"}}')
    assert caught.value.error == {"message": "broke"}


def test_an_object_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(openai_protocol, "LONGEST_LINE", 1000)
    with pytest.raises(ProtocolBreach, match="longer than 1000 bytes"):
        read_whole(b"x" * 1001)


# Models


def test_the_models_are_listed():
    (listing,) = recorded("v1_models")
    names = [f"{name}:latest" for name in ("tiny-slow", "tiny-bytes", "tiny-eos", "tiny-repeat", "tiny")]
    assert models_of(listing.chunks[0].data) == names
    assert models_of(b'{"data": null}') == []


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b"nonsense", b"\xff", b'{"data":5}', b'{"data":[5]}', b'{"data":[{}]}', b'{"data":[{"id":5}]}'],
)
def test_what_is_no_list_of_models_is_a_breach(body):
    with pytest.raises(ProtocolBreach, match="/models"):
        models_of(body)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["content", "id", "x"]), inner),
    max_leaves=4,
)


def objects(*names: str, holding: st.SearchStrategy = VALUES) -> st.SearchStrategy:
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, holding))


MESSAGES = objects("content", "refusal", "tool_calls", "reasoning")
CHOICES = objects("index", "finish_reason", "error") | objects("delta", "message", holding=MESSAGES)
CHUNKS = objects("choices", "usage", "error", "object", "model", "data") | objects(
    "choices", holding=st.lists(CHOICES, max_size=2)
)


@settings(deadline=None)
@given(VALUES | CHUNKS)
def test_any_json_is_read_or_refused(value):
    data = json.dumps(value).encode()
    for read_it, sent in ((read, event(value)), (read, event(value) + DONE), (read_whole, data), (models_of, data)):
        with suppress(ProtocolBreach, ReportedError):
            read_it(sent)
