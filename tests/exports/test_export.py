import ast
import random
import statistics

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st

import llmlab
from llmlab import (
    AdaptiveConcurrency,
    AdaptiveThrottle,
    Backoff,
    CircuitBreaker,
    ClientPolicy,
    FailureReason,
    Hedging,
    RateLimit,
    RetryBudget,
    RetryPolicy,
    SettingsError,
    Sweep,
    Timeouts,
    export_policy,
    preset,
)
from llmlab.core.presets import PRESETS
from llmlab.exports import TARGETS
from llmlab.exports.wishes import wishes

OTHERS = ["openai", "anthropic", "litellm", "tenacity"]
SECONDS = st.none() | st.floats(0.1, 1000)
BACKOFFS = st.builds(
    Backoff,
    base=st.floats(0, 5),
    factor=st.floats(1, 4),
    maximum=st.floats(0, 60),
    jitter=st.sampled_from(["full", "equal", "decorrelated", "none", "proportional", "symmetric", "additive"]),
    jitter_share=st.floats(0, 1),
    jitter_seconds=st.floats(0, 3),
)
RETRIES = st.builds(
    RetryPolicy,
    max_retries=st.integers(0, 9),
    stop_after=SECONDS,
    backoff=BACKOFFS,
    rate_limited_backoff=st.none() | BACKOFFS,
    retry_on=st.none() | st.frozensets(st.sampled_from(FailureReason)),
    respect_retry_after=st.booleans(),
    max_retry_after=SECONDS,
)
POLICIES = st.builds(
    ClientPolicy,
    retry=RETRIES,
    attempt_timeout=SECONDS,
    total_timeout=SECONDS,
    timeouts=st.builds(Timeouts, connect=SECONDS, pool=SECONDS, first_byte=SECONDS, between_chunks=SECONDS),
    max_concurrency=st.none() | st.integers(1, 99),
    max_queue=st.none() | st.integers(0, 9),
    rate_limit=st.none() | st.builds(RateLimit, requests=st.floats(1, 100)),
    budget=st.none() | st.just(RetryBudget(per_call=0.1)),
    breaker=st.none() | st.just(CircuitBreaker()),
    throttle=st.none() | st.just(AdaptiveThrottle()),
    adaptive_concurrency=st.none() | st.just(AdaptiveConcurrency()),
    hedging=st.none() | st.just(Hedging(delay=2.0)),
)


def executed(code):
    namespace = {}
    exec(compile(code, "exported", "exec"), namespace)
    return namespace


def keywords(code, callee):
    [call] = [
        node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call) and ast.unparse(node.func) == callee
    ]
    return {argument.arg: argument.value for argument in call.keywords}


@given(POLICIES)
def test_llmlab_code_builds_the_very_policy(policy):
    export = export_policy(policy, "llmlab")
    assert executed(str(export))["policy"] == policy
    assert export.left_out == ()


@given(POLICIES)
def test_the_toml_file_holds_the_very_policy(tmp_path_factory, policy):
    file = tmp_path_factory.mktemp("export") / "policy.toml"
    file.write_text(str(export_policy(policy, "llmlab-toml")), encoding="utf-8")
    assert Sweep.load(file).base.policy == policy


@given(POLICIES, st.sampled_from(TARGETS))
def test_what_is_left_out_is_something_that_the_policy_asks_for_and_the_code_compiles(policy, target):
    export = export_policy(policy, target)
    if target != "llmlab-toml":
        compile(str(export), "exported", "exec")
    names = [line.split(" (")[0] for line in export.left_out]
    assert set(names) <= set(wishes(policy))
    assert len(names) == len(set(names))


@given(POLICIES, st.sampled_from(OTHERS))
def test_no_wish_is_dropped_in_silence(policy, target):
    """Limits, budgets, breakers and the like have no place in any of these clients."""
    export = export_policy(policy, target)
    never = ["rate_limit", "budget", "breaker", "throttle", "adaptive_concurrency", "hedging", "max_queue"]
    asked = [name for name in never if name in wishes(policy)]
    assert [name for name in asked if not any(line.startswith(f"{name} (") for line in export.left_out)] == []
    if policy.total_timeout is not None:
        assert any(line.startswith("total_timeout") for line in export.left_out)


@pytest.mark.parametrize("name", ["openai", "anthropic", "litellm"])
def test_a_presets_own_client_retries_as_the_preset_says(name):
    left_out = export_policy(preset(name), name).left_out
    assert [line for line in left_out if line.startswith("retry.")] == []


def test_the_sdks_are_told_attempts_and_silences():
    policy = ClientPolicy(
        retry=RetryPolicy(max_retries=4), attempt_timeout=20, timeouts=Timeouts(first_byte=9, connect=3)
    )
    for package, client in (("openai", "OpenAI"), ("anthropic", "Anthropic")):
        code = export_policy(policy, package).code
        arguments = keywords(code, f"{package}.{client}")
        assert set(arguments) == {"max_retries", "timeout"}
        assert ast.literal_eval(arguments["max_retries"]) == 4
        timeout = {name: ast.literal_eval(value) for name, value in keywords(code, f"{package}.Timeout").items()}
        assert timeout == {"connect": 3.0, "read": 9.0, "write": 9.0, "pool": None}


def test_litellm_is_told_attempts_timeout_and_concurrency():
    arguments = keywords(export_policy(ClientPolicy(max_concurrency=8), "litellm").code, "litellm.Router")
    assert set(arguments) == {
        "model_list",
        "num_retries",
        "timeout",
        "default_max_parallel_requests",
        "disable_cooldowns",
    }
    assert ast.literal_eval(arguments["default_max_parallel_requests"]) == 8


def test_it_says_what_a_client_retries_otherwise():
    only = ClientPolicy(retry=RetryPolicy(retry_on={"overloaded", "empty_output"}))
    [line] = [line for line in export_policy(only, "openai").left_out if line.startswith("retry.retry_on")]
    assert "it retries attempt_timeout, connection_failed, connection_lost, rate_limited, server_error as well" in line
    assert "it does not retry empty_output" in line


def test_without_retries_nothing_is_said_of_them():
    left_out = export_policy(ClientPolicy(retry=RetryPolicy(max_retries=0)), "tenacity").left_out
    assert [line for line in left_out if line.startswith("retry.")] == []


def test_tenacity_makes_as_many_attempts():
    retrying = executed(export_policy(ClientPolicy(retry=RetryPolicy(max_retries=3)), "tenacity").code)["retrying"]
    attempts, slept = [], []

    def fail():
        attempts.append(1)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        retrying.copy(sleep=slept.append)(fail)
    assert len(attempts) == 4
    assert len(slept) == 3


@pytest.mark.parametrize("jitter", ["full", "equal", "none", "proportional", "symmetric", "additive"])
def test_tenacity_waits_as_the_backoff_does(jitter):
    backoff = Backoff(base=0.5, factor=3, maximum=8, jitter=jitter, jitter_share=0.4, jitter_seconds=0.7)
    policy = ClientPolicy(retry=RetryPolicy(max_retries=6, backoff=backoff))
    wait = executed(export_policy(policy, "tenacity").code)["retrying"].wait
    random.seed(0)  # tenacity draws from the module's own generator
    for retry in range(1, 7):
        state = tenacity.RetryCallState(None, None, (), {})
        state.attempt_number = retry
        waits = [wait(state) for _ in range(400)]
        shortest, longest = (backoff.delay(retry, 0.0, u) for u in (0.0, 1.0))
        assert shortest - 1e-9 <= min(waits)
        assert max(waits) <= longest + 1e-9
        assert statistics.mean(waits) == pytest.approx(backoff.delay(retry, 0.0, 0.5), rel=0.1)


def test_tenacity_stops_when_the_policy_does():
    retry = RetryPolicy(max_retries=99, stop_after=10, backoff=Backoff(base=4, factor=1, jitter="none"))
    stop = executed(export_policy(ClientPolicy(retry=retry, total_timeout=30), "tenacity").code)["retrying"].stop

    def stops(elapsed, upcoming):
        state = tenacity.RetryCallState(None, None, (), {})
        state.outcome_timestamp, state.upcoming_sleep = state.start_time + elapsed, upcoming
        return stop(state)

    assert not stops(9.0, 4.0)
    assert stops(10.0, 4.0)
    assert stops(9.0, 21.0)


def test_every_preset_can_be_exported_everywhere():
    for name in PRESETS:
        for target in TARGETS:
            assert export_policy(preset(name), target).code


def test_everything_that_llmlab_code_imports_is_public():
    assert {*llmlab.__all__} >= {"ClientPolicy", "RetryPolicy", "Backoff", "Timeouts", "RateLimit", "FailureReason"}


def test_an_unknown_target_is_refused_with_all_there_are():
    with pytest.raises(SettingsError, match="no target 'open-ai'; did you mean 'openai'"):
        export_policy(ClientPolicy(), "open-ai")
    with pytest.raises(SettingsError, match=r"must be a ClientPolicy, got a RetryPolicy; .*method policy\(\)"):
        export_policy(RetryPolicy(), "openai")
