from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab import Answer, FailureReason, Faults, FinishReason, LLMRequest, SettingsError
from llmlab.backends.faults import FAULT_SHORTHANDS, SPOILS_THE_ANSWER, FaultKind, drawn, refused, spoilt

R = FailureReason
BASIC = ["timeout", "connection_error", "rate_limit", "overload", "server_error", "empty", "malformed", "truncated"]
PLAIN, JSON = LLMRequest(prompt="a"), LLMRequest(prompt="a", response_format="json")


@given(st.lists(st.floats(0, 1 / 8), min_size=8, max_size=8))
def test_each_fault_is_as_probable_as_it_says(probabilities):
    faults = Faults(**dict(zip(BASIC, probabilities, strict=True)))
    grid = [(step + 0.5) / 1000 for step in range(1000)]
    counts = Counter(drawn(faults.thresholds(), u) for u in grid)
    for kind, probability in zip(BASIC, probabilities, strict=True):
        assert counts[kind] / len(grid) == pytest.approx(probability, abs=2e-3)


def test_nothing_and_everything():
    assert Faults().thresholds() == ()
    assert drawn((), 0.5) is None
    always = Faults(overload=1.0).thresholds()
    assert {drawn(always, u) for u in (1e-16, 0.5, 1 - 1e-16)} == {FaultKind.OVERLOAD}


def test_probabilities_that_add_up_to_one_with_rounding_are_accepted():
    Faults(**dict.fromkeys(["timeout", "connection_error", "rate_limit"], 1 / 3))
    Faults(timeout=0.1, overload=0.2, empty=0.7)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"timeout": 0.6, "empty": 0.6}, "must add up to 1 or less, got 1.2"),
        ({"timeout": -0.1}, "timeout must be 0 or more, got -0.1"),
        ({"retry_after": -1}, "retry_after must be 0 or more, got -1"),
        ({"timeouts": 0.1}, "did you mean 'timeout'?"),
    ],
)
def test_wrong_probabilities_are_refused(settings, message):
    with pytest.raises(SettingsError) as caught:
        Faults(**settings)
    assert message in str(caught.value)


def test_every_fault_has_its_shorthand():
    assert set(FAULT_SHORTHANDS.values()) == set(FaultKind) <= set(Faults.model_fields)
    assert set(BASIC) <= set(FaultKind)


@pytest.mark.parametrize(
    ("kind", "reason", "status", "retry_after"),
    [
        (FaultKind.CONNECTION_ERROR, R.CONNECTION_FAILED, None, None),
        (FaultKind.RATE_LIMIT, R.RATE_LIMITED, 429, 7.0),
        (FaultKind.OVERLOAD, R.OVERLOADED, 503, 7.0),
        (FaultKind.SERVER_ERROR, R.SERVER_ERROR, 500, None),
    ],
)
def test_refusals_are_what_a_server_would_send(kind, reason, status, retry_after):
    failure = refused(kind, 7.0)
    assert (failure.reason, failure.status_code, failure.retry_after) == (reason, status, retry_after)
    assert refused(kind, None).retry_after is None


@pytest.mark.parametrize("text", ["", "1", "{}", '{"a": 1}', "[1, 2]", "null", '"text"'])
def test_malformed_output_never_parses(text):
    from llmlab.core.checks import unusable

    answer = spoilt(FaultKind.MALFORMED, JSON, Answer(text))
    failure, _ = unusable(JSON, answer)
    assert failure.reason is R.MALFORMED_OUTPUT
    assert spoilt(FaultKind.MALFORMED, PLAIN, Answer(text)).reason is R.MALFORMED_OUTPUT


@given(st.text())
def test_a_spoilt_answer_is_short_and_says_that_it_was_cut(text):
    assert spoilt(FaultKind.EMPTY, PLAIN, Answer(text)).text == ""
    cut = spoilt(FaultKind.TRUNCATED, PLAIN, Answer(text))
    assert cut.finish_reason is FinishReason.LENGTH
    assert text.startswith(cut.text) or cut.text == "..."
    assert set(FaultKind) > SPOILS_THE_ANSWER
