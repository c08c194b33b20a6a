"""Where runs are made: one after another here, or in batches through an executor.

Both yield each run's outcome as soon as it is known, end early where the stop signal is set, and are generators: to
close one is to leave nothing behind. Look next at `worker_pool.py`, the executor that is taken for large sweeps.
"""

from __future__ import annotations

import logging
import math
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Future, wait
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import cloudpickle

from llmlab.core.settings import SettingsError
from llmlab.experiments.running.perform import Performed, Stopped, perform, perform_batch, reason_of
from llmlab.experiments.running.plan import expected_calls
from llmlab.experiments.running.worker_pool import WorkerPool, cores

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from concurrent.futures import Executor

    from llmlab.experiments.experiment import Experiment
    from llmlab.experiments.running.agenda import Agenda
    from llmlab.experiments.running.plan import Plan, PlannedRun
    from llmlab.experiments.stop_signal import StopSignal

logger = logging.getLogger("llmlab")

SMALL_SWEEP_CALLS = 100_000
"""Below so many calls a sweep takes two seconds or so, which is what it takes to start processes."""

_CALLS_PER_BATCH = 10_000  # a fifth of a second: little beside what handing it over costs, soon beside a Ctrl-C
_BATCHES_PER_WORKER = 4  # at least, so that none waits long for the last one
_IN_FLIGHT_PER_WORKER = 3
_POLL_S = 0.1


class Place(NamedTuple):
    """Where a sweep is carried out: here (`executor` is `None`), or through an executor with so many workers."""

    executor: Executor | None
    workers: int
    owned: WorkerPool | None
    """The pool that was made for this sweep, to be closed after it."""


def chosen_place(plan: Plan, executor: Executor | None, workers: int | None) -> tuple[Place, Plan]:
    """Decide where a plan is carried out, and return the plan with what was looked at put back.

    Without a wish that is here where the sweep is small or any of the looked-at runs is not simulated, since calls to
    one real server would disturb each other's times; else in a process on each core.

    Raises:
        SettingsError: `workers` is no positive number, or a run cannot be sent to the workers that were asked for.
    """
    if workers is not None and workers < 1:
        raise SettingsError(f"workers must be 1 or more, got {workers}; 1 runs everything in this process")
    if executor is not None:
        return Place(executor, workers or cores(), None), plan
    wished = workers is not None
    if workers is None:
        large, plan = _is_large_and_simulated(plan)
        workers = min(cores(), plan.planned) if large else 1
    if workers > 1:
        obstacle, plan = _obstacle(plan)
        if obstacle and wished:
            raise SettingsError(f"a run {obstacle}; with workers=1 none need be")
        if obstacle:
            logger.warning("the sweep runs in this process alone, since a run %s", obstacle)
            workers = 1
    if workers == 1:
        return Place(None, 1, None), plan
    pool = WorkerPool(workers)
    return Place(pool, workers, pool), plan


def _obstacle(plan: Plan) -> tuple[str, Plan]:
    """Say what keeps the first run from being sent to another process, nothing if nothing does."""
    coming = iter(plan.runs)
    first = next(coming)
    plan = plan._replace(runs=chain([first], coming))
    try:
        cloudpickle.dumps(first.experiment)
    except Exception as error:  # noqa: BLE001 - pickling runs the user's code, which may raise anything
        return f"cannot be sent to another process ({reason_of(error)})", plan
    return "", plan


def _is_large_and_simulated(plan: Plan) -> tuple[bool, Plan]:
    seen: list[PlannedRun] = []
    coming, calls, simulated = iter(plan.runs), 0.0, True
    while simulated and calls <= SMALL_SWEEP_CALLS and (run := next(coming, None)) is not None:
        seen.append(run)
        calls += expected_calls(run.experiment)
        simulated = run.experiment.simulated
    return simulated and calls > SMALL_SWEEP_CALLS, plan._replace(runs=chain(seen, coming))


def outcomes_here(agenda: Agenda, stop: StopSignal, called: Callable[[], object]) -> Generator[Performed]:
    """Make runs one after another on this thread; `called` is called after each real call."""
    while not stop.is_set() and (batch := agenda.batch(calls=1, runs=1)):
        run = batch[0]
        try:
            outcome = perform(run.number, run.experiment, done=None if run.experiment.simulated else called, stop=stop)
        except Stopped:
            return
        yield outcome


def outcomes_through(place: Place, agenda: Agenda, planned: int, stop: StopSignal) -> Generator[Performed]:
    """Have runs made by an executor's workers."""
    executor, workers = place.executor, place.workers
    assert executor is not None  # noqa: S101 - for type checkers
    most_runs = max(1, math.ceil(planned / (_BATCHES_PER_WORKER * workers)))
    in_flight: dict[Future[list[Performed]], list[PlannedRun]] = {}
    try:
        while not stop.is_set():
            while len(in_flight) < _IN_FLIGHT_PER_WORKER * workers and (
                batch := agenda.batch(calls=_CALLS_PER_BATCH, runs=most_runs)
            ):
                jobs = [(run.number, run.experiment) for run in batch]
                in_flight[_submitted(executor, jobs)] = batch
            if not in_flight:
                return
            finished, _ = wait(in_flight, _POLL_S, FIRST_COMPLETED)
            for future in finished:
                yield from _outcomes(future, in_flight.pop(future), agenda)
    except BrokenExecutor as error:
        stop.set(_broken(error))
    finally:
        for future in in_flight:
            future.cancel()
        if place.owned is not None:
            place.owned.kill()


def _submitted(executor: Executor, jobs: list[tuple[int, Experiment]]) -> Future[list[Performed]]:
    try:
        return executor.submit(perform_batch, jobs)
    except BrokenExecutor:
        raise
    except Exception as error:  # noqa: BLE001 - some cannot send a run, and say so at once
        failed: Future[list[Performed]] = Future()
        failed.set_exception(error)
        return failed


def _outcomes(future: Future[list[Performed]], batch: list[PlannedRun], agenda: Agenda) -> list[Performed]:
    try:
        return future.result()
    except BrokenExecutor:
        raise
    except (Exception, CancelledError) as error:  # noqa: BLE001 - the worker died, or could not read or send something
        reason = reason_of(error)
    return [Performed(run.number, None, reason) for run in agenda.lost(batch)]


def _broken(error: BrokenExecutor) -> str:
    return (
        f"the executor is broken and takes no more work ({reason_of(error)}). One of the standard library's does not "
        'survive the death of a worker, and needs `if __name__ == "__main__":` around the code of a script; '
        "without executor= llmlab takes worker processes of its own, which need neither"
    )
