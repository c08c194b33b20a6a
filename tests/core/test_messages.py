import copy
import dataclasses
import pickle
from dataclasses import FrozenInstanceError

import pytest
from pydantic import BaseModel

from llmlab import (
    Answer,
    FailureReason,
    Fate,
    FinishReason,
    LLMError,
    LLMFailure,
    LLMRequest,
    LLMResponse,
    Message,
    SettingsError,
    Usage,
)
from llmlab.core.messages import to_request

SECRET = "the canary's secret"
RESPONSE = LLMResponse(
    text="Hi <b>",
    model="m",
    usage=Usage(1, 2),
    finish_reason=FinishReason.STOP,
    latency=0.5,
    time_to_first_token=0.1,
    attempts=1,
)
FAILURE = LLMFailure(
    reason=FailureReason.OVERLOADED,
    retryable=True,
    message="busy",
    fate=Fate.RETRIES_EXHAUSTED,
    attempts=3,
    latency=1.5,
    status_code=503,
    retry_after=2.0,
    last_reason=FailureReason.OVERLOADED,
    cause=OSError("below"),
)


@pytest.mark.parametrize(
    "request_",
    [
        LLMRequest(prompt=SECRET, system=SECRET),
        LLMRequest(messages=[{"role": "user", "content": SECRET}], system=SECRET),
        Message(role="user", content=SECRET),
    ],
)
def test_no_way_of_showing_a_request_shows_its_prompt(request_):
    for shown in (repr(request_), str(request_), f"{request_}", f"{[request_]}", "%s %r" % (request_, request_)):  # noqa: UP031
        assert "canary" not in shown
        assert f"<{len(SECRET)} characters>" in shown


def test_a_request_shows_what_was_given_and_nothing_else():
    assert repr(LLMRequest(prompt="Hello", max_tokens=5)) == "LLMRequest(prompt=<5 characters>, max_tokens=5)"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "LLMRequest needs a prompt or messages, got neither"),
        ({"prompt": "a", "messages": []}, "LLMRequest takes a prompt or messages, got both"),
        ({"prompt": 5}, "prompt must be a valid string, got 5"),
        ({"prompt": b"a"}, None),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens must be 1 or more, got 0"),
        ({"prompt": "a", "temperature": -0.1}, "temperature must be 0 or more, got -0.1"),
        ({"prompt": "a", "temperature": float("nan")}, "temperature must be a finite number, got NaN"),
        ({"prompt": "a", "model": ""}, "model must"),
        ({"prompt": "a", "seed": "x"}, "seed must be a valid integer"),
        ({"prompt": "a", "response_format": "xml"}, "must be 'json', a JSON schema as a dict, or a pydantic model"),
        ({"prompt": "a", "response_format": int}, "must be 'json', a JSON schema as a dict, or a pydantic model"),
        ({"prompt": "a", "max_token": 3}, "LLMRequest has no setting 'max_token'; did you mean 'max_tokens'?"),
        ({"messages": [{"role": "bot", "content": "a"}]}, "'system', 'user', 'assistant' or 'tool'"),
    ],
)
def test_a_wrong_request_is_refused_in_words(settings, message):
    if message is None:
        assert LLMRequest(**settings).prompt == "a"  # bytes that are text are taken as text
        return
    with pytest.raises(SettingsError) as caught:
        LLMRequest(**settings)
    assert message in str(caught.value)


def test_a_request_cannot_be_changed_but_replaced():
    request = LLMRequest(prompt="a")
    with pytest.raises(ValueError):
        request.prompt = "b"
    assert request.replace(prompt="b").prompt == "b"
    assert request.prompt == "a"


@pytest.mark.parametrize("prompt", ["", " ", "\n\t", "\u00a0\u2003"])
def test_blank_prompts_are_known(prompt):
    assert LLMRequest(prompt=prompt).is_blank
    assert LLMRequest(prompt=prompt, system="Be brief").is_blank
    assert LLMRequest(messages=[{"role": "user", "content": prompt}]).is_blank
    assert LLMRequest(messages=[]).is_blank
    assert not LLMRequest(prompt=prompt + "x").is_blank


def test_a_single_stop_text_is_a_list_of_one():
    assert LLMRequest(prompt="a", stop="END").stop == ("END",)


def test_a_conversation_starts_with_the_system_text():
    assert LLMRequest(prompt="b", system="a").conversation() == [
        {"role": "system", "content": "a"},
        {"role": "user", "content": "b"},
    ]
    messages = [{"role": "assistant", "content": "b"}]
    assert LLMRequest(messages=messages).conversation() == messages


def test_characters_count_all_that_the_model_reads():
    assert LLMRequest(prompt="abc", system="de").characters == 5
    assert LLMRequest(messages=[{"role": "user", "content": "abc"}], system="de").characters == 5


class Pet(BaseModel):
    name: str


def test_the_response_format_is_a_schema_for_the_server():
    request = LLMRequest(prompt="a", response_format=Pet)
    request.json_schema().clear()  # the caller's own, to change as it likes
    assert request.json_schema() == Pet.model_json_schema()
    assert LLMRequest(prompt="a", response_format="json").json_schema() == "json"
    assert LLMRequest(prompt="a").json_schema() is None


@pytest.mark.parametrize("request_", [LLMRequest(prompt="a", response_format=Pet, metadata={"user": 1})])
def test_requests_survive_pickling(request_):
    assert pickle.loads(pickle.dumps(request_)) == request_


@pytest.mark.parametrize("result", [RESPONSE, FAILURE])
def test_results_survive_pickling_and_copying(result):
    assert pickle.loads(pickle.dumps(result)) == result
    assert copy.deepcopy(result) == result


@pytest.mark.parametrize("result", [RESPONSE, FAILURE])
def test_results_are_frozen(result):
    with pytest.raises((FrozenInstanceError, AttributeError)):
        result.attempts = 2


def test_a_response_is_ok_and_unwraps_to_itself():
    assert RESPONSE.ok
    assert RESPONSE.unwrap() is RESPONSE


def test_a_failure_is_not_ok_and_unwraps_to_an_error_with_its_cause():
    assert not FAILURE.ok
    with pytest.raises(LLMError, match="overloaded: busy") as caught:
        FAILURE.unwrap()
    assert caught.value.failure is FAILURE
    assert caught.value.__cause__ is FAILURE.cause
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.failure == FAILURE
    assert str(again) == str(caught.value)


def test_what_only_an_answer_has_is_refused_of_a_failure_with_its_reason():
    with pytest.raises(AttributeError, match=r"no attribute 'text': the call was not answered \(overloaded\); look at"):
        print(FAILURE.text)
    with pytest.raises(AttributeError, match=r"'LLMFailure' object has no attribute 'txt'$"):
        print(FAILURE.txt)
    assert not hasattr(FAILURE, "parsed")


def test_no_way_of_showing_a_result_shows_the_models_text():
    parsed = dataclasses.replace(RESPONSE, text=SECRET, parsed={"a": SECRET})
    for shown in (repr(parsed), str(parsed), f"{[parsed]}", parsed._repr_html_(), repr(Answer(SECRET))):
        assert "canary" not in shown
        assert f"{len(SECRET)} characters" in shown
    assert "parsed=<1 hidden>" in repr(parsed)


def test_results_are_shown_as_tables_with_everything_escaped():
    assert "m&lt;b&gt;" in dataclasses.replace(RESPONSE, model="m<b>")._repr_html_()
    html = FAILURE._repr_html_()
    assert "overloaded after 1.50 s, 3 attempts" in html
    assert "503" in html


def test_a_plain_text_is_a_prompt_and_anything_else_no_request():
    assert to_request("a") == LLMRequest(prompt="a")
    with pytest.raises(TypeError, match="a request must be an LLMRequest or a str, got int"):
        to_request(5)
