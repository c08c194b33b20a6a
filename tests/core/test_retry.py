import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab import Backoff, FailureReason, RetryPolicy
from llmlab.core.backend import AttemptFailure
from llmlab.core.retry import Jitter
from llmlab.core.vocabulary import RETRYABLE

JITTERS = ("full", "equal", "decorrelated", "none")


@pytest.mark.parametrize(
    ("jitter", "u", "waits"),
    [
        ("none", 0.5, [1, 2, 4, 8, 10, 10]),
        ("full", 0.5, [0.5, 1, 2, 4, 5, 5]),
        ("full", 0.25, [0.25, 0.5, 1, 2, 2.5, 2.5]),
        ("equal", 0.5, [0.75, 1.5, 3, 6, 7.5, 7.5]),
        ("decorrelated", 0.5, [2, 3.5, 5.75, 9.125, 10, 10]),
    ],
)
def test_backoff_table(jitter: Jitter, u: float, waits: list[float]) -> None:
    backoff = Backoff(base=1, factor=2, maximum=10, jitter=jitter)
    previous = 0.0
    for retry, expected in enumerate(waits, 1):
        previous = backoff.delay(retry, previous, u)
        assert previous == pytest.approx(expected)


seconds = st.floats(min_value=0, max_value=1e9)
UNIT = st.floats(min_value=0, max_value=1, exclude_min=True, exclude_max=True)


@given(
    base=seconds,
    factor=st.floats(1, 1e6),
    maximum=seconds,
    jitter=st.sampled_from(JITTERS),
    us=st.lists(UNIT, min_size=1, max_size=20),
)
def test_a_wait_is_never_negative_and_never_more_than_the_maximum(base, factor, maximum, jitter, us):
    backoff = Backoff(base=base, factor=factor, maximum=maximum, jitter=jitter)
    previous = 0.0
    for retry, u in enumerate(us, 1):
        previous = backoff.delay(retry, previous, u)
        assert 0 <= previous <= maximum


@given(retry=st.integers(1, 10**6), jitter=st.sampled_from(JITTERS), u=UNIT)
def test_a_wait_exists_for_every_retry_however_late(retry, jitter, u):
    assert 0 <= Backoff(jitter=jitter).delay(retry, 8.0, u) <= 8.0


@given(st.integers(1, 30), UNIT, UNIT)
def test_more_luck_is_never_a_longer_wait(retry, one, other):
    low, high = sorted((one, other))
    for jitter in JITTERS:
        backoff = Backoff(jitter=jitter)
        assert backoff.delay(retry, 1.0, low) <= backoff.delay(retry, 1.0, high)


@pytest.mark.parametrize("reason", FailureReason)
def test_retry_on_names_the_reasons_itself(reason):
    policy = RetryPolicy(retry_on=[FailureReason.OVERLOADED])
    assert policy.allows(AttemptFailure(reason, "")) is (reason is FailureReason.OVERLOADED)
    assert RetryPolicy(retry_on=[]).allows(AttemptFailure(reason, "")) is False


def test_the_client_side_reasons_of_an_inner_client_are_retryable_but_cancellation_is_not():
    assert {FailureReason.CIRCUIT_OPEN, FailureReason.REJECTED_BY_LIMIT, FailureReason.BUDGET_EXHAUSTED} <= RETRYABLE
    assert FailureReason.CANCELLED not in RETRYABLE
