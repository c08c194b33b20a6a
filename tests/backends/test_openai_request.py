import json

import pytest
from pydantic import BaseModel

from llmlab.backends.openai_request import request_body
from llmlab.core.messages import LLMRequest, Message


def body_of(request, **settings):
    given = {
        "model": "m",
        "options": {},
        "max_tokens_field": "max_tokens",
        "strict_schema": False,
        "include_usage": False,
        **settings,
    }
    return json.loads(request_body(request, **given))


class Person(BaseModel):
    age: int


def test_a_prompt_is_one_message_of_the_user_and_the_answer_is_streamed():
    assert body_of(LLMRequest(prompt="Hi")) == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
    }


def test_token_counts_are_asked_for():
    assert body_of(LLMRequest(prompt="Hi"), include_usage=True)["stream_options"] == {"include_usage": True}


def test_a_request_with_everything():
    request = LLMRequest(
        messages=[Message(role="user", content="Hi"), Message(role="assistant", content="Yes?")],
        system="Be brief",
        max_tokens=7,
        temperature=0.5,
        stop=("END",),
        seed=3,
        response_format="json",
        metadata={"mine": 1},
    )
    assert body_of(request, options={"top_p": 0.9, "seed": 1, "temperature": 1}) == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief"},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Yes?"},
        ],
        "stream": True,
        "max_tokens": 7,
        "temperature": 0.5,
        "stop": ["END"],
        "seed": 3,
        "response_format": {"type": "json_object"},
        "top_p": 0.9,
    }


def test_the_field_of_max_tokens_is_a_setting():
    body = body_of(LLMRequest(prompt="Hi", max_tokens=7), max_tokens_field="max_completion_tokens")
    assert (body["max_completion_tokens"], "max_tokens" in body) == (7, False)


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        (Person, "Person"),
        ({"type": "object"}, "answer"),
        ({"title": "A person, in short"}, "A_person_in_short"),
        ({"title": "x" * 100}, "x" * 64),
        ({"title": 5}, "5"),
    ],
)
def test_a_schema_gets_a_name_that_servers_take(wanted, name):
    sent = body_of(LLMRequest(prompt="Hi", response_format=wanted))["response_format"]
    schema = wanted if isinstance(wanted, dict) else wanted.model_json_schema()
    assert sent == {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}


def test_a_schema_is_strict_where_that_is_set():
    request = LLMRequest(prompt="Hi", response_format=Person)
    assert body_of(request, strict_schema=True)["response_format"]["json_schema"]["strict"] is True


@pytest.mark.parametrize("prompt", ["naïve 😀", "half \ud83d a pair", "\x00\n"])
def test_any_text_can_be_sent(prompt):
    assert body_of(LLMRequest(prompt=prompt))["messages"][0]["content"] == prompt
