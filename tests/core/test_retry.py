import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab import Backoff, FailureReason, RetryPolicy
from llmlab.core.backend import AttemptFailure
from llmlab.core.retry import Jitter
from llmlab.core.vocabulary import RETRYABLE, BackoffSource

JITTERS = ("full", "equal", "decorrelated", "none", "proportional", "additive")  # symmetric alone exceeds the maximum


@pytest.mark.parametrize(
    ("jitter", "u", "waits"),
    [
        ("none", 0.5, [1, 2, 4, 8, 10, 10]),
        ("full", 0.5, [0.5, 1, 2, 4, 5, 5]),
        ("full", 0.25, [0.25, 0.5, 1, 2, 2.5, 2.5]),
        ("equal", 0.5, [0.75, 1.5, 3, 6, 7.5, 7.5]),
        ("decorrelated", 0.5, [2, 3.5, 5.75, 9.125, 10, 10]),
        ("proportional", 0.5, [0.875, 1.75, 3.5, 7, 8.75, 8.75]),
        ("proportional", 0.0, [0.75, 1.5, 3, 6, 7.5, 7.5]),
        ("symmetric", 0.0, [0.75, 1.5, 3, 6, 7.5, 7.5]),
        ("symmetric", 0.5, [1, 2, 4, 8, 10, 10]),
        ("symmetric", 1.0, [1.25, 2.5, 5, 10, 12.5, 12.5]),
        ("additive", 0.0, [1, 2, 4, 8, 10, 10]),
        ("additive", 0.5, [1.5, 2.5, 4.5, 8.5, 10, 10]),
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


@given(st.integers(1, 10**6), st.floats(0, 1), UNIT)
def test_symmetric_jitter_stays_within_its_share_of_the_wait(retry, share, u):
    wait = Backoff(jitter="symmetric", jitter_share=share).delay(retry, 0.0, u)
    plain = Backoff(jitter="none").delay(retry, 0.0, u)
    assert plain * (1 - share) * (1 - 1e-12) <= wait <= plain * (1 + share) * (1 + 1e-12)


def test_no_base_means_no_wait_however_late_the_retry():
    assert Backoff(base=0, maximum=9, jitter="none").delay(10**6, 0.0, 0.5) == 0.0


def limited(retry_after: float | None = None, reason: FailureReason = FailureReason.RATE_LIMITED) -> AttemptFailure:
    return AttemptFailure(reason, "", retry_after=retry_after)


PLAIN = Backoff(base=1, jitter="none")


@pytest.mark.parametrize(
    ("settings", "failure", "wait", "source"),
    [
        ({}, limited(30), 30, "retry_after"),
        ({}, limited(None), 1, "backoff"),
        ({}, limited(-5), 0, "retry_after"),
        ({}, limited(float("nan")), 0, "retry_after"),
        ({"respect_retry_after": False}, limited(30), 1, "backoff"),
        ({"max_retry_after": 30}, limited(30), 30, "retry_after"),
        ({"max_retry_after": 29}, limited(30), 1, "backoff"),
        ({"retry_after_jitter": 2}, limited(30), 31, "retry_after"),
        ({"retry_after_jitter": 2}, limited(None), 1, "backoff"),
        ({"rate_limited_backoff": Backoff(base=4, jitter="none")}, limited(None), 4, "backoff"),
        ({"rate_limited_backoff": Backoff(base=4, jitter="none")}, limited(30), 30, "retry_after"),
        ({"rate_limited_backoff": PLAIN}, limited(None, FailureReason.OVERLOADED), 1, "backoff"),
    ],
)
def test_where_a_wait_comes_from(settings, failure, wait, source):
    assert RetryPolicy(backoff=PLAIN, **settings).wait(failure, 1, 0.0, 0.5) == (wait, source)


@pytest.mark.parametrize(("beyond", "asked", "allowed"), [("backoff", 31, True), ("give_up", 31, False)])
def test_a_retry_after_beyond_the_maximum_may_end_the_call(beyond, asked, allowed):
    policy = RetryPolicy(max_retry_after=30, beyond_max_retry_after=beyond)
    assert policy.allows(limited(asked)) is allowed
    assert policy.allows(limited(30))
    assert policy.allows(limited(None))
    assert policy.replace(respect_retry_after=False).allows(limited(asked))


@pytest.mark.parametrize(
    ("attempts", "elapsed", "exhausted"),
    [(1, 0, False), (2, 44.9, False), (2, 45, True), (3, 0, True), (3, 99, True)],
)
def test_retries_end_by_number_and_by_time(attempts, elapsed, exhausted):
    assert RetryPolicy(max_retries=2, stop_after=45).exhausted(attempts, elapsed) is exhausted
    assert RetryPolicy(max_retries=2).exhausted(attempts, elapsed) is (attempts > 2)


@pytest.mark.parametrize("reason", FailureReason)
def test_retry_on_names_the_reasons_itself(reason):
    policy = RetryPolicy(retry_on=[FailureReason.OVERLOADED])
    assert policy.allows(AttemptFailure(reason, "")) is (reason is FailureReason.OVERLOADED)
    assert RetryPolicy(retry_on=[]).allows(AttemptFailure(reason, "")) is False


def test_the_client_side_reasons_of_an_inner_client_are_retryable_but_cancellation_is_not():
    assert {FailureReason.CIRCUIT_OPEN, FailureReason.REJECTED_BY_LIMIT, FailureReason.BUDGET_EXHAUSTED} <= RETRYABLE
    assert FailureReason.CANCELLED not in RETRYABLE


def test_a_wait_too_large_to_compute_is_the_maximum_or_nothing_where_the_base_is_nothing():
    assert Backoff(base=0.5, factor=10.0, maximum=7.0, jitter="none").delay(1000, 0.0, 0.5) == 7.0
    assert Backoff(base=0.0, factor=10.0, maximum=7.0, jitter="none").delay(1000, 0.0, 0.5) == 0.0


def test_additive_jitter_is_a_share_of_its_seconds():
    assert Backoff(base=1.0, jitter="additive", jitter_seconds=4.0).delay(1, 0.0, 0.25) == 2.0


def test_a_policys_wait_grows_from_the_wait_before_where_the_backoff_does():
    policy = RetryPolicy(backoff=Backoff(base=1.0, maximum=100.0, jitter="decorrelated"))
    failure = AttemptFailure(FailureReason.OVERLOADED, "busy")
    assert policy.wait(failure, 2, 10.0, 0.5) == (15.5, BackoffSource.BACKOFF)  # half way from 1 to 30
