"""The storm map: does a system recover from an outage, for each load, each number of retries, and each defence?

A retry storm is *metastable* (Bronson et al., "Metastable Failures in Distributed Systems", HotOS 2021): an outage
starts it, and it feeds itself after the outage is over. Where calls arrive at a rate lambda and the server can serve mu
requests per second, a state in which every call makes all of its 1 + r attempts can last if lambda (1 + r) > mu.

Each point is one run of the real client in virtual time. Nothing of a run is kept but what `_Tally` counts, and points
are shared among processes, so a map of ten million attempts takes no more memory than its largest runs.
`plots.storm_map` draws the frame; `analysis/timeline.py` shows a single run over time.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import as_completed
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
from tqdm.auto import tqdm

from llmlab import virtual_time
from llmlab.backends.distributions import Constant, Exponential
from llmlab.backends.mock import MockBackend
from llmlab.backends.setting_paths import with_setting
from llmlab.core.client import OUTERMOST, AsyncClient
from llmlab.core.events import Column
from llmlab.core.settings import SettingsError
from llmlab.core.vocabulary import Fate
from llmlab.experiments.collecting import collecting_rarely
from llmlab.experiments.experiment import Experiment, seeded
from llmlab.experiments.running.worker_pool import WorkerPool
from llmlab.experiments.workload import OpenLoop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmlab.core.backend import Backend
    from llmlab.core.events import AttemptEvent, CallEvent

RATE, RETRIES = "workload.rate", "policy.retry.max_retries"

STORM_COLUMNS: tuple[Column, ...] = (
    Column("defence", "word", "", "which change was made to the experiment"),
    Column(RATE, "float", "calls/s", "the load"),
    Column(RETRIES, "int", "", "retries allowed after a call's first attempt"),
    Column("capacity_per_s", "float", "requests/s", "what the server can serve; NaN where its model does not say"),
    Column("recovered", "bool", "", "whether at least `RECOVERED` of the window's calls were answered"),
    Column("answered_share", "float", "", "of the calls that arrived in the window, from 0 to 1; NaN where none did"),
    Column("attempts_per_call", "float", "attempts", "of the calls that arrived in the window; NaN where none did"),
    Column("calls", "int", "calls", "calls that arrived in the window, which is the end of the run"),
    Column("attempts", "int", "attempts", "attempts of the whole run"),
    Column("cpu_s", "float", "s", "processor time that the run took"),
)
"""The columns of `storm_map`."""

RECOVERED = 0.9
"""The share of answered calls at the end of a run from which on it counts as recovered. In between is rare."""

_QUANTILES = 10_000


def storm_map(
    base: Experiment,
    *,
    rates: Iterable[float],
    retries: Iterable[int],
    defences: Mapping[str, Mapping[str, Any]] | None = None,
    window: float = 50.0,
    processes: int = 1,
    progress: bool = True,
) -> pd.DataFrame:
    """Run an experiment with an outage at every load with every number of retries, and say where it recovers.

        defences = {"no defence": {}, "budget": {"policy.budget": RetryBudget(per_success=0.1)}}
        frame = storm_map(experiment, rates=range(15, 301, 15), retries=range(5), defences=defences, processes=2)
        plots.storm_map(frame)

    Points of one load meet the same arrivals. Ctrl-C stops it and keeps the finished points.

    Args:
        base: the system, with its outage: a simulated backend and an `OpenLoop` with a duration.
        rates: loads, in calls per second.
        retries: numbers of retries.
        defences: for each name the settings, by their path, that are changed; `None` is no change.
        window: how many seconds at the end of the arrivals tell whether it recovered.
        processes: how many processes share the points; 1 is this one alone.
        progress: whether to show a progress bar, with the time left.

    Returns:
        A frame with the columns `STORM_COLUMNS` and a row for each point, in the order of the arguments.

    Raises:
        SettingsError: the experiment has no duration, does not run in virtual time, or its server is still out when the
            window begins; a list is empty or has a number twice; a path, a load or a number of retries is not valid.
        RuntimeError: a process could not begin, or was ended from outside.
    """
    if type(processes) is not int or processes < 1:
        raise SettingsError(f"processes must be 1 or more, got {processes!r}; 1 is this process alone")
    if not isinstance(base, Experiment):
        raise SettingsError(f"base must be an Experiment, got a {type(base).__name__}")
    changes = {"no defence": {}} if defences is None else _checked(defences)
    points = list(_points(base, _numbers("rates", rates), _numbers("retries", retries), changes, window))
    if not points:
        raise SettingsError("a storm map needs at least one rate, one number of retries and one defence")
    rows: dict[int, dict[str, Any]] = {}
    with tqdm(total=len(points), disable=not progress, unit="point", dynamic_ncols=True, delay=0.5) as bar:
        try:
            for place, row in _shared(points, processes) if processes > 1 else enumerate(map(_run, points)):
                rows[place] = row
                bar.update()
        except KeyboardInterrupt:
            if not rows:
                raise
    ordered = [rows[place] for place in sorted(rows)]
    return pd.DataFrame(ordered, columns=[column.name for column in STORM_COLUMNS])


def _checked(defences: object) -> Mapping[str, Mapping[str, Any]]:
    if isinstance(defences, Mapping) and all(isinstance(changes, Mapping) for changes in defences.values()):
        return defences
    raise SettingsError(
        'defences must be settings by path for each name, such as {"queue of 9": {"policy.max_queue": 9}}'
    )


def _numbers(name: str, given: object) -> list[Any]:
    if not isinstance(given, Iterable) or isinstance(given, str):
        raise SettingsError(f"{name} must be a list of numbers, got {given!r}")
    numbers = list(given)
    for place, number in enumerate(numbers):
        if not isinstance(number, Real):
            raise SettingsError(f"{name} must be a list of numbers, got {number!r} in it")
        if number in numbers[:place]:
            raise SettingsError(f"{name} must differ, got {number} twice")
    return numbers


class _Point(NamedTuple):
    """One run, as a worker process is given it."""

    defence: str
    experiment: Experiment
    since: float

    @property
    def workload(self) -> OpenLoop:
        workload = self.experiment.workload
        assert isinstance(workload, OpenLoop)  # noqa: S101 - for the type checker: `_check` has seen it
        return workload


def _points(
    base: Experiment,
    rates: list[float],
    retries: list[int],
    defences: Mapping[str, Mapping[str, Any]],
    window: float,
) -> Iterator[_Point]:
    for defence, settings in defences.items():
        changed = base
        for path, value in settings.items():
            changed = with_setting(changed, path, value)
        if isinstance(changed.backend, MockBackend) and changed.backend.server is not None:
            changed = with_setting(changed, "backend.server.record_every", None)  # no view is kept
        since = _since(changed, window)
        for count in retries:
            some = with_setting(changed, RETRIES, count)
            for rate in rates:
                yield _Point(defence, with_setting(some, RATE, float(rate)), since)


def _since(experiment: Experiment, window: Any) -> float:
    """Return when the window begins, of an experiment that a map can be made of."""
    workload, backend = experiment.workload, experiment.backend
    if not isinstance(workload, OpenLoop) or workload.duration is None:
        raise SettingsError(
            "the workload must be an OpenLoop with a duration, such as OpenLoop(rate=100, duration=300)"
        )
    if not experiment.simulated:
        raise SettingsError(f"a storm map needs a simulated backend; {type(backend).__name__} would run in real time")
    number = isinstance(window, Real)
    if not (number and 0 < window <= workload.duration):
        most = f"at most duration={workload.duration:g}"
        raise SettingsError(f"window must be a number of seconds, more than 0 and {most}, got {window!r}")
    since: float = workload.duration - float(window)
    server = getattr(backend, "server", None)
    out_until = max((outage.end for outage in server.outages), default=0.0) if server is not None else 0.0
    if since < out_until:
        raise SettingsError(
            f"the window begins at {since:g} s, before the server's outage ends at {out_until:g} s; "
            "make it shorter, or the workload's duration longer"
        )
    return since


def _shared(points: list[_Point], processes: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the points' places and rows as they are finished, by several processes; to close it ends these."""
    # The largest begin first, so that no process is left alone with one at the end.
    order = sorted(range(len(points)), key=lambda place: _most_attempts(points[place]), reverse=True)
    pool = WorkerPool(min(processes, len(points)))
    try:
        places = {pool.submit(_run_and_clean_up, points[place]): place for place in order}
        for future in as_completed(places):
            yield places[future], future.result()
    finally:
        pool.kill()


def _most_attempts(point: _Point) -> float:
    rate = point.workload.rate
    return (rate if isinstance(rate, float) else 0.0) * (1 + point.experiment.policy.retry.max_retries)


def _run_and_clean_up(point: _Point) -> dict[str, Any]:
    row = _run(point)
    gc.collect()  # a run's server and its queue are one large cycle
    return row


def _run(point: _Point) -> dict[str, Any]:
    began = time.process_time()
    with collecting_rarely():
        tally = virtual_time.run(_tallied(point))
    share = tally.answered / tally.calls if tally.calls else math.nan
    return {
        "defence": point.defence,
        RATE: point.workload.rate,
        RETRIES: point.experiment.policy.retry.max_retries,
        "capacity_per_s": capacity(point.experiment.backend),
        "recovered": share >= RECOVERED,
        "answered_share": share,
        "attempts_per_call": tally.attempts_of_calls / tally.calls if tally.calls else math.nan,
        "calls": tally.calls,
        "attempts": tally.attempts,
        "cpu_s": time.process_time() - began,
    }


async def _tallied(point: _Point) -> _Tally:
    experiment = point.experiment
    tally = _Tally(since=point.since)  # virtual time begins at 0
    seed = experiment.seed
    async with AsyncClient(seeded(experiment.backend, seed), experiment.policy, observers=[tally], seed=seed) as client:
        await experiment.workload.run(client.flow(), seed=seed)
    return tally


class _Tally:
    """An observer that counts calls instead of keeping them: of the whole run, and of those that arrive in the window.

    Of stacked clients it counts the outermost one's, as a sweep's frames do, so that nothing is counted twice.
    `since` is when the window begins, in seconds on the loop's clock.
    """

    def __init__(self, since: float) -> None:
        self.since = since
        self.attempts = 0
        self.calls = self.answered = self.attempts_of_calls = 0

    def on_attempt(self, event: AttemptEvent) -> None:
        """Count nothing: a call says how many attempts it made."""

    def on_call(self, event: CallEvent) -> None:
        if event.layer != OUTERMOST:
            return
        self.attempts += event.attempts
        if event.arrived_at_s >= self.since:
            self.calls += 1
            self.attempts_of_calls += event.attempts
            self.answered += event.fate is Fate.ANSWERED


def capacity(backend: Backend) -> float:
    """Return how many requests per second a simulated server can serve with all of its slots busy.

    NaN where nothing bounds it or that depends on the requests: without a `ServerModel`, or where answers are made of
    tokens. The mean of other laws than `Constant` and `Exponential` is taken over ten thousand of their quantiles.
    """
    if not isinstance(backend, MockBackend) or backend.server is None or backend.server.decode_rate is not None:
        return math.nan
    server = backend.server
    law = backend.latency if server.service_time is None else server.service_time
    if isinstance(law, Constant | Exponential):
        mean = law.value if isinstance(law, Constant) else law.mean
    else:
        mean = math.fsum(law.at((number + 0.5) / _QUANTILES) for number in range(_QUANTILES)) / _QUANTILES
    if not mean:
        return math.nan
    return server.slots / mean / (1.0 + server.batch_slowdown * (server.slots - 1))
