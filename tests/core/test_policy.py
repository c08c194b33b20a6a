import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab import Backoff, ClientPolicy, FailureReason, RateLimit, RetryPolicy, SettingsError, Timeouts
from llmlab.core import policy as policy_module
from llmlab.core.policy import POLICY_SETTINGS, policy_with


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_retries": -1}, "max_retries must be 0 or more, got -1; use 0 for a single attempt"),
        ({"attempt_timeout": float("nan")}, "attempt_timeout must be a finite number, got NaN; use None for no bound"),
        ({"attempt_timeout": 0}, "attempt_timeout must be more than 0, got 0; use None for no bound"),
        ({"total_timeout": -2.5}, "total_timeout must be more than 0, got -2.5; use None for no bound"),
        ({"total_timeout": float("inf")}, "total_timeout must be a finite number, got inf; use None for no bound"),
        ({"max_concurrency": 0}, "max_concurrency must be 1 or more, got 0; use None for no limit"),
        ({"max_concurrency": 1.5}, "max_concurrency must be a valid integer"),
        ({"max_queue": -1}, "max_queue must be 0 or more, got -1"),
        ({"max_queue_wait": -1}, "max_queue_wait must be 0 or more, got -1"),
        ({"backoff": 3}, "backoff must be"),
        ({"max_retry": 1}, "there is no setting 'max_retry'; did you mean 'max_retries'? valid: attempt_timeout, "),
    ],
)
def test_a_wrong_setting_is_refused_with_its_value_and_what_to_do(settings, message):
    with pytest.raises(SettingsError) as caught:
        policy_with(ClientPolicy(), settings)
    assert message in str(caught.value)


def test_an_unknown_name_comes_with_all_valid_ones():
    with pytest.raises(SettingsError) as caught:
        policy_with(ClientPolicy(), {"retries": 1})
    assert all(name in str(caught.value) for name in POLICY_SETTINGS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Backoff(base=-1), "base must be 0 or more, got -1"),
        (lambda: Backoff(factor=0.5), "factor must be 1 or more, got 0.5"),
        (
            lambda: Backoff(jitter="some"),
            "jitter must be one of 'full', 'equal', 'decorrelated', 'none', 'proportional'",
        ),
        (lambda: RetryPolicy(retry_on=["slow"]), "retry_on.0 must be one of"),
        (lambda: RateLimit(requests=0), "requests must be more than 0, got 0"),
        (lambda: RateLimit(burst=0), "burst must be 1 or more, got 0"),
        (lambda: Timeouts(connect=0), "connect must be more than 0, got 0"),
        (lambda: ClientPolicy(retry={"max_retry": 1}), "RetryPolicy has no setting 'max_retry'"),
        (lambda: ClientPolicy(retries=1), "ClientPolicy has no setting 'retries'"),
    ],
)
def test_every_part_of_a_policy_refuses_what_is_wrong(make, message):
    with pytest.raises(SettingsError) as caught:
        make()
    assert message in str(caught.value)


def test_a_policy_is_frozen_and_compares_by_value():
    with pytest.raises(ValueError):
        ClientPolicy().attempt_timeout = 1
    assert ClientPolicy() == ClientPolicy()
    assert hash(ClientPolicy()) == hash(ClientPolicy())
    assert ClientPolicy() != ClientPolicy(attempt_timeout=1)


positive = st.floats(min_value=0.001, max_value=1e6)
POLICIES = st.builds(
    ClientPolicy,
    retry=st.builds(
        RetryPolicy,
        max_retries=st.integers(0, 9),
        backoff=st.builds(Backoff, base=positive, jitter=st.sampled_from(["full", "equal", "decorrelated", "none"])),
        retry_on=st.none() | st.frozensets(st.sampled_from(FailureReason)),
        respect_retry_after=st.booleans(),
    ),
    attempt_timeout=st.none() | positive,
    total_timeout=st.none() | positive,
    timeouts=st.builds(Timeouts, connect=st.none() | positive),
    max_concurrency=st.none() | st.integers(1, 100),
    max_queue=st.none() | st.integers(0, 100),
    max_queue_wait=st.none() | st.floats(0, 100),
    rate_limit=st.none() | st.builds(RateLimit, requests=positive, tokens=st.none() | positive),
)


@given(POLICIES)
def test_a_policy_survives_json(policy):
    assert ClientPolicy.model_validate_json(policy.model_dump_json()) == policy
    assert ClientPolicy(**json.loads(policy.model_dump_json())) == policy


def test_plain_settings_leave_the_rest_of_the_policy_alone():
    base = ClientPolicy(total_timeout=7, retry=RetryPolicy(respect_retry_after=False))
    changed = policy_with(base, {"max_retries": 5, "max_concurrency": 2})
    assert changed.retry == RetryPolicy(max_retries=5, respect_retry_after=False)
    assert (changed.total_timeout, changed.max_concurrency) == (7, 2)
    assert policy_with(base, {}) is base


@pytest.mark.parametrize(
    ("setting", "default"),
    [
        ("`retry.max_retries` | 2", ClientPolicy().retry.max_retries == 2),
        ("0.5 s doubling to 8 s", ClientPolicy().retry.backoff == Backoff(base=0.5, factor=2, maximum=8)),
        ("`retry.backoff.jitter` | `full`", ClientPolicy().retry.backoff.jitter == "full"),
        ("`retry.respect_retry_after` | true", ClientPolicy().retry.respect_retry_after),
        ("`attempt_timeout` | 30 s", ClientPolicy().attempt_timeout == 30),
        ("`total_timeout` | 120 s", ClientPolicy().total_timeout == 120),
        ("`timeouts.connect` | 5 s", ClientPolicy().timeouts.connect == 5),
        ("`timeouts.between_chunks` | 30 s", ClientPolicy().timeouts.between_chunks == 30),
        ("`max_concurrency` | none", ClientPolicy().max_concurrency is None),
        ("`rate_limit` | none", ClientPolicy().rate_limit is None),
    ],
)
def test_the_table_of_defaults_says_what_the_defaults_are(setting, default):
    assert setting in str(policy_module.__doc__)
    assert default
