"""A sweep from its plan to its result: what is open, what has ended, what is to come.

Look next at `carry_out.py`, which goes through it, and at `executors.py`, where the outcomes come from.
"""

from __future__ import annotations

import logging
from contextlib import closing, contextmanager
from itertools import chain
from threading import Timer
from typing import TYPE_CHECKING

from llmlab.core.settings import SettingsError
from llmlab.experiments.precision import measured
from llmlab.experiments.running.agenda import Agenda, in_rounds
from llmlab.experiments.running.executors import Work, chosen_place, outcomes
from llmlab.experiments.running.progress import ProgressBar
from llmlab.experiments.running.rounds import Rounds
from llmlab.experiments.runs import FailedRun, Run
from llmlab.experiments.stop_signal import StopSignal
from llmlab.experiments.store.run_key import RunKeys
from llmlab.experiments.sweep_result import SweepResult

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from concurrent.futures import Executor

    from llmlab.experiments.precision import Measured
    from llmlab.experiments.running.perform import Performed
    from llmlab.experiments.running.plan import Plan, PlannedRun
    from llmlab.experiments.running.sink import Sink

logger = logging.getLogger("llmlab")

INTERRUPTED = "interrupted"
"""Why a sweep stopped that was ended by Ctrl-C or by a cancellation."""


class SweepError(RuntimeError):
    """Not one run of a sweep could be finished; the message says why the first failed, and where."""


class SweepRun:
    """A sweep that is being carried out.

    Args:
        plan: what is to be run.
        executor: what runs it; `None` is this thread or worker processes, whichever is done sooner.
        workers: how many worker processes, or how many jobs the executor does at a time; `None` is one for each core.
        progress: whether to show a progress bar.
        on_point: called with each run when it has ended.
        sink: a store, where finished runs are written; those that are there already are not made again.

    Raises:
        SettingsError: `workers` is no positive number, or a run cannot be sent to them or told apart in a store.
        OSError: the store cannot be read or written.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        executor: Executor | None = None,
        workers: int | None = None,
        progress: bool = True,
        on_point: Callable[[Run | FailedRun], object] | None = None,
        sink: Sink | None = None,
    ) -> None:
        if on_point is not None and not callable(on_point):
            raise SettingsError(f"on_point must be a function of a finished run, got a {type(on_point).__name__}")
        self.stop = StopSignal()
        self._progress = progress
        self._on_point = on_point
        self._plan, self._sink = plan, sink
        self._rounds = None if plan.until is None else Rounds(plan.until)
        self._planned = plan.planned if plan.until is None else plan.planned * plan.until.min_replicates
        self._ended: dict[int, Run | FailedRun] = {}
        self._open: dict[int, PlannedRun] = {}
        self._stored: set[str] = set()
        self._index: dict[int, Run] = {}
        self._keys = RunKeys()
        later: list[PlannedRun] = []
        runs = self._first_runs() if sink is None else self._missing(sink, later)
        bounds = plan.procedure
        left = self._planned - len(self._ended)
        self._place, runs = chosen_place(self._in_order(runs), left, executor, workers, bounds)
        self._agenda = Agenda(self._noted(runs), max_calls=bounds.max_calls, warm_up=bounds.warm_up)
        self._agenda.add(self._noted(later))

    def _first_runs(self) -> Iterator[PlannedRun]:
        runs = self._plan.runs()
        return runs if self._rounds is None else self._rounds.first(runs)

    def _in_order(self, runs: Iterator[PlannedRun]) -> Iterator[PlannedRun]:
        """Return the runs in the order in which they are to be made."""
        procedure = self._plan.procedure
        first = next(runs, None)
        if first is None:
            return runs
        runs = chain([first], runs)
        shuffled = procedure.order == "shuffled" or (procedure.order is None and not first.experiment.simulated)
        return iter(in_rounds(runs, procedure.seed)) if shuffled else runs

    def _missing(self, sink: Sink, later: list[PlannedRun]) -> Iterator[PlannedRun]:
        """Note the sweep down in the store, take from it what it has, and return the rest.

        What the store's runs call for in further rounds is appended to `later`.
        """
        self._index = {run.number: self._indexed(run) for run in self._first_runs()}
        self._note_index()
        self._stored = sink.store.finished(sink.keep)
        keys = {number: run.key for number, run in self._index.items()}
        if self._rounds is None:
            self._ended.update((number, run) for number, run in self._index.items() if run.key in self._stored)
        else:
            for planned in self._first_runs():
                if keys[planned.number] in self._stored:
                    later += self._taken_from_store(planned._replace(key=keys[planned.number]), sink)
        return (
            run._replace(key=keys[run.number]) for run in self._first_runs() if keys[run.number] not in self._stored
        )

    def _taken_from_store(self, planned: PlannedRun, sink: Sink) -> list[PlannedRun]:
        """Take a stored run, and those that its point's further rounds find there; return what is missing of these."""
        assert self._plan.until is not None  # noqa: S101 - for type checkers
        run = self._ended[planned.number] = self._index[planned.number]
        return self._further(planned, measured(run, self._plan.until.metric, sink.store))

    def _further(self, planned: PlannedRun, value: Measured | None) -> list[PlannedRun]:
        """Return what is to be run after this run has ended, less what is in the store."""
        if self._rounds is None:
            return []
        missing = []
        for run in self._rounds.ended(planned, value):
            self._planned += 1
            if self._sink is None:
                missing.append(run)
                continue
            self._index[run.number] = self._indexed(run)
            keyed = run._replace(key=self._index[run.number].key)
            missing += self._taken_from_store(keyed, self._sink) if keyed.key in self._stored else [keyed]
        return missing

    def _indexed(self, run: PlannedRun) -> Run:
        return Run(run.settings, run.replicate, run.experiment.seed, None, self._keys.key(run.experiment))

    def _note_index(self) -> None:
        if self._sink is not None:
            runs = [run for _, run in sorted(self._index.items())]
            self._sink.store.begin(self._plan.parameters, runs, self._plan.settings)

    def ended(self) -> Generator[Run | FailedRun]:
        """Yield each run when it has ended, in no particular order. To close it is to stop the sweep.

        Raises:
            NotStored: a run cannot be written to the store.
        """
        metric = "" if self._plan.until is None else self._plan.until.metric
        remaining = self._planned - len(self._ended)
        work = Work(self._agenda, remaining, self._plan.procedure, self._sink, metric)
        with (
            self._indexing(),
            self._time_limit(),
            ProgressBar(self._planned, len(self._ended), show=self._progress) as bar,
            closing(outcomes(self._place, work, self.stop, bar.called)) as performed,
        ):
            for outcome in performed:
                run = self._kept(outcome)
                bar.finished(self._planned, failed=isinstance(run, FailedRun))
                self._tell(run)
                yield run
        if self._agenda.closed:
            self.stop.set(self._agenda.closed)

    @contextmanager
    def _indexing(self) -> Iterator[None]:
        """At the end, note down the runs of further rounds too."""
        try:
            yield
        finally:
            if self._rounds is not None:
                self._note_index()

    @contextmanager
    def _time_limit(self) -> Iterator[None]:
        seconds = self._plan.procedure.max_seconds
        if seconds is None:
            yield
            return
        timer = Timer(seconds, self.stop.set, [f"procedure.max_seconds={seconds:g} are over"])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _noted(self, runs: Iterable[PlannedRun]) -> Iterator[PlannedRun]:
        for run in runs:
            self._open[run.number] = run
            yield run

    def _kept(self, outcome: Performed) -> Run | FailedRun:
        planned = self._open.pop(outcome.number)
        what = planned.settings, planned.replicate, planned.experiment.seed
        if outcome.reason:
            run: Run | FailedRun = FailedRun(*what, outcome.reason, outcome.traceback)
        else:
            run = Run(*what, outcome.record, planned.key)
        self._ended[outcome.number] = run
        self._agenda.add(self._noted(self._further(planned, outcome.value)))
        return run

    def _tell(self, run: Run | FailedRun) -> None:
        if self._on_point is None:
            return
        try:
            self._on_point(run)
        except Exception:  # its bug must not cost the sweep
            logger.exception("on_point raised, and is not called again in this sweep")
            self._on_point = None

    def result(self) -> SweepResult:
        """Return what there is, in the order of the plan.

        Raises:
            SweepError: no run could be finished, and at least one failed.
        """
        planned = self._planned
        in_order = [self._ended[number] for number in sorted(self._ended)]
        runs = [run for run in in_order if isinstance(run, Run)]
        failures = [run for run in in_order if isinstance(run, FailedRun)]
        if failures and not runs:
            raise SweepError(f"none of {planned} runs could be finished. The first to fail: {_described(failures[0])}")
        if failures:
            first = _described(failures[0])
            logger.warning(
                "%d of %d runs failed; `result.failures` has all. The first: %s", len(failures), planned, first
            )
        stopped = self.stop.reason if len(in_order) < planned else ""
        if stopped not in {"", INTERRUPTED}:  # of what its user did not do: an empty result alone would be a riddle
            logger.warning("the sweep ended after %d of %d runs: %s", len(in_order), planned, stopped)
        return SweepResult(
            self._plan.parameters,
            runs,
            planned=planned,
            store=None if self._sink is None else self._sink.store,
            failures=failures,
            stopped=stopped,
            settings=self._plan.settings,
        )

    @property
    def has_runs(self) -> bool:
        """Whether any run has ended so far."""
        return bool(self._ended)


def _described(failed: FailedRun) -> str:
    settings = ", ".join(f"{path}={value!r}" for path, value in failed.settings.items()) or "the only point"
    return f"{settings}, replicate {failed.replicate}: {failed.reason}\n{failed.traceback}".rstrip()
