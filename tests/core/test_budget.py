from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab import AttemptFailure, ClientPolicy, FailureReason, LLMRequest, SettingsError
from llmlab.core.budget import BudgetLevel, RetryBudget
from llmlab.core.guard import Guard
from llmlab.core.ledger import Ledger

TIMEOUT, BUSY, LIMITED = FailureReason.ATTEMPT_TIMEOUT, FailureReason.OVERLOADED, FailureReason.RATE_LIMITED
AWS = RetryBudget(capacity=500, retry_cost=5, timeout_cost=10, per_success=1, refund=True)
GRPC = RetryBudget(capacity=10, retry_cost=0, failure_cost=1, per_success=0.1, reserve=5)


def attempts_of(level: BudgetLevel, calls: int, *, most: int, reason: FailureReason) -> int:
    """Count the attempts of calls of which every attempt fails."""
    attempts = 0
    for _ in range(calls):
        level.call_began()
        for attempt in range(1, most + 1):
            attempts += 1
            level.failed()
            if attempt == most or not level.spend(reason):
                break
    return attempts


@pytest.mark.parametrize(("reason", "extra"), [(BUSY, 100), (LIMITED, 100), (TIMEOUT, 50)])
@pytest.mark.parametrize("calls", [50, 51, 100, 1000])
def test_when_every_attempt_fails_the_aws_quota_allows_500_tokens_worth_of_retries(reason, extra, calls):
    assert attempts_of(BudgetLevel(AWS), calls, most=3, reason=reason) == calls + min(extra, 2 * calls)


@pytest.mark.parametrize(("calls", "attempts"), [(1, 3), (10, 30), (49, 147)])
def test_before_the_quota_is_spent_only_the_number_of_attempts_counts(calls, attempts):
    assert attempts_of(BudgetLevel(AWS), calls, most=3, reason=BUSY) == attempts


@pytest.mark.parametrize(
    ("after", "put_back"),
    [(None, 1), (BUSY, 5), (TIMEOUT, 10), (LIMITED, 5)],
)
def test_aws_an_answered_retry_gets_its_cost_back_and_a_first_attempt_one_token(after, put_back):
    level = BudgetLevel(AWS)
    for _ in range(10):
        assert level.spend(BUSY)
    level.succeeded(after=after)
    assert level.level == 450 + put_back


def test_without_refund_it_does_not_matter_what_was_answered():
    level = BudgetLevel(AWS.replace(refund=False))
    level.spend(TIMEOUT)
    level.succeeded(after=TIMEOUT)
    assert level.level == 491


def test_a_rate_limited_retry_may_have_a_price_of_its_own():
    level = BudgetLevel(RetryBudget(capacity=100, retry_cost=14, rate_limited_cost=5))
    assert [level.spend(reason) for reason in (LIMITED, BUSY, TIMEOUT)] == [True] * 3
    assert level.level == 100 - 5 - 14 - 14


def test_grpc_stops_retrying_at_half_its_tokens():
    # gRFC A6: every failure takes 1 of 10; at 5 or fewer left nothing is retried
    level = BudgetLevel(GRPC)
    allowed = []
    for _ in range(7):
        level.failed()
        allowed.append(level.spend(BUSY))
    assert allowed == [True] * 4 + [False] * 3
    assert level.level == 3


def test_grpc_retries_again_once_successes_have_lifted_the_tokens_over_the_half():
    level = BudgetLevel(GRPC)
    for _ in range(5):
        level.failed()
    for _ in range(10):
        level.succeeded()
    level.failed()  # back at exactly 5, which is not over it, however ten tenths add up
    assert not level.spend(BUSY)
    for _ in range(11):
        level.succeeded()
    level.failed()
    assert level.spend(BUSY)


@given(st.lists(st.booleans(), max_size=400), st.integers(1, 1000))
def test_grpc_decides_as_exact_arithmetic_would(outcomes, thousandths):
    level = BudgetLevel(GRPC.replace(per_success=thousandths / 1000))
    exact = Fraction(10)
    for answered in outcomes:
        if answered:
            level.succeeded()
            exact = min(Fraction(10), exact + Fraction(thousandths, 1000))
        else:
            level.failed()
            exact = max(Fraction(0), exact - 1)
            assert level.spend(BUSY) is (exact > 5)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.7])
def test_a_share_of_the_calls_is_that_share_however_floats_add_up(share):
    level = BudgetLevel(RetryBudget(capacity=10, per_call=share))
    for _ in range(10):
        assert level.spend(BUSY)
    retries = 0
    for _ in range(1000):
        level.call_began()
        retries += level.spend(BUSY)
    assert retries == round(1000 * share)


tokens = st.floats(0, 100)
BUDGETS = st.builds(
    RetryBudget,
    capacity=st.floats(0.01, 1000),
    per_call=tokens,
    per_success=tokens,
    retry_cost=tokens,
    timeout_cost=st.none() | tokens,
    rate_limited_cost=st.none() | tokens,
    refund=st.booleans(),
    failure_cost=tokens,
    reserve=st.none() | tokens,
)
REASONS = st.sampled_from([TIMEOUT, BUSY, LIMITED])
MOMENTS = st.lists(st.tuples(st.sampled_from(["call", "success", "failure", "retry"]), REASONS), max_size=100)


@given(BUDGETS, MOMENTS)
def test_the_level_stays_between_nothing_and_the_capacity_and_a_refusal_costs_nothing(budget, moments):
    level = BudgetLevel(budget)
    for moment, reason in moments:
        before = level.level
        if moment == "call":
            level.call_began()
        elif moment == "success":
            level.succeeded(after=reason)
        elif moment == "failure":
            level.failed()
        elif level.spend(reason):
            assert budget.reserve is None or level.level > budget.reserve
        else:
            assert level.level == before
        assert 0 <= level.level <= budget.capacity


@given(
    st.floats(0.1, 1000),
    st.floats(0.01, 100),
    tokens,
    tokens,
    MOMENTS,
)
def test_retries_never_cost_more_than_the_capacity_and_all_that_was_put_in(capacity, cost, call, success, moments):
    level = BudgetLevel(RetryBudget(capacity=capacity, retry_cost=cost, per_call=call, per_success=success))
    retries, put_in = 0, 0.0
    for moment, reason in moments:
        if moment == "call":
            level.call_began()
            put_in += call
        elif moment == "success":
            level.succeeded(after=reason)
            put_in += success
        elif moment == "retry":
            retries += level.spend(reason)
    assert retries <= (capacity + put_in) / cost + 1e-6


def test_a_large_bucket_gives_nothing_away():
    level = BudgetLevel(RetryBudget(capacity=1e12, retry_cost=1e12 / 4))
    assert [level.spend(BUSY) for _ in range(6)] == [True] * 4 + [False] * 2
    small = BudgetLevel(RetryBudget(capacity=1e12))
    small.level = 0.0
    assert not small.spend(BUSY)


@pytest.mark.parametrize("name", ["capacity", "per_call", "retry_cost", "rate_limited_cost", "reserve"])
def test_tokens_are_finite_and_not_negative(name):
    for value in (-1, float("nan"), float("inf")):
        with pytest.raises(SettingsError, match=name):
            RetryBudget(**{name: value})


@pytest.mark.parametrize(("reason", "levels"), [(FailureReason.OVERLOADED, 1), (FailureReason.INVALID_REQUEST, 0)])
def test_a_failure_that_would_not_be_retried_says_nothing_to_the_budget(reason, levels):
    class Counting(BudgetLevel):
        failures = 0

        def failed(self):
            self.failures += 1

    class Counted(RetryBudget):
        def at_work(self):
            return Counting(self)

    guard = Guard(ClientPolicy(budget=Counted()), None)
    guard.ended(1.0, AttemptFailure(reason, "no"), Ledger(LLMRequest(prompt="Hi"), 1, 0.0, 0.0, 9.0))
    assert guard.budget.failures == levels
