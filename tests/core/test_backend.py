"""What may serve as a backend, and which attempt a request is, as it stands in its header."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab import AttemptFailure, Client, FailureReason, MockBackend, MockLLM
from llmlab.core.backend import AttemptKey, attempt_header, in_our_words, no_backend, parse_attempt_header


@given(call=st.integers(0, 2**63 - 1), attempt=st.integers(1, 10**9 - 1))
def test_what_one_side_writes_into_the_header_the_other_reads(call, attempt):
    key = AttemptKey(call, attempt)
    assert parse_attempt_header(attempt_header(key)) == key


@pytest.mark.parametrize(
    "value",
    ["", "7", "7.0", "7.", ".1", "-1.1", "7.1.1", "a.b", "7.1 ", "\N{ARABIC-INDIC DIGIT SEVEN}.1", "9" * 20 + ".1"],
)
def test_a_header_that_names_no_attempt_is_none(value):
    assert parse_attempt_header(value) is None


def test_a_client_in_a_backends_place_is_told_what_to_give():
    assert no_backend(MockBackend()) is None
    assert no_backend(3) == "needs a method `async def attempt(...)`; a int has none"
    assert "a MockLLM has none; it is a client: give its `backend`" in str(no_backend(MockLLM()))


def test_a_reason_in_plain_text_is_the_vocabularys_word():
    plain = AttemptFailure("overloaded", "busy", retry_after=2.0)  # type: ignore[arg-type]
    assert in_our_words(plain, "mine").reason is FailureReason.OVERLOADED
    assert in_our_words(plain, "mine").retry_after == 2.0
    known = AttemptFailure(FailureReason.REFUSED, "no")
    assert in_our_words(known, "mine") is known


def test_a_misspelt_reason_is_a_bug_of_the_backend():
    class Mine:
        async def attempt(self, request, *, timeouts, key):
            return AttemptFailure("overload", "busy")

    with pytest.raises(TypeError, match=r"backend 'Mine' gave the reason 'overload', .*did you mean 'overloaded'"):
        Client(Mine()).generate("Hello")
