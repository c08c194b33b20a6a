"""Which piece of a simulated answer comes when, as tables and laws of pure functions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab import Answer, Faults, FinishReason, LLMRequest, Timeouts, Usage
from llmlab.backends.fault_effects import met, timing
from llmlab.backends.faults import SPOILS_THE_ANSWER, FaultKind
from llmlab.backends.token_stream import coming, pieces

REQUEST = LLMRequest(prompt="Hello")


@given(st.text(max_size=80), st.none() | st.integers(0, 200))
def test_the_pieces_of_a_text_are_the_text_and_as_many_as_its_tokens(text, tokens):
    cut = pieces(text, tokens)
    assert "".join(cut) == text
    assert len(cut) == max(1, -(-len(text) // 4) if tokens is None else tokens)
    assert bool(cut[0]) is bool(text)
    sizes = {len(piece) for piece in cut}
    assert max(sizes) - min(sizes) <= 1


def stream(fault, *, timeouts=None, faults=None, tokens=4):
    """Return the pieces of an answer of 16 characters that begins after 1 s and is complete after 4 s."""
    answer = Answer("abcdefghijklmnop", usage=Usage(1, tokens))
    when = timing(1.0, 4.0, tokens)
    faults = faults or Faults()
    outcome, after = met(fault, REQUEST, answer, when, timeouts=timeouts or Timeouts(), faults=faults)
    return list(coming(answer, when, outcome, after, fault=fault, faults=faults))


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (None, [(1.0, "abcd"), (2.0, "efgh"), (3.0, "ijkl"), (4.0, "mnop")]),
        (FaultKind.NO_END_MARKER, [(1.0, "abcd"), (2.0, "efgh"), (3.0, "ijkl"), (4.0, "mnop")]),
        (FaultKind.CUT, [(1.0, "abcd"), (2.0, "efgh")]),
        (FaultKind.ERROR_IN_STREAM, [(1.0, "abcd"), (2.0, "efgh")]),
        (FaultKind.STALL, [(1.0, "abcd")]),
        (FaultKind.SLOW_DRIP, [(1.0, "abcd"), (11.0, "efgh"), (21.0, "ijkl"), (31.0, "mnop")]),
        (FaultKind.TRUNCATED, [(1.0, "ab"), (2.0, "cd"), (3.0, "ef"), (4.0, "gh")]),
        (FaultKind.EMPTY, []),
        (FaultKind.REFUSAL, []),
    ],
)
def test_a_fault_lets_through_what_comes_before_it(fault, expected):
    assert stream(fault) == expected


def test_a_client_that_gives_up_sees_nothing_that_comes_later():
    assert stream(None, timeouts=Timeouts(first_byte=0.5)) == []
    assert stream(None, timeouts=Timeouts(between_chunks=0.5)) == [(1.0, "abcd")]
    assert stream(FaultKind.SLOW_DRIP, timeouts=Timeouts(between_chunks=5.0)) == [(1.0, "abcd")]


def test_a_token_due_in_the_moment_of_the_cut_comes_too_late():
    assert [text for _, text in stream(FaultKind.CUT, tokens=3)] == ["abcdef"]


@given(
    st.none() | st.sampled_from(sorted(SPOILS_THE_ANSWER)),
    st.floats(0, 10),
    st.floats(0, 10),
    st.integers(1, 40),
    st.none() | st.floats(0.1, 5),
)
def test_pieces_come_in_order_before_the_end_and_are_a_beginning_of_the_text(fault, first, rest, tokens, patience):
    answer = Answer("abcdefghijklmnop" * 3, usage=Usage(1, tokens), finish_reason=FinishReason.STOP)
    when, faults = timing(first, first + rest, tokens), Faults()
    bounds = Timeouts(first_byte=patience, between_chunks=patience)
    outcome, after = met(fault, REQUEST, answer, when, timeouts=bounds, faults=faults)
    came = list(coming(answer, when, outcome, after, fault=fault, faults=faults))
    times = [piece.after for piece in came]
    assert times == sorted(times)
    assert all(first <= time <= after for time in times)
    text = "".join(piece.text for piece in came)
    if isinstance(outcome, Answer):
        assert text == outcome.text
    else:
        assert answer.text.startswith(text)
