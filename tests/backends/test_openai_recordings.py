"""What the recorded answers of Ollama's OpenAI-compatible endpoints mean."""

import pytest

from llmlab.core.backend import Answer, AttemptFailure
from llmlab.core.messages import LLMRequest
from llmlab.core.vocabulary import FailureReason, FinishReason
from llmlab.server.replay import ReplayServer
from tests.openai_replay import RECORDINGS, attempt, recorded

R = FailureReason
LENGTH = FinishReason.LENGTH

ANSWERS = {
    "v1_chat": Answer(" have american people their but said many people", "tiny", (22, 8), LENGTH),
    "v1_chat_json_object": Answer(
        '{" see see see see face some right other enough four should also more important', "tiny", (22, 16), LENGTH
    ),
    "v1_chat_n2": Answer(" now his", "tiny", (17, 2), LENGTH),
    "v1_chat_stream": Answer(" have american people their but said", "tiny", (None, None), LENGTH),
    "v1_chat_wrong_temperature": Answer(" these away", "tiny", (17, 2), LENGTH),
}
FAILURES = {
    "v1_chat_empty_messages": (R.INVALID_REQUEST, "answered 400: [] is too short - 'messages'"),
    "v1_chat_malformed": (R.INVALID_REQUEST, "answered 400: unexpected EOF"),
    "v1_chat_missing_model": (R.MODEL_NOT_FOUND, "has no model 'nosuch'"),
    # The process behind it died; Ollama says so by an empty piece of text and a proper end of the body.
    "error_mid_stream_v1": (R.MALFORMED_RESPONSE, "the stream ended after 6 events without [DONE]"),
}
WITHOUT_AN_ANSWER = {"v1_models"}  # read by test_openai_protocol.py


def outcome_of(case: str):
    (exchange,) = recorded(case)
    with ReplayServer([exchange]) as server:
        return attempt(server.url, LLMRequest(prompt="Hello there", model=exchange.model or "m"))


@pytest.mark.parametrize("case", ANSWERS)
def test_a_recorded_answer(case):
    outcome = outcome_of(case)
    assert isinstance(outcome, Answer)
    assert outcome._replace(time_to_first_token=None) == ANSWERS[case]


@pytest.mark.parametrize("case", FAILURES)
def test_a_recorded_failure(case):
    failure = outcome_of(case)
    assert isinstance(failure, AttemptFailure)
    reason, words = FAILURES[case]
    assert failure.reason is reason
    assert words in failure.message


def test_every_recording_has_its_meaning():
    assert ANSWERS.keys() | FAILURES.keys() | WITHOUT_AN_ANSWER == {path.stem for path in RECORDINGS.glob("*.json")}
