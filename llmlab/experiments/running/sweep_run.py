"""A sweep from its plan to its result: in one go, awaited, or run by run as they end.

All three consume the same iterator, `SweepRun.ended`. Look next at `executors.py`, where the outcomes come from.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing, closing
from typing import TYPE_CHECKING

from llmlab.experiments.running.agenda import Agenda
from llmlab.experiments.running.executors import Work, chosen_place, outcomes
from llmlab.experiments.running.progress import ProgressBar
from llmlab.experiments.runs import FailedRun, Run
from llmlab.experiments.stop_signal import StopSignal
from llmlab.experiments.store.run_key import run_key
from llmlab.experiments.sweep_result import SweepResult

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator
    from concurrent.futures import Executor

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
        self.stop = StopSignal()
        self._progress = progress
        self._on_point = on_point
        self._plan, self._sink = plan, sink
        self._ended: dict[int, Run | FailedRun] = {}
        runs = plan.runs() if sink is None else self._missing(sink)
        self._remaining = plan.planned - len(self._ended)
        self._place, self._runs = chosen_place(runs, self._remaining, executor, workers)
        self._open: dict[int, PlannedRun] = {}

    def _missing(self, sink: Sink) -> Iterator[PlannedRun]:
        """Note the sweep down in the store, take from it what it has, and return the rest."""
        index = [
            Run(run.settings, run.replicate, run.experiment.seed, None, run_key(run.experiment))
            for run in self._plan.runs()
        ]
        sink.store.begin(self._plan.parameters, index)
        finished = sink.store.finished(sink.keep)
        self._ended.update((number, run) for number, run in enumerate(index) if run.key in finished)
        return (
            run._replace(key=known.key)
            for run, known in zip(self._plan.runs(), index, strict=True)
            if known.key not in finished
        )

    def ended(self) -> Generator[Run | FailedRun]:
        """Yield each run when it has ended, in no particular order. To close it is to stop the sweep.

        Raises:
            NotStored: a run cannot be written to the store.
        """
        work = Work(Agenda(self._noted(self._runs)), self._remaining, self._sink)
        with (
            ProgressBar(self._plan.planned, len(self._ended), show=self._progress) as bar,
            closing(outcomes(self._place, work, self.stop, bar.called)) as performed,
        ):
            for outcome in performed:
                run = self._kept(outcome)
                bar.finished(failed=isinstance(run, FailedRun))
                self._tell(run)
                yield run

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
        planned = self._plan.planned
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
        return SweepResult(
            self._plan.parameters,
            runs,
            planned=planned,
            store=None if self._sink is None else self._sink.store,
            failures=failures,
            stopped=self.stop.reason,
        )

    @property
    def has_runs(self) -> bool:
        """Whether any run has ended so far."""
        return bool(self._ended)


def _described(failed: FailedRun) -> str:
    settings = ", ".join(f"{path}={value!r}" for path, value in failed.settings.items()) or "the only point"
    return f"{settings}, replicate {failed.replicate}: {failed.reason}\n{failed.traceback}".rstrip()


def carry_out(run: SweepRun) -> SweepResult:
    """Carry a sweep out on this thread; Ctrl-C ends it, and what is finished by then is its result.

    Raises:
        KeyboardInterrupt: nothing was finished by then.
        SweepError: no run could be finished.
    """
    try:
        with closing(run.ended()) as ended:
            for _ in ended:
                pass
    except KeyboardInterrupt:
        if not run.has_runs:
            raise
        run.stop.set(INTERRUPTED)
    return run.result()


async def stream(run: SweepRun) -> AsyncGenerator[Run | FailedRun]:
    """Carry a sweep out in another thread, and yield each run here when it has ended.

    To cancel what iterates, or to close the generator, ends the sweep at once.
    """
    loop = asyncio.get_running_loop()
    ended = run.ended()
    coming: asyncio.Future[Run | FailedRun | None] | None = None
    try:
        while True:
            coming = loop.run_in_executor(None, next, ended, None)
            one = await asyncio.shield(coming)
            if one is None:
                return
            yield one
    except (asyncio.CancelledError, GeneratorExit):
        run.stop.set(INTERRUPTED)
        raise
    finally:
        if coming is not None:
            await asyncio.wait([coming])
        await loop.run_in_executor(None, ended.close)


async def carry_out_async(run: SweepRun) -> SweepResult:
    """Carry a sweep out in another thread while this event loop goes on with other work.

    Raises:
        SweepError: no run could be finished.
    """
    async with aclosing(stream(run)) as ended:
        async for _ in ended:
            pass
    return run.result()
