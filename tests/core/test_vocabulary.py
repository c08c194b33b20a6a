import pytest

from llmlab.core.backend import AttemptFailure
from llmlab.core.retry import RetryPolicy
from llmlab.core.vocabulary import REASONS, RETRYABLE, FailureReason, Fate, reasons_table


def test_every_reason_stands_in_the_table_once():
    assert list(REASONS) == list(FailureReason)
    assert len({row.meaning for row in REASONS.values()}) == len(FailureReason)


def test_every_reason_has_a_fate_and_every_fate_but_answered_a_reason():
    assert all(row.fates for row in REASONS.values())
    assert {fate for row in REASONS.values() for fate in row.fates} == set(Fate) - {Fate.ANSWERED}


def test_what_is_not_retryable_is_never_said_to_exhaust_retries():
    for row in REASONS.values():
        assert row.retryable or Fate.RETRIES_EXHAUSTED not in row.fates


@pytest.mark.parametrize("reason", FailureReason)
def test_the_default_policy_retries_exactly_the_retryable(reason):
    assert RetryPolicy().allows(AttemptFailure(reason, "")) is (reason in RETRYABLE)


@pytest.mark.parametrize("reason", FailureReason)
def test_the_servers_own_word_on_retrying_wins(reason):
    assert AttemptFailure(reason, "", retryable=True).is_retryable
    assert not AttemptFailure(reason, "", retryable=False).is_retryable


def test_words_are_plain_texts():
    assert f"{FailureReason.OVERLOADED}" == "overloaded" == FailureReason.OVERLOADED
    assert {"overloaded": 1}[FailureReason.OVERLOADED] == 1


def test_the_documentations_table_has_a_line_for_each_reason():
    lines = reasons_table().splitlines()
    assert len(lines) == 2 + len(FailureReason)
    assert all(line.count("|") == 5 for line in lines)
