"""Policies of the user's own: a subclass of a setting, with its own arithmetic or its own state machine."""

import pytest

from llmlab import (
    AdaptiveConcurrency,
    Backoff,
    CircuitBreaker,
    ClientPolicy,
    ClosedLoop,
    Experiment,
    Fate,
    Hedging,
    MockBackend,
    MockLLM,
    RetryBudget,
    RetryPolicy,
    SettingsError,
    Sweep,
)
from llmlab.core.adaptive import AdaptiveLimit
from llmlab.core.breaker import BreakerState
from llmlab.core.budget import BudgetLevel
from llmlab.core.hedging import HedgeDelay

DOWN = MockBackend(server_error_probability=1.0, latency=1.0, refusal_latency=0.0)


class Fibonacci(Backoff):
    """Waits 1, 1, 2, 3, 5, ... times `base`."""

    def delay(self, retry, previous, u):
        one, other = 1, 1
        for _ in range(retry - 1):
            one, other = other, one + other
        return self.base * one


class OnlyServerErrors(RetryPolicy):
    """Tries nothing again but a 500."""

    def allows(self, failure):
        return failure.status_code == 500


class InARow(CircuitBreaker):
    """Opens after `minimum_attempts` failures in a row, whatever their share."""

    def at_work(self):
        return CountingInARow(self)


class CountingInARow(BreakerState):
    __slots__ = ("failures",)

    def __init__(self, breaker):
        super().__init__(breaker)
        self.failures = 0

    def record(self, now, *, sick, ticket=None):
        self.failures = self.failures + 1 if sick else 0
        if self.failures == self.breaker.minimum_attempts:
            self._open(now)


class OneRetryInAll(RetryBudget):
    """Pays for a single retry, ever."""

    def at_work(self):
        return OnePayment(self)


class OnePayment(BudgetLevel):
    __slots__ = ()

    def spend(self, reason):
        paid, self.level = self.level > 0, 0.0
        return paid


class Always(AdaptiveConcurrency):
    """A limit that does not move from 2."""

    def at_work(self):
        return Two(self)


class Two(AdaptiveLimit):
    __slots__ = ()

    def record(self, now, *, latency, in_flight, overloaded):
        return 2


class OwnDelay(Hedging):
    """Hedges after a time that it measures in its own way: here always 0.75 s."""

    def at_work(self):
        return Delayed(self)


class Delayed(HedgeDelay):
    __slots__ = ()

    def current(self):
        return 0.75


def run(policy, backend=DOWN, calls=10):
    return Experiment(backend=backend, policy=policy, workload=ClosedLoop(calls=calls, users=1)).run()


def test_a_backoff_of_ones_own_chooses_the_waits():
    policy = ClientPolicy(retry=RetryPolicy(max_retries=5, backoff=Fibonacci(base=0.5)))
    attempts = run(policy, calls=1).attempts
    assert list(attempts["backoff_s"].dropna()) == [0.5, 0.5, 1.0, 1.5, 2.5]
    assert MockLLM(server_error_probability=1.0, backoff=Fibonacci(base=100.0)).generate("Hi").fate is Fate.DEADLINE


def test_a_retry_policy_of_ones_own_chooses_what_is_tried_again():
    policy = ClientPolicy(retry=OnlyServerErrors(max_retries=3))
    assert len(run(policy, calls=1).attempts) == 4
    refused = run(policy, MockBackend(overload_probability=1.0), calls=1)
    assert (len(refused.attempts), refused.calls["fate"][0]) == (1, Fate.NOT_RETRYABLE)


def test_a_breaker_of_ones_own_opens_when_it_wants():
    policy = ClientPolicy(breaker=InARow(minimum_attempts=3, open_for=1e6), retry=RetryPolicy(max_retries=0))
    fates = list(run(policy, calls=6).calls["fate"])
    assert fates == [Fate.RETRIES_EXHAUSTED] * 3 + [Fate.CIRCUIT_OPEN] * 3


def test_a_budget_a_limit_and_a_hedging_delay_of_ones_own():
    spent = run(ClientPolicy(budget=OneRetryInAll(capacity=9)))
    assert len(spent.attempts) == 10 + 1
    limited = Experiment(
        backend=MockBackend(latency=1.0),
        policy=ClientPolicy(adaptive_concurrency=Always(initial=2)),
        workload=ClosedLoop(calls=20, users=20),
    ).run()
    assert limited.attempts["started_at_s"].value_counts().max() == 2
    hedged = run(ClientPolicy(hedging=OwnDelay(delay=0)), MockBackend(latency=1.0), calls=1).attempts
    assert list(hedged.sort_values("attempt")["started_at_s"]) == [0.0, 0.75]


def test_policies_of_ones_own_are_swept_by_their_paths_and_keep_their_type():
    base = Experiment(backend=DOWN, policy=ClientPolicy(retry=OnlyServerErrors(backoff=Fibonacci(base=1.0))))
    grid = {"policy.retry.max_retries": [1, 3], "policy.retry.backoff.base": [1.0, 2.0]}
    result = Sweep(base.replace(workload=ClosedLoop(calls=1)), grid).run(progress=False)
    waits = result.calls.set_index(list(grid))["backoff_s"]
    assert [waits[1, 1.0], waits[1, 2.0], waits[3, 1.0], waits[3, 2.0]] == [1.0, 2.0, 4.0, 8.0]


def test_no_file_can_hold_them_and_an_experiment_says_which():
    experiment = Experiment(policy=ClientPolicy(retry=RetryPolicy(backoff=Fibonacci())))
    assert not experiment.portable
    with pytest.raises(SettingsError, match=r"'policy\.retry\.backoff' is of type Fibonacci, which no file can hold"):
        experiment.to_dict()


def test_they_are_checked_like_any_setting():
    with pytest.raises(SettingsError, match="Fibonacci has no setting 'bse'; did you mean 'base'"):
        Fibonacci(bse=1)
    assert ClientPolicy(breaker=InARow()).replace(max_concurrency=3).breaker == InARow()
