import asyncio
import itertools
import json
import pickle
import threading

import httpx
import pytest
from hypothesis import given

from llmlab import (
    Answer,
    AttemptFailure,
    ClientPolicy,
    ClosedLoop,
    Experiment,
    MockBackend,
    OllamaBackend,
    OpenLoop,
    SettingsError,
    WithFaults,
)
from llmlab.experiments.experiment import seeded
from llmlab.experiments.stop_signal import StopSignal
from llmlab.virtual_time import run
from tests.experiments.strategies import experiments

SMALL = ClosedLoop(calls=12, users=3)


class Own:
    """A backend of the user's own, of the outside world."""

    def __init__(self, delay=0.0):
        self.delay = delay

    async def attempt(self, request, *, timeouts, key):
        await asyncio.sleep(self.delay)
        return Answer("ok")


class OwnWithChance(Own):
    def __init__(self, seed=0):
        super().__init__()
        self.seed = seed

    def seeded(self, seed):
        return type(self)(seed)


def outcome(result):
    return result.calls.drop(columns="seed").to_csv(), result.attempts.drop(columns="seed").to_csv()


@pytest.mark.parametrize("workload", [SMALL, OpenLoop(calls=12)])
def test_the_same_seed_gives_the_same_frames_and_another_one_others(workload):
    def experiment(seed):
        return Experiment(backend=MockBackend(overload_probability=0.3), workload=workload, seed=seed)

    assert outcome(experiment(1).run()) == outcome(experiment(1).run())
    assert outcome(experiment(1).run()) != outcome(experiment(2).run())


def test_the_experiments_seed_replaces_the_backends_own():
    one = Experiment(backend=MockBackend(seed=5), workload=SMALL, seed=1).run()
    other = Experiment(backend=MockBackend(seed=6), workload=SMALL, seed=1).run()
    assert outcome(one) == outcome(other)


def test_every_kind_of_backend_is_seeded_in_its_own_way():
    assert seeded(MockBackend(seed=5), 1) == MockBackend(seed=1)
    faulty = seeded(WithFaults(MockBackend(seed=5), timeout_probability=0.1, name="mine"), 1)
    assert (faulty.seed, faulty.backend.seed, faulty.name, faulty.faults.timeout) == (1, 1, "mine", 0.1)
    assert seeded(OwnWithChance(), 7).seed == 7
    own = Own()
    assert seeded(own, 7) is own


@pytest.mark.parametrize("backend", [MockBackend(), Own(0.001), WithFaults(Own(), overload_probability=0.5)])
def test_it_runs_plainly_and_inside_a_running_loop_and_beside_other_work(backend):
    experiment = Experiment(backend=backend, policy=ClientPolicy(), workload=SMALL)
    if not experiment.simulated:
        experiment = experiment.replace(workload=ClosedLoop(calls=4))

    async def cell():
        return experiment.run()

    async def beside():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)

        ticking = asyncio.create_task(tick())
        result = await experiment.run_async()
        ticking.cancel()
        assert ticks > 0
        return result

    calls = experiment.workload.calls
    assert len(experiment.run().calls) == calls
    assert len(asyncio.run(cell()).calls) == calls
    assert len(run(cell()).calls) == calls
    assert len(asyncio.run(beside()).calls) == calls


def test_times_count_from_the_start_of_the_run_in_real_time_too():
    result = Experiment(backend=Own(), workload=ClosedLoop(calls=3)).run()
    for frame in (result.calls, result.attempts):
        assert (frame["started_at_s"] >= 0).all()
        assert (frame["ended_at_s"] < 60).all()
    assert (result.calls["arrived_at_s"] < 60).all()


def test_a_real_backend_runs_on_the_loop_thread_and_is_closed_at_the_end():
    seen = []

    class Closing(Own):
        async def attempt(self, request, *, timeouts, key):
            seen.append(threading.current_thread().name)
            return Answer("ok")

        async def aclose(self):
            seen.append("closed")

    Experiment(backend=Closing(), workload=ClosedLoop(calls=1)).run()
    assert seen == ["llmlab-loop", "closed"]


def test_a_run_that_is_awaited_ends_when_that_is_cancelled():
    begun, ended = threading.Event(), threading.Event()

    class Endless(Own):
        simulated = True

        async def attempt(self, request, *, timeouts, key):
            begun.set()
            try:
                for _ in itertools.count():  # an hour of virtual time is nothing
                    await asyncio.sleep(3600)
            finally:
                ended.set()

    async def main():
        running = asyncio.create_task(experiment.run_async())
        await asyncio.to_thread(begun.wait)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return ended.is_set()

    policy = {"attempt_timeout": None, "total_timeout": None}
    experiment = Experiment(backend=Endless(), policy=policy, workload=ClosedLoop(calls=1))
    assert asyncio.run(main())


def test_a_run_whose_stop_is_set_ends_whatever_it_waits_for():
    stop = StopSignal()

    class Silent:
        async def attempt(self, request, *, timeouts, key):
            stop.set("enough")
            await asyncio.Event().wait()

    experiment = Experiment(backend=Silent(), policy={"attempt_timeout": None}, workload=ClosedLoop(calls=1))
    with pytest.raises(asyncio.CancelledError):
        experiment.run(stop=stop)
    assert len(Experiment(workload=ClosedLoop(calls=3)).run(stop=StopSignal()).calls) == 3


def test_an_experiment_is_a_value():
    experiment = Experiment(backend=MockBackend(timeout_probability=0.1), workload=OpenLoop(calls=5), seed=4)
    experiment.run()
    assert pickle.loads(pickle.dumps(experiment)) == experiment
    assert Experiment.model_validate(experiment.model_dump() | {"backend": experiment.backend}) == experiment


@given(experiments)
def test_its_plain_data_rebuild_it_whatever_it_is_made_of(experiment):
    data = json.loads(experiment.canonical_json())
    assert data == experiment.to_dict()
    again = Experiment(**data)
    assert again == experiment
    assert type(again.backend) is type(experiment.backend)
    assert again.canonical_json() == experiment.canonical_json()
    assert experiment.portable


def test_equal_experiments_have_the_same_bytes_and_every_change_changes_them():
    plain = Experiment()
    assert Experiment(policy=ClientPolicy(attempt_timeout=30), seed=0).canonical_json() == plain.canonical_json()
    changes = [
        Experiment(seed=1),
        Experiment(backend=MockBackend(text="")),
        Experiment(backend=MockBackend(name="other")),  # it stands in the events
        Experiment(backend=WithFaults(MockBackend())),
        Experiment(policy=ClientPolicy(attempt_timeout=30.000000000000004)),
        Experiment(workload=OpenLoop()),
    ]
    assert len({one.canonical_json() for one in (plain, *changes)}) == len(changes) + 1


def test_a_run_of_the_rebuilt_experiment_gives_the_same_events():
    backend = WithFaults(MockBackend(script=["overload", Answer("x")], server={"slots": 2}), timeout_probability=0.2)
    experiment = Experiment(backend=backend, workload=OpenLoop(rate=2, duration=5), seed=3)
    again = Experiment(**experiment.to_dict())
    assert outcome(again.run()) == outcome(experiment.run())


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        (Own(), "'backend' is of type Own, which no file can hold"),
        (WithFaults(Own()), "'backend.backend' is of type Own"),
        (MockBackend(text=str.upper), "'backend.text' is of type method_descriptor"),
        (OllamaBackend(http_client=httpx.AsyncClient()), "'backend.http_client' is of type AsyncClient"),
        (
            MockBackend(script=[AttemptFailure("refused", "no", cause=OSError())]),
            "'backend.script.0.cause' is of type OSErr",
        ),
    ],
)
def test_what_is_not_llmlabs_own_is_named(backend, message):
    experiment = Experiment(backend=backend)
    assert not experiment.portable
    with pytest.raises(SettingsError) as caught:
        experiment.to_dict()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Experiment(backend={"model": "x"}),
            "backend: must say of which 'kind' it is; valid: fallback, layer, m",
        ),
        (lambda: Experiment(backend={"kind": "mok"}), "backend: 'mok' is not a kind of backend; did you mean 'mock'?"),
        (lambda: Experiment(backend={"kind": "my.Own"}), "one of your own is given in Python, as an object"),
        (lambda: Experiment(backend={"kind": "mock", "sed": 1}), "MockBackend has no setting 'sed'; did you mean"),
        (lambda: Experiment(backend={"kind": "with_faults", "backend": {"kind": "x"}}), "'x' is not a kind of backend"),
        (lambda: Experiment(backend={"kind": "with_faults"}), "needs a method"),
        (lambda: Experiment(backend=[{"kind": "mock"}]), "needs a method"),
        (lambda: Experiment(backend={"kind": "mock", "script": [{"kind": "anser"}]}), "did you mean 'answer'?"),
        (lambda: Experiment(backend={"kind": "mock", "script": [{"kind": "failure"}]}), "needs 'reason'"),
        (lambda: Experiment(backend="mock"), "backend: needs a method `async def attempt(...)`; a str has none"),
        (lambda: Experiment(polcy=1), "Experiment has no setting 'polcy'; did you mean 'policy'?"),
        (lambda: Experiment(policy=3), "policy must be"),
        (lambda: Experiment(seed="x"), "seed must be a valid integer"),
    ],
)
def test_wrong_settings_are_refused_in_words(make, message):
    with pytest.raises(SettingsError) as caught:
        make()
    assert message in str(caught.value)
