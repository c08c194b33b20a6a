import json
from fractions import Fraction

import pytest
from pydantic import BaseModel

from llmlab import (
    Answer,
    AttemptFailure,
    ClientPolicy,
    ClosedLoop,
    FailureReason,
    LLMRequest,
    OllamaBackend,
    RetryPolicy,
    SettingsError,
    Usage,
)
from llmlab.core.plain_data import canonical_json, plain_data
from llmlab.core.settings import Settings


class Mine(Settings):
    size: int = 1


class Schema(BaseModel):
    name: str


def test_only_what_was_given_is_written_unless_all_is_asked_for():
    policy = ClientPolicy(retry=RetryPolicy(max_retries=5), attempt_timeout=None)
    assert plain_data(policy, complete=False) == {"retry": {"max_retries": 5}, "attempt_timeout": None}
    assert set(plain_data(policy)) == set(ClientPolicy.model_fields)


def test_the_kind_is_always_written_and_first():
    assert list(plain_data(ClosedLoop(users=2, calls=1), complete=False)) == ["kind", "calls", "users"]


def test_settings_are_in_one_order_and_free_data_keep_theirs():
    """The order of a JSON schema's properties decides what a model writes first; that of our own settings nothing."""
    one = RetryPolicy(max_retries=1, stop_after=2.0)
    other = RetryPolicy(stop_after=2.0, max_retries=1)
    assert canonical_json(plain_data(one, complete=False)) == canonical_json(plain_data(other, complete=False))
    schemas = [{"properties": {"a": {}, "b": {}}}, {"properties": {"b": {}, "a": {}}}]
    written = [canonical_json(plain_data(LLMRequest(prompt="x", response_format=schema))) for schema in schemas]
    assert written[0] != written[1]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Mine(), "'here' is of type Mine, which no file can hold"),
        (LLMRequest(prompt="x", response_format=Schema), "'here.response_format' is the class Schema"),
        (LLMRequest(prompt="x", metadata={"share": Fraction(1, 3)}), "'here.metadata.share' is of type Fraction"),
        (LLMRequest(prompt="x", metadata={"pair": (1, 2)}), "'here.metadata.pair' is of type tuple"),
        (LLMRequest(prompt="x", metadata={"deep": [{"x": {1: 2}}]}), "'here.metadata.deep.0.x' has a key that is not"),
        (LLMRequest(prompt="x", metadata={"x": float("inf")}), "'here.metadata.x' is the number inf"),
    ],
)
def test_what_no_file_can_hold_is_named_by_its_path(value, message):
    with pytest.raises(SettingsError) as caught:
        plain_data(value, "here")
    assert message in str(caught.value)


def test_the_canonical_form_is_ascii_and_exact():
    data = plain_data(OllamaBackend(options={"grüße": 0.1, "big": 10**30}))
    written = canonical_json(data)
    assert written.isascii()
    assert json.loads(written) == data


def test_the_outcome_of_an_attempt_says_which_of_the_two_it_is():
    answer = plain_data(Answer("Hi", usage=Usage(1, 2)))
    assert (answer["kind"], answer["text"], answer["usage"]) == (
        "answer",
        "Hi",
        {"input_tokens": 1, "output_tokens": 2},
    )
    failure = plain_data(AttemptFailure(FailureReason.OVERLOADED, "busy", 503))
    assert (failure["kind"], failure["reason"], failure["status_code"]) == ("failure", "overloaded", 503)


def test_a_set_is_a_sorted_list():
    reasons = frozenset({FailureReason.SERVER_ERROR, FailureReason.OVERLOADED, FailureReason.EMPTY_OUTPUT})
    assert plain_data(reasons) == ["empty_output", "overloaded", "server_error"]
