import json
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from llmlab.backends import http_answers, ollama_protocol
from llmlab.backends.http_answers import ProtocolBreach, ReportedError
from llmlab.backends.ollama_protocol import LineReader, request_body
from llmlab.core.messages import LLMRequest, Message
from llmlab.core.vocabulary import FinishReason
from tests.ollama_replay import LAST, line


def body_of(request: LLMRequest, endpoint="generate", **settings):
    given = {"model": "m", "options": {}, "keep_alive": None, **settings}
    return json.loads(request_body(request, endpoint=endpoint, **given))


def read(data: bytes, cuts: tuple[int, ...] = ()) -> LineReader:
    reader = LineReader()
    places = [0, *sorted({min(cut, len(data)) for cut in cuts}), len(data)]
    for start, end in pairwise(places):
        reader.feed(data[start:end])
    reader.finish()
    return reader


def test_every_request_streams_and_forbids_to_cut_the_prompt():
    assert body_of(LLMRequest(prompt="Hi")) == {
        "model": "m",
        "prompt": "Hi",
        "stream": True,
        "truncate": False,
        "options": {},
    }


def test_a_prompt_with_everything_becomes_a_generate_body():
    class Person(BaseModel):
        age: int

    request = LLMRequest(
        prompt="Hi",
        system="Be brief",
        max_tokens=7,
        temperature=0.5,
        stop=("END",),
        seed=3,
        response_format=Person,
        metadata={"mine": 1},
    )
    assert body_of(request, options={"num_ctx": 8192, "seed": 1}, keep_alive="10m") == {
        "model": "m",
        "prompt": "Hi",
        "system": "Be brief",
        "stream": True,
        "truncate": False,
        "format": Person.model_json_schema(),
        "keep_alive": "10m",
        "options": {"num_ctx": 8192, "num_predict": 7, "temperature": 0.5, "stop": ["END"], "seed": 3},
    }


def test_messages_become_a_chat_body_with_the_system_text_first():
    messages = (Message(role="user", content="Hi"), Message(role="assistant", content="Yes?"))
    body = body_of(LLMRequest(messages=messages, system="Be brief", response_format="json"), "chat")
    assert body["messages"] == [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
    ]
    assert body["format"] == "json"
    assert not {"prompt", "system", "keep_alive"} & body.keys()


def test_a_prompt_can_be_sent_as_a_chat():
    assert body_of(LLMRequest(prompt="Hi"), "chat")["messages"] == [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize("prompt", ["naïve 😀", "half \ud83d a pair", "\x00\n"])
def test_any_text_can_be_sent(prompt):
    assert body_of(LLMRequest(prompt=prompt))["prompt"] == prompt


ANSWER = line("Grüße") + line(" 😀") + b"\n \r\n" + line("!") + LAST


@settings(deadline=None)  # a busy machine is no finding
@given(st.lists(st.integers(0, len(ANSWER)), max_size=12))
@example(list(range(len(ANSWER))))
def test_an_answer_reads_the_same_however_it_is_cut(cuts):
    reader = read(ANSWER, tuple(cuts))
    answer = reader.answer(model="asked", time_to_first_token=0.5)
    assert answer.text == "Grüße 😀!"
    assert list(reader.pieces) == ["Grüße", " 😀", "!"]
    assert (answer.model, answer.usage, answer.finish_reason) == ("m", (3, 2), FinishReason.STOP)


def test_the_last_line_needs_no_line_end_and_what_follows_it_is_not_read():
    assert read(line("a") + LAST.rstrip()).text == "a"
    assert read(line("a") + LAST + b"\xff nonsense\n").text == "a"


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("stop", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
        ("load", FinishReason.OTHER),
        ("unload", FinishReason.OTHER),
        ("something new", FinishReason.OTHER),
        (None, FinishReason.OTHER),
        (7, FinishReason.OTHER),
    ],
)
def test_done_reasons(word, reason):
    assert read(line(done=True, done_reason=word)).answer(model="", time_to_first_token=None).finish_reason is reason


@pytest.mark.parametrize("count", [None, "3", 1.5, -1, True, [3]])
def test_a_count_that_is_none_is_unknown(count):
    answer = read(line("a", done=True, prompt_eval_count=count)).answer(model="asked", time_to_first_token=None)
    assert answer.usage == (None, None)


def test_the_model_that_was_asked_stands_in_where_the_server_names_none():
    data = b'{"response":"a","done":true}'
    assert read(data).answer(model="asked", time_to_first_token=None).model == "asked"


def test_a_thought_is_the_first_token_and_no_text():
    reader = LineReader()
    reader.feed(b'{"message":{"role":"assistant","content":"","thinking":"Hm"},"done":false}\n')
    assert reader.has_token
    assert reader.text == ""


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "the stream ended after 0 lines"),
        (line("a"), 'the stream ended after 1 line without "done": true'),
        (line("a") + LAST[:-9], "line 2 of the answer is not JSON"),
        (b"nonsense\n", "line 1 of the answer is not JSON"),
        (b"data: {}\n", "is not JSON"),
        (b"[" * 100_000 + b"\n", "is not JSON"),
        (b'{"response":' + b"9" * 5000 + b"}\n", "is not JSON"),
        (b"[]\n", "is JSON, but not an object"),
        (b"null\n", "not an object"),
        (b'{"response":"\xff","done":false}\n', "is not UTF-8"),
        ('{"response":"a"}\n'.encode("utf-16"), "is not UTF-8"),
        (b'{"response":"\\ud83d","done":false}\n', "half a surrogate pair"),
        (b'{"response":5,"done":false}\n', 'has no text in "response"'),
        (b'{"response":null,"done":true}\n', 'has no text in "response"'),
        (b'{"done":false}\n', 'has no text in "response"'),
        (b'{"message":"a","done":false}\n', 'has a "message" that is not an object'),
        (b'{"message":{"content":5},"done":false}\n', 'has no text in "content"'),
        (b'{"response":"a","done":"yes"}\n', 'has a "done" that is neither true nor false'),
    ],
)
def test_what_breaks_the_protocol_is_named_and_not_quoted(data, why):
    with pytest.raises(ProtocolBreach) as caught:
        read(data)
    assert why in str(caught.value)
    assert "nonsense" not in str(caught.value)
    assert caught.value.__cause__ is None, "the exception of the parser holds the model's text"


def test_pieces_before_a_breach_are_kept():
    reader = LineReader()
    with pytest.raises(ProtocolBreach):
        reader.feed(line("a") + line("b") + b"nonsense\n")
    assert list(reader.pieces) == ["a", "b"]


@pytest.mark.parametrize("error", ["it broke", {"message": "it broke"}, ["it broke"]])
def test_an_error_line_ends_the_answer(error):
    reader = LineReader()
    with pytest.raises(ReportedError) as caught:
        reader.feed(line("a") + json.dumps({"error": error}).encode() + b"\n")
    assert caught.value.error == error
    assert list(reader.pieces) == ["a"]


def test_a_line_without_end_is_refused_before_it_fills_the_memory(monkeypatch):
    monkeypatch.setattr(ollama_protocol, "LONGEST_LINE", 1000)
    reader = LineReader()
    reader.feed(b"x" * 1000)
    with pytest.raises(ProtocolBreach, match="a line is longer than 1000 bytes"):
        reader.feed(b"x")


def test_an_answer_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(http_answers, "LONGEST_ANSWER", 1000)
    reader = LineReader()
    reader.feed(line("x" * 1000))
    with pytest.raises(ProtocolBreach, match="the answer is longer than 1000 characters"):
        reader.feed(line("x"))
