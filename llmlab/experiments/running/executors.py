"""Where runs are made: one after another here, or in batches through an executor.

Both yield each run's outcome as soon as it is known, end early where the stop signal is set, and are generators: to
close one is to leave nothing behind. Look next at `worker_pool.py`, the executor that is taken for large sweeps.
"""

from __future__ import annotations

import logging
import math
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Future, wait
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

import cloudpickle

from llmlab.core.settings import SettingsError
from llmlab.experiments.running.perform import (
    Performed,
    Stopped,
    perform,
    perform_batch,
    put_away,
    reason_of,
    with_value,
)
from llmlab.experiments.running.plan import expected_calls
from llmlab.experiments.running.real_time import RealTime
from llmlab.experiments.running.sink import NotStored
from llmlab.experiments.running.worker_pool import WorkerPool, WorkersBroken, cores

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from concurrent.futures import Executor

    from llmlab.experiments.procedure import Procedure
    from llmlab.experiments.running.agenda import Agenda
    from llmlab.experiments.running.plan import PlannedRun
    from llmlab.experiments.running.sink import Sink
    from llmlab.experiments.stop_signal import StopSignal

logger = logging.getLogger("llmlab")

SMALL_SWEEP_CALLS = 100_000
"""Below so many calls a sweep takes two seconds or so, which is what it takes to start processes."""

_CALLS_PER_BATCH = 10_000  # a fifth of a second: little beside what handing it over costs, soon beside a Ctrl-C
_STORED_CALLS_PER_BATCH = 50_000  # a second: a batch is a file
_FIRST_CALLS_PER_BATCH = 1_000  # from which each round of the workers doubles them: the first results come at once
_BATCHES_PER_WORKER = 4  # at least, so that none waits long for the last one
_IN_FLIGHT_PER_WORKER = 3
_POLL_S = 0.1
_SEQUENTIAL = ("warm_up", "cool_down", "max_connection_failures")
"""What a procedure says of runs that are made one after another."""


class Place(NamedTuple):
    """Where a sweep is carried out: here (`executor` is `None`), or through an executor with so many workers."""

    executor: Executor | None
    workers: int
    owned: WorkerPool | None
    """The pool that was made for this sweep, to be closed after it."""


class Work(NamedTuple):
    """What is to be done: the runs that are handed out, how many there are, and how.

    `sink` is where they are written, `metric` what is measured of each.
    """

    agenda: Agenda
    runs: int
    procedure: Procedure
    sink: Sink | None = None
    metric: str = ""


def chosen_place(
    runs: Iterator[PlannedRun], count: int, executor: Executor | None, workers: int | None, procedure: Procedure
) -> tuple[Place, Iterator[PlannedRun]]:
    """Decide where so many runs are made, and return them with those put back that were looked at.

    Without a wish that is here where they are small or any that was looked at is not simulated, since calls to one
    real server would disturb each other's times; else in a process on each core.

    Raises:
        SettingsError: `workers` is no positive number, or a run cannot be sent to the workers that were asked for, or
            the procedure asks for what is done here alone.
    """
    if workers is not None and (type(workers) is not int or workers < 1):
        raise SettingsError(f"workers must be a whole number, 1 or more, got {workers!r}; 1 runs everything here")
    if executor is not None and (isinstance(executor, type) or not callable(getattr(executor, "submit", None))):
        wanted = "a concurrent.futures.Executor, such as dask's Client(...).get_executor()"
        found = f"the class {executor.__name__}" if isinstance(executor, type) else f"a {type(executor).__name__}"
        raise SettingsError(f"executor must be {wanted}, got {found}")
    seen: list[PlannedRun] = []
    if executor is not None or (workers or 1) > 1:
        seen.extend(islice(runs, 1))
        _check_sequential(procedure, seen)
    if executor is not None:
        return Place(executor, workers or cores(), None), chain(seen, runs)
    wished = workers is not None
    if workers is None:
        workers = min(cores(), count) if _are_large_and_simulated(runs, seen) else 1
    if workers > 1 and seen:
        obstacle = _obstacle(seen[0])
        if obstacle and wished:
            raise SettingsError(f"a run {obstacle}; with workers=1 none need be")
        if obstacle:
            logger.warning("the sweep runs in this process alone, since a run %s", obstacle)
            workers = 1
    runs = chain(seen, runs)
    if workers == 1:
        return Place(None, 1, None), runs
    pool = WorkerPool(workers)
    return Place(pool, workers, pool), runs


def _check_sequential(procedure: Procedure, first: list[PlannedRun]) -> None:
    """Refuse what surrounds the runs of a real backend where several of them would be made at a time."""
    set_here = procedure.model_fields_set
    asked = [f"procedure.{name}" for name in _SEQUENTIAL if name in set_here and getattr(procedure, name)]
    if asked and any(not run.experiment.simulated for run in first):
        raise SettingsError(
            f"{' and '.join(asked)} cannot be kept in workers, which call the server at the same time; "
            "run with workers=1 and without executor=, or leave it out"
        )


def _are_large_and_simulated(runs: Iterator[PlannedRun], seen: list[PlannedRun]) -> bool:
    calls = 0.0
    for run in runs:
        seen.append(run)
        if not run.experiment.simulated:
            return False
        calls += expected_calls(run.experiment)
        if calls > SMALL_SWEEP_CALLS:
            return True
    return False


def _obstacle(run: PlannedRun) -> str:
    """Say what keeps a run from being sent to another process, nothing if nothing does."""
    try:
        cloudpickle.dumps(run.experiment)
    except Exception as error:  # noqa: BLE001 - pickling runs the user's code, which may raise anything
        return f"cannot be sent to another process ({reason_of(error)})"
    return ""


def outcomes(place: Place, work: Work, stop: StopSignal, called: Callable[[], object]) -> Generator[Performed]:
    """Have runs made and yield their outcomes, in no particular order; `called` is called after each real call here.

    Raises:
        NotStored: a run cannot be written where it should be.
    """
    return _made_here(work, stop, called) if place.executor is None else _made_through(place, work, stop)


def _made_here(work: Work, stop: StopSignal, called: Callable[[], object]) -> Generator[Performed]:
    buffer = None if work.sink is None else work.sink.buffer()
    real_time = RealTime(work.procedure, stop, called)
    in_doubt: list[tuple[Performed, str]] = []
    try:
        while not stop.is_set() and (batch := work.agenda.batch(calls=1, runs=1)):
            run = batch[0]
            if run.experiment.simulated:
                outcome = perform(run.number, run.experiment, stop=stop)
            else:
                outcome = real_time.perform(run.number, run.experiment)
            in_doubt.append((with_value(outcome, work.metric), run.key))
            while in_doubt and not real_time.in_doubt:
                yield put_away(*in_doubt.pop(0), buffer)
        for outcome, key in in_doubt if not stop.is_set() else ():
            yield put_away(outcome, key, buffer)
    except Stopped:
        return
    finally:
        if buffer is not None:
            buffer.flush()


def _made_through(place: Place, work: Work, stop: StopSignal) -> Generator[Performed]:
    executor, workers, agenda = place.executor, place.workers, work.agenda
    assert executor is not None  # noqa: S101 - for type checkers
    most_calls = _CALLS_PER_BATCH if work.sink is None else _STORED_CALLS_PER_BATCH
    most_runs = max(1, math.ceil(work.runs / (_BATCHES_PER_WORKER * workers)))
    calls: float = min(most_calls, _FIRST_CALLS_PER_BATCH)
    in_flight: dict[Future[list[Performed]], list[PlannedRun]] = {}
    try:
        while not stop.is_set():
            while len(in_flight) < _IN_FLIGHT_PER_WORKER * workers and (
                batch := agenda.batch(calls=calls, runs=most_runs)
            ):
                in_flight[_submitted(executor, batch, work)] = batch
                calls = min(most_calls, calls * 2 ** (1 / workers))
            if not in_flight:
                return
            finished, _ = wait(in_flight, _POLL_S, FIRST_COMPLETED)
            for future in finished:
                yield from _outcomes(future, in_flight.pop(future), agenda, stop)
    finally:
        for future in in_flight:
            future.cancel()
        if place.owned is not None:
            place.owned.kill()


def _submitted(executor: Executor, batch: list[PlannedRun], work: Work) -> Future[list[Performed]]:
    jobs = [(run.number, run.key, run.experiment) for run in batch]
    try:
        return executor.submit(perform_batch, jobs, work.sink, work.metric)
    except Exception as error:  # noqa: BLE001 - some cannot send a run, or are broken, and say so at once
        failed: Future[list[Performed]] = Future()
        failed.set_exception(error)
        return failed


def _outcomes(
    future: Future[list[Performed]], batch: list[PlannedRun], agenda: Agenda, stop: StopSignal
) -> list[Performed]:
    try:
        return future.result()
    except NotStored:
        raise
    except BrokenExecutor as error:  # others may have ended well before it broke
        stop.set(_broken(error))
        return []
    except (Exception, CancelledError) as error:  # noqa: BLE001 - the worker died, or could not read or send something
        reason = reason_of(error)
    return [Performed(run.number, None, reason) for run in agenda.lost(batch)]


def _broken(error: BrokenExecutor) -> str:
    if isinstance(error, WorkersBroken):
        return f"{error}; with workers=1 none is needed"
    return (
        f"the executor is broken and takes no more work ({reason_of(error)}). One of the standard library's does not "
        'survive the death of a worker, and needs `if __name__ == "__main__":` around the code of a script; '
        "without executor= llmlab takes worker processes of its own, which need neither"
    )
