import asyncio
import pickle
import threading

import pytest

from llmlab import (
    Answer,
    ClientPolicy,
    ClosedLoop,
    Experiment,
    MockBackend,
    OpenLoop,
    SettingsError,
    WithFaults,
)
from llmlab.experiments.experiment import seeded
from llmlab.virtual_time import run

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


def test_an_experiment_is_a_value():
    experiment = Experiment(backend=MockBackend(timeout_probability=0.1), workload=OpenLoop(calls=5), seed=4)
    experiment.run()
    assert pickle.loads(pickle.dumps(experiment)) == experiment
    assert Experiment.model_validate(experiment.model_dump() | {"backend": experiment.backend}) == experiment


@pytest.mark.parametrize(
    ("make", "message"),
    [
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
