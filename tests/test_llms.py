"""The ready-made clients, the way a user writes them."""

import asyncio
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import llmlab
from llmlab import (
    AsyncLocalLLM,
    AsyncMockLLM,
    AsyncOpenAILLM,
    ClientPolicy,
    Faults,
    LLMFailure,
    LLMRequest,
    LLMResponse,
    LocalLLM,
    MockLLM,
    OpenAIBackend,
    OpenAILLM,
    RetryPolicy,
    SettingsError,
)
from llmlab.llms import OpenAISettings
from llmlab.virtual_time import run

ROOT = Path(__file__).parents[1]
EXAMPLE = """
from llmlab import MockLLM, LLMRequest, LLMResponse
llm = MockLLM()
response = llm.generate(LLMRequest(prompt="Hello, world!"))
if isinstance(response, LLMResponse):
    print("LLM Response:", response.text)
else:
    print("LLM Failure:", response.reason)
"""


def test_the_first_example_runs_as_it_stands_without_a_warning():
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", EXAMPLE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("LLM Response: This is a simulated answer.\n", "", 0)


def test_the_example_in_the_packages_docstring_runs(capsys):
    opening, _, _ = llmlab.__doc__.partition("The map")
    exec(textwrap.dedent("\n".join(line for line in opening.splitlines() if line.startswith("    "))))
    assert capsys.readouterr().out in {"This is a simulated answer.\n", "attempt_timeout\n"}


def test_plain_keywords_go_to_backend_and_policy():
    with MockLLM(max_retries=5, timeout_probability=0.25, seed=7, max_concurrency=3, layer="mine") as llm:
        assert llm.policy == ClientPolicy(retry=RetryPolicy(max_retries=5), max_concurrency=3)
        assert llm.backend.faults == Faults(timeout=0.25)
        assert llm.backend.seed == 7
    with MockLLM(max_retries=5) as llm:
        assert isinstance(llm.generate("Hello"), LLMResponse)


def test_a_policy_is_taken_whole_and_keywords_change_it():
    policy = ClientPolicy(total_timeout=9, retry=RetryPolicy(respect_retry_after=False))
    with MockLLM(policy=policy, max_retries=1) as llm:
        assert llm.policy == ClientPolicy(total_timeout=9, retry=RetryPolicy(respect_retry_after=False, max_retries=1))


def test_a_failure_is_a_value_with_a_reason():
    with MockLLM(script=["overload"] * 3) as llm:
        result = llm.generate("Hello")
    assert isinstance(result, LLMFailure)
    assert (result.reason, result.retryable, result.ok) == ("overloaded", True, False)


@pytest.mark.parametrize("llm", [MockLLM, AsyncMockLLM])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_retry": 1}, "there is no setting 'max_retry'; did you mean 'max_retries'? valid: "),
        ({"retry": 1}, "there is no setting 'retry'; it is a part of `policy`: policy=ClientPolicy(retry=...); "),
        ({"timeout_probabilty": 1}, "did you mean 'timeout_probability'?"),
        ({"max_retries": -1}, "max_retries must be 0 or more, got -1; use 0 for a single attempt"),
        ({"max_retries": None}, "max_retries must be"),
        ({"timeout_probability": 1.5}, "timeout_probability must be 1 or less, got 1.5"),
        ({"timeout_probability": -0.1}, "timeout_probability must be 0 or more, got -0.1"),
        ({"timeout_probability": float("nan")}, "timeout_probability must be a finite number, got NaN"),
        ({"timeout_probability": "often"}, "timeout_probability must be a valid number"),
        ({"timeout_probability": 0.7, "empty_probability": 0.7}, "must add up to 1 or less, got 1.4"),
        ({"latency": -1}, "latency: value must be 0 or more, got -1"),
        ({"latency": float("nan")}, "latency: value must be a finite number, got NaN"),
        ({"latency": "slow"}, "latency: must be a number or a distribution (Constant, Uniform,"),
        ({"latency": {"kind": "lognorm"}}, "latency must be of one of the kinds 'constant', 'uniform', "),
        ({"faults": 3}, "faults must be a"),
        (
            {"script": ["tmeout"]},
            "script.0: 'tmeout' is no Answer, no AttemptFailure and none of timeout, connection_error",
        ),
        ({"script": "timeout"}, "script must be a list or a tuple, got 'timeout'"),
        ({"text": 5}, "text must be a str or a function of the request, got a int"),
        ({"policy": {"max_retries": 1}}, "policy must be a ClientPolicy, got a dict"),
        ({"policy": {}}, "policy must be a ClientPolicy, got a dict"),
        ({"seed": "x"}, "seed must be a valid integer"),
    ],
)
def test_wrong_settings_are_refused_in_words(llm, settings, message):
    with pytest.raises(SettingsError) as caught:
        llm(**settings)
    assert message in str(caught.value)


def test_the_list_of_valid_names_is_complete_and_true():
    with pytest.raises(SettingsError) as caught:
        AsyncMockLLM(real_time=True)
    names = str(caught.value).partition("valid: ")[2].split(", ")
    assert {"max_retries", "timeout_probability", "observers", "latency"} <= set(names)
    assert "real_time" not in names
    with pytest.raises(SettingsError, match="real_time"):
        MockLLM(nonsense=1)


def test_a_bare_mock_is_the_same_in_every_run():
    def texts():
        with MockLLM(timeout_probability=0.3, attempt_timeout=5) as llm:
            return [(result.ok, result.latency) for result in llm.generate_many(["a"] * 20)]

    assert texts() == texts()


def test_the_async_twin_gives_the_same_result_as_the_sync_one():
    async def main():
        return await AsyncMockLLM(seed=3).generate(LLMRequest(prompt="Hello"))

    with MockLLM(seed=3) as llm:
        assert llm.generate("Hello") == run(main())


@pytest.mark.parametrize("llm", [LocalLLM, AsyncLocalLLM])
def test_a_local_model_gets_more_time_and_few_calls_at_once(llm):
    policy = llm(model="tiny").policy
    assert (policy.attempt_timeout, policy.total_timeout, policy.max_concurrency) == (120, 300, 4)
    assert llm(model="tiny", max_retries=0).policy.total_timeout == 300
    with pytest.raises(SettingsError, match="did you mean 'base_url'"):
        llm(base_ulr="http://127.0.0.1:1")


@pytest.mark.parametrize("llm", [OpenAILLM, AsyncOpenAILLM])
def test_plain_keywords_go_to_an_openai_compatible_backend_and_its_policy(llm):
    client = llm(base_url="http://127.0.0.1:9/v1", model="m", api_key_env="MY_KEY", max_retries=1)
    assert client.backend == OpenAIBackend(base_url="http://127.0.0.1:9/v1", model="m", api_key_env="MY_KEY")
    assert client.policy == ClientPolicy(retry=RetryPolicy(max_retries=1))
    with pytest.raises(SettingsError, match="did you mean 'api_key_env'"):
        llm(api_key="sk-1")


def test_every_setting_of_the_openai_compatible_backend_is_a_keyword():
    assert OpenAISettings.__annotations__.keys() == OpenAIBackend.model_fields.keys() - {"kind"}


@pytest.mark.parametrize(("sync_llm", "async_llm"), [(LocalLLM, AsyncLocalLLM), (OpenAILLM, AsyncOpenAILLM)])
def test_nobody_listening_is_a_failure_and_no_exception(sync_llm, async_llm):
    with sync_llm(base_url="http://127.0.0.1:9", model="tiny", max_retries=0) as llm:
        assert llm.generate("Hello").reason == "connection_failed"

    async def main():
        async with async_llm(base_url="http://127.0.0.1:9", model="tiny", max_retries=0) as llm:
            return await llm.generate("Hello")

    assert asyncio.run(main()).reason == "connection_failed"
