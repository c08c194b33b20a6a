"""What may serve as a backend, and which attempt a request is, as it stands in its header."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab import MockBackend, MockLLM
from llmlab.core.backend import AttemptKey, attempt_header, no_backend, parse_attempt_header


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
