import math

import pytest

from llmlab import (
    ClientPolicy,
    ClosedLoop,
    Experiment,
    MockBackend,
    OpenLoop,
    RetryPolicy,
    Window,
    reading,
)
from llmlab.analysis import compare
from llmlab.backends.setting_paths import with_setting


def experiment(*, retries=1, calls=400, **backend):
    return Experiment(
        backend=MockBackend(**backend),
        policy=ClientPolicy(retry=RetryPolicy(max_retries=retries)),
        workload=ClosedLoop(calls=calls),
    )


def test_its_numbers_are_those_of_the_run_and_of_the_run_with_one_more_retry():
    asked = experiment(timeout_probability=0.2)
    said = reading(asked)
    now = asked.run()
    more = with_setting(asked, "policy.retry.max_retries", 2).run()
    assert said.success.value == now.calls["answered"].mean()
    assert said.p95_latency.value == pytest.approx(now.calls["latency_s"].quantile(0.95))
    assert said.one_more == compare(now.calls, more.calls, "answered")
    assert said.more_load == pytest.approx(len(more.attempts) / len(now.attempts) - 1)


def test_the_sentence_says_weather_load_policy_and_what_one_more_retry_brings():
    said = reading(experiment(timeout_probability=0.2))
    share, points = 100 * said.success.value, 100 * said.one_more.difference
    assert str(said).startswith(f"With 20% timeouts and 10 users, 1 retry answers {share:.1f}".removesuffix(".0"))
    assert f"a second adds {points:.2g} points" in str(said)
    assert f"for {100 * said.more_load:.2g}% more load." in str(said)


def test_where_nothing_was_left_to_retry_nothing_more_is_run():
    said = reading(experiment())
    assert said.one_more is None
    assert math.isnan(said.more_load)
    assert str(said).startswith("With no faults and 10 users, 1 retry answers 100% of 400 calls (")


def test_a_result_that_is_given_is_not_run_again(monkeypatch):
    asked = experiment(timeout_probability=0.2)
    result = asked.run()
    monkeypatch.setattr(Experiment, "run", lambda self: pytest.fail("run again"))
    assert reading(asked, result, one_more=False).success.value == result.calls["answered"].mean()


def test_what_few_calls_cannot_tell_is_not_claimed():
    said = reading(experiment(timeout_probability=0.3, calls=40, retries=1))
    assert not said.one_more.differs
    assert "changes nothing that so many calls can tell" in str(said)


def test_of_many_faults_the_likeliest_are_named_and_the_rest_is_added_up():
    said = reading(
        experiment(
            retries=0, timeout_probability=0.05, overload_probability=0.2, empty_probability=0.04, cut_probability=0.02
        )
    )
    assert str(said).startswith("With 20% 503s, 5% timeouts, 6% other faults and 10 users, single attempts answer ")
    assert "a first retry adds" in str(said)


def test_open_loads_and_schedules_are_named():
    backend = MockBackend(faults={"schedule": [Window(kind="overload", start=1, end=2)]})
    said = reading(Experiment(backend=backend, workload=OpenLoop(rate=2.5, calls=50)), one_more=False)
    assert str(said).startswith("With faults that come and go and 2.5 calls a second, 2 retries answer")


def test_a_result_in_the_experiments_place_is_refused():
    with pytest.raises(TypeError, match="reading takes an Experiment, and its result after it, got a SweepResult"):
        reading(Experiment(workload=ClosedLoop(calls=1)).run())
