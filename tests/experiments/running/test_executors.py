"""Where a sweep is carried out changes nothing about its result, and a run that fails costs itself alone."""

import logging
import multiprocessing
import subprocess
import sys
import textwrap
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from llmlab import ClosedLoop, Experiment, MockBackend, OpenLoop, RateSteps, ServerModel, SettingsError, Sweep
from llmlab.experiments.procedure import Procedure
from llmlab.experiments.running import executors, worker_pool
from llmlab.experiments.running.agenda import Agenda
from llmlab.experiments.running.plan import PlannedRun, expected_calls
from llmlab.experiments.running.sweep_run import SweepError
from tests.experiments.running.backends import Scripted

SERVED = MockBackend(server=ServerModel(slots=2), overload_probability=0.2)
SWEEP = Sweep(
    Experiment(backend=SERVED, workload=OpenLoop(rate=3.0, calls=30)),
    {"policy.retry.max_retries": [0, 2], "workload.rate": [1.0, 5.0]},
    replicates=3,
)
SHORT = ClosedLoop(calls=3, users=1)


def sweep_of(whats, **settings):
    base = Experiment(backend=Scripted(**settings), workload=SHORT)
    return Sweep(base, {"backend.what": whats})


def essence(result):
    frames = (result.calls, result.attempts, result.server)
    return [frame.to_csv() for frame in frames], [(run.settings, run.replicate, run.seed) for run in result.runs]


class Backwards(Executor):
    """Runs nothing until it is asked for the result of everything, and then the last first."""

    def __init__(self):
        self._threads = ThreadPoolExecutor(1)
        self._waiting = []

    def submit(self, fn, /, *args, **kwargs):
        self._waiting.append(lambda: fn(*args, **kwargs))
        return self._threads.submit(self._last)

    def _last(self):
        return self._waiting.pop()()


def test_the_result_is_the_same_rows_in_the_same_order_wherever_it_is_made():
    here = essence(SWEEP.run(workers=1, progress=False))
    for workers in (2, 3):
        assert essence(SWEEP.run(workers=workers, progress=False)) == here
    with ThreadPoolExecutor(3) as threads:
        assert essence(SWEEP.run(executor=threads, progress=False)) == here
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
        assert essence(SWEEP.run(executor=processes, workers=1, progress=False)) == here


def test_runs_that_end_in_another_order_stand_in_the_results_in_their_own():
    assert essence(SWEEP.run(executor=Backwards(), progress=False)) == essence(SWEEP.run(workers=1, progress=False))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_exception_in_a_users_backend_costs_its_run_alone(workers, caplog):
    with caplog.at_level(logging.WARNING, "llmlab"):
        result = sweep_of(["answer", "raise_", "fail"]).run(workers=workers, progress=False)
    assert [run.settings["backend.what"] for run in result.runs] == ["answer", "fail"]
    [failed] = result.failures
    assert failed.settings == {"backend.what": "raise_"}
    assert failed.reason == "ValueError: a bug of the user's"
    assert "in raise_" in failed.traceback
    assert not result.interrupted
    assert repr(result) == "<SweepResult: 2 runs, 1 failed over backend.what>"
    assert "1 of 3 runs failed" in caplog.text
    assert "backend.what='raise_'" in caplog.text


def test_a_worker_that_dies_costs_its_run_alone_which_is_tried_twice(tmp_path):
    result = sweep_of(["exit", "answer", "kill", "fail"], folder=str(tmp_path)).run(workers=2, progress=False)
    assert [run.settings["backend.what"] for run in result.runs] == ["answer", "fail"]
    assert [failed.reason for failed in result.failures] == [
        "WorkerDied: the worker process ended with exit code 3",
        "WorkerDied: the worker process was ended by SIGKILL (out of memory?)",
    ]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_worker_that_dies_once_costs_nothing(tmp_path):
    result = sweep_of(["answer", "die_once", "fail"], folder=str(tmp_path)).run(workers=2, progress=False)
    assert len(result.runs) == 3
    assert result.failures == []
    assert len(list(tmp_path.iterdir())) == 1


def test_of_a_lost_batch_each_run_is_tried_alone_and_only_one_that_was_alone_is_given_up():
    agenda = Agenda(PlannedRun(number, {}, 0, Experiment(workload=SHORT)) for number in range(5))
    batch = agenda.batch(calls=6, runs=10)
    assert [run.number for run in batch] == [0, 1]
    assert agenda.lost(batch) == []
    alone = [agenda.batch(calls=100, runs=10) for _ in range(2)]
    assert [[run.number for run in each] for each in alone] == [[0], [1]]
    assert [run.number for run in agenda.lost(alone[1])] == [1]
    assert [run.number for run in agenda.batch(calls=100, runs=2)] == [2, 3]
    assert [run.number for run in agenda.batch(calls=100, runs=2)] == [4]
    assert agenda.batch(calls=100, runs=2) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_where_nothing_can_be_finished_the_first_failure_is_raised_with_its_place(workers):
    with pytest.raises(SweepError, match=r"none of 2 runs could be finished.*replicate 0: ValueError") as caught:
        sweep_of(["raise_"]).replace(replicates=2).run(workers=workers, progress=False)
    assert "in raise_" in str(caught.value)


class Broken(Executor):
    """Breaks at its second job, as the standard library's pool does when a worker dies."""

    def __init__(self):
        self.jobs = 0

    def submit(self, fn, /, *args, **kwargs):
        self.jobs += 1
        if self.jobs == 2:
            raise BrokenExecutor("a child process terminated abruptly")
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(fn, *args, **kwargs)


def test_an_executor_that_breaks_ends_the_sweep_with_what_it_has_and_says_what_to_do():
    result = SWEEP.run(executor=Broken(), workers=1, progress=False)
    assert result.interrupted
    assert len(result.runs) > 0
    assert "the executor is broken" in result.stopped
    assert '`if __name__ == "__main__":`' in result.stopped


def test_where_no_worker_process_can_be_started_it_says_that_none_is_needed(monkeypatch):
    monkeypatch.setattr(worker_pool, "_MODULE", "llmlab.nowhere")
    result = SWEEP.run(workers=2, progress=False)
    assert result.stopped.startswith("no worker process can be started")
    assert result.stopped.endswith("with workers=1 none is needed")


@pytest.mark.parametrize("workers", [0, -1, 1.5, "2", True])
def test_a_wrong_number_of_workers_is_refused(workers):
    with pytest.raises(SettingsError, match=f"workers must be a whole number, 1 or more, got {workers!r}; 1 runs"):
        SWEEP.run(workers=workers)


def test_what_is_no_executor_or_no_function_is_refused_before_anything_runs():
    with pytest.raises(SettingsError, match=r"executor must be a concurrent\.futures\.Executor, .* got a str"):
        SWEEP.run(executor="dask")
    with pytest.raises(SettingsError, match="got the class ThreadPoolExecutor"):
        SWEEP.run(executor=ThreadPoolExecutor)
    with pytest.raises(SettingsError, match="on_point must be a function of a finished run, got a int"):
        SWEEP.run(on_point=3)


@pytest.mark.parametrize(
    ("simulated", "calls", "cores", "processes"),
    [(True, 10, 8, 1), (True, 200_000, 8, 4), (True, 200_000, 2, 2), (True, 200_000, 1, 1), (False, 200_000, 8, 1)],
)
def test_a_large_simulated_sweep_gets_a_process_for_each_core_and_others_run_here(
    simulated, calls, cores, processes, monkeypatch
):
    monkeypatch.setattr(executors, "cores", lambda: cores)
    backend = Scripted()
    backend.simulated = simulated
    sweep = Sweep(Experiment(backend=backend, workload=ClosedLoop(calls=calls)), {"seed": range(4)})
    planned = (PlannedRun(number, *run) for number, run in enumerate(sweep.runs()))
    place, runs = executors.chosen_place(planned, 4, None, None, Procedure())
    assert place.workers == processes
    assert (place.executor is None) == (processes == 1)
    assert [run.number for run in runs] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("workload", "calls"),
    [
        (ClosedLoop(calls=7), 7),
        (OpenLoop(calls=7), 7),
        (OpenLoop(rate=2.0, duration=10), 20),
        (OpenLoop(rate=RateSteps(points=[(0, 1), (5, 3)]), duration=10), 20),
    ],
)
def test_how_many_calls_a_run_makes_is_estimated_from_its_workload(workload, calls):
    assert expected_calls(Experiment(workload=workload)) == calls


def test_a_script_needs_no_main_guard_and_may_define_its_backend_itself(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            from llmlab import Answer, ClosedLoop, Experiment, Sweep

            print("started")

            class Mine:
                simulated = True

                async def attempt(self, request, *, timeouts, key):
                    return Answer("mine")

            sweep = Sweep(Experiment(backend=Mine(), workload=ClosedLoop(calls=5)), {"seed": [1, 2]})
            print(len(sweep.run(workers=2, progress=False).calls))
            """
        )
    )
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["started", "10"]
    assert run.stderr == ""


def test_a_pool_of_the_standard_library_in_a_script_without_main_guard_ends_with_advice(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import multiprocessing
            from concurrent.futures import ProcessPoolExecutor
            from llmlab import ClosedLoop, Experiment, Sweep

            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                result = Sweep(Experiment(workload=ClosedLoop(calls=5)), {"seed": [1, 2]}).run(executor=pool)
            print(result.stopped)
            """
        )
    )
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert 'needs `if __name__ == "__main__":`' in run.stdout + run.stderr


def test_what_cannot_be_sent_to_a_process_is_an_error_that_says_so_before_anything_runs():
    backend = Scripted()
    backend.lock = (_ for _ in ())
    with pytest.raises(SettingsError, match=r"cannot be sent to another process \(.*generator.*workers=1"):
        Sweep(Experiment(backend=backend, workload=SHORT), {"seed": [1, 2]}).run(workers=2, progress=False)
    assert len(Sweep(Experiment(backend=backend, workload=SHORT), {"seed": [1, 2]}).run(progress=False).runs) == 2
