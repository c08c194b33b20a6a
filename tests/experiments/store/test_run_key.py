import dataclasses

import pytest

from llmlab import (
    Answer,
    ClientPolicy,
    ClosedLoop,
    Experiment,
    LLMRequest,
    MockBackend,
    OpenLoop,
    RetryPolicy,
    ServerModel,
    SettingsError,
    Sweep,
    WithFaults,
)
from llmlab.experiments.store import RunKeys, run_key
from llmlab.experiments.sweep import with_setting

BASE = Experiment()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", 1),
        ("backend.timeout_probability", 0.1),
        ("backend.latency", 2.0),
        ("backend.text", "another answer"),
        ("backend.name", "another"),
        ("backend.server", ServerModel(slots=2)),
        ("policy.retry.max_retries", 5),
        ("policy.attempt_timeout", None),
        ("workload.calls", 999),
        ("workload", OpenLoop()),
        ("workload.requests", [LLMRequest(prompt="What else?")]),
    ],
)
def test_every_setting_makes_another_key(path, value):
    assert run_key(with_setting(BASE, path, value)) != run_key(BASE)


def test_runs_that_share_settings_have_the_keys_that_each_has_alone():
    grid = {"policy.retry.max_retries": [0, 1], "backend.timeout_probability": [0.0, 0.1], "workload.calls": [5, 6]}
    experiments = [one for _, _, one in Sweep(BASE, grid, replicates=2).runs()]
    keys = RunKeys()
    together = [keys.key(one) for one in experiments]
    assert together == [run_key(one) for one in experiments]
    assert len(set(together)) == 16


def test_the_same_settings_have_the_same_key_however_they_were_given():
    spelt_out = Experiment(
        backend=MockBackend(timeout_probability=0.0, seed=0),
        policy=ClientPolicy(retry=RetryPolicy(max_retries=2)),
        workload=ClosedLoop(calls=1000, users=10),
    )
    assert run_key(spelt_out) == run_key(BASE)
    in_front = WithFaults(MockBackend(), timeout_probability=0.5)
    assert run_key(Experiment(backend=in_front)) == run_key(Experiment(backend=in_front.replace()))


def test_what_is_behind_faults_counts():
    keys = {run_key(Experiment(backend=WithFaults(one))) for one in (MockBackend(), MockBackend(latency=1.0), Own(1.0))}
    assert len(keys) == 3


class Own:
    simulated = True
    fingerprint = "own, 1"

    def __init__(self, delay=1.0, sent=None):
        self.delay = delay
        self.connection = object()  # no plain value: left to the fingerprint
        self.inner = sent

    async def attempt(self, request, *, timeouts, key):
        return Answer("ok")


class Slotted(Own):
    __slots__ = ("size",)


@dataclasses.dataclass(frozen=True)
class Record:
    delay: float = 1.0
    fingerprint: str = "record, 1"

    async def attempt(self, request, *, timeouts, key):
        return Answer("ok")


def test_a_users_own_backend_is_told_apart_by_its_fingerprint_and_its_plain_attributes():
    other = Own()
    other.fingerprint = "own, 2"
    slotted, larger = Slotted(), Slotted()
    slotted.size, larger.size = 1, 2
    backends = [Own(), Own(2.0), Own(sent=MockBackend()), other, slotted, larger, Record(), Record(2.0)]
    assert len({run_key(Experiment(backend=one)) for one in backends}) == len(backends)
    assert run_key(Experiment(backend=Own())) == run_key(Experiment(backend=Own()))


def test_a_backend_that_does_not_say_when_it_answers_alike_is_refused_with_what_to_do():
    class Silent:
        async def attempt(self, request, *, timeouts, key):
            return Answer("ok")

    for backend in (Silent(), WithFaults(Silent())):
        with pytest.raises(SettingsError, match=r"of a Silent cannot be stored.*give it an attribute `fingerprint`"):
            run_key(Experiment(backend=backend))


def test_a_function_in_llmlabs_own_backend_is_refused():
    with pytest.raises(SettingsError, match=r"cannot be stored.*'backend.text' is of type function"):
        run_key(Experiment(backend=MockBackend(text=lambda request: request.prompt)))
