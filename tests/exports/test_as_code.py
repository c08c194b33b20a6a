import pytest
from hypothesis import given, settings

from llmlab import (
    Answer,
    ClosedLoop,
    Experiment,
    Fallback,
    Layer,
    LLMRequest,
    MockBackend,
    OpenLoop,
    SettingsError,
    Sweep,
    as_code,
)
from tests.experiments.strategies import experiments, policies, sweeps

CANARY = {"role": "user", "content": "canary"}


def executed(code):
    namespace = {}
    exec(compile(code, "code", "exec"), namespace)
    return namespace


def runs(sweep):
    return [(repr(names), replicate, point.canonical_json()) for names, replicate, point in sweep.runs()]


@settings(max_examples=60)
@given(experiments)
def test_the_code_of_an_experiment_builds_an_equal_one(experiment):
    assert executed(as_code(experiment))["experiment"].canonical_json() == experiment.canonical_json()


@settings(max_examples=60)
@given(sweeps)
def test_the_code_of_a_sweep_builds_an_equal_one(sweep):
    assert runs(executed(as_code(sweep))["sweep"]) == runs(sweep)


@settings(max_examples=30)
@given(policies)
def test_the_code_of_a_policy_builds_an_equal_one(policy):
    assert executed(as_code(policy))["policy"] == policy


@pytest.mark.parametrize(
    "experiment",
    [
        Experiment(workload=OpenLoop(calls=1000, duration=60)),
        Experiment(backend=Fallback([MockBackend(), Layer(MockBackend(), name="layer")])),
    ],
)
def test_a_default_that_others_would_change_is_written_where_it_was_given(experiment):
    assert executed(as_code(experiment))["experiment"].canonical_json() == experiment.canonical_json()


def test_without_prompts_their_place_is_marked_and_no_experiment_takes_it():
    requests = (
        LLMRequest(prompt="canary", system="canary", max_tokens=5),
        LLMRequest(messages=[CANARY], stop="canary"),
    )
    backend = MockBackend(text="canary", script=("timeout", Answer("canary")))
    base = Experiment(backend=backend, workload=ClosedLoop(requests=requests), seed=7)
    grid = {"workload.requests": ["canary", [{"prompt": "canary"}]], "backend.text": ["canary"], "seed": [1, 2]}
    code = as_code(Sweep(base, grid), prompts=False)
    assert "canary" not in code
    assert "max_tokens=5" in code
    assert '"seed": [1, 2]' in code
    with pytest.raises(SettingsError):
        executed(code)
    assert "canary" in as_code(base)


def test_defaults_are_not_repeated():
    assert as_code(Experiment(seed=7)) == "from llmlab import Experiment\n\nexperiment = Experiment(seed=7)\n"
    sweep = Sweep(Experiment(), {"policy.retry.max_retries": [0, 1]})
    assert as_code(sweep) == (
        "from llmlab import Experiment, Sweep\n\n"
        "base = Experiment()\n"
        'sweep = Sweep(base, {"policy.retry.max_retries": [0, 1]})\n'
    )


def test_long_code_is_broken_into_lines_that_fit():
    requests = tuple(LLMRequest(prompt=f"Tell me fact number {number}.") for number in range(9))
    code = as_code(Experiment(workload=ClosedLoop(calls=9, requests=requests)))
    assert max(map(len, code.splitlines())) <= 120
    assert executed(code)["experiment"].workload.requests == requests


class Own:
    async def attempt(self, request, *, timeouts, key): ...


def test_what_no_text_can_hold_is_named():
    with pytest.raises(SettingsError, match="backend"):
        as_code(Experiment(backend=Own()))
    with pytest.raises(SettingsError, match="text"):
        as_code(Experiment(backend=MockBackend(text=lambda request: request.prompt)))
    with pytest.raises(SettingsError, match=r"a ClientPolicy, an Experiment or a Sweep, got a MockBackend"):
        as_code(MockBackend())
