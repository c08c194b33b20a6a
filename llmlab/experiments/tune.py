"""A search for the settings that keep an SLO, where a grid over all of them would be too large.

    grid = {"policy.retry.max_retries": [0, 1, 2, 3], "policy.attempt_timeout": LogRange(1, 60)}
    tune(base, grid, slo=SLO(success_rate=0.99))

Optuna's tree-structured Parzen estimator proposes each next point from those measured so far (J. Bergstra et al.,
"Algorithms for hyper-parameter optimization", NeurIPS 2011); the simulator measures it. A quarter of the budget goes to
further replicates of the best, and a point that is proposed again gets one, too. All points meet the same chance, and
the same seed gives the same search. What comes out is a `SweepResult` like any other, and a recommendation. Needs the
extra `tune`.
"""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from tqdm.auto import tqdm

from llmlab.analysis.judging import cells_by_setting, judge, worst
from llmlab.analysis.recommend import criteria_of, recommend
from llmlab.analysis.slo import checked_slo, minimised
from llmlab.backends.setting_paths import with_setting
from llmlab.core.chance import derived
from llmlab.core.settings import SettingsError
from llmlab.experiments.axes import LogRange
from llmlab.experiments.readable import readable_settings, settings_by_path
from llmlab.experiments.running.perform import perform
from llmlab.experiments.running.sweep_run import INTERRUPTED, SweepError
from llmlab.experiments.runs import FailedRun, Run
from llmlab.experiments.samples import Samples
from llmlab.experiments.sweep_result import SweepResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pandas as pd

    from llmlab.analysis.recommendation import Recommendation
    from llmlab.analysis.slo import SLO
    from llmlab.experiments.experiment import Experiment

_MISSED = 1e9
"""What is added to the score of a point that misses the SLO: the search goes by ranks, so any such number will do."""
_CONFIDENCE = 0.95
_CONFIRMED = 0.25
"""The share of the budget that is kept for measuring the best points again, with fresh chance."""


class Tuned(NamedTuple):
    """What a search brought: all its runs, and what they recommend. Printed, it is the recommendation."""

    result: SweepResult
    recommendation: Recommendation

    def __str__(self) -> str:
        """Say what is recommended."""
        return str(self.recommendation)

    def _repr_html_(self) -> str:
        return self.recommendation._repr_html_()


def tune(
    base: Experiment,
    over: Mapping[str, Any],
    *,
    slo: SLO,
    minimise: str = "p95_latency_s",
    runs: int = 40,
    calls: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Tuned:
    """Search for the settings that keep the SLO with the least of what is to be minimised, within a budget.

    Ctrl-C ends it and keeps the finished runs.

    Args:
        base: the experiment whose settings are changed.
        over: by its path, what each setting is chosen from: a `LinearRange` or `LogRange` without `num`, or a list.
        slo: what has to be kept.
        minimise: what there should be least of; as in `recommend`.
        runs: the most runs of the experiment.
        calls: the most calls over all runs, which the last run may exceed; `None` is no bound.
        seed: of the search. The experiment's chance has its own.
        progress: whether to show a progress bar.

    Raises:
        SettingsError: a path, a range, a value or the budget is wrong, or Optuna is not installed.
        SweepError: not one run could be finished.
    """
    for name, most in {"runs": runs, "calls": runs if calls is None else calls}.items():
        if type(most) is not int or most < 1:
            raise SettingsError(f"{name} must be a whole number, 1 or more, got {most!r}")
    search, interrupted = _Search(base, over, slo=slo, minimise=minimise, seed=seed), False
    with tqdm(total=runs, disable=not progress, unit="run", dynamic_ncols=True, delay=0.5) as bar:
        try:
            for number in range(runs):
                if calls is not None and search.calls >= calls:
                    break
                share = max(number / runs, search.calls / calls if calls else 0.0)
                (search.explore if share < 1 - _CONFIRMED else search.confirm)()
                bar.update(1)
        except KeyboardInterrupt:
            if not search.runs:
                raise
            interrupted = True
    if not search.runs:
        first = search.failures[0]
        raise SweepError(f"none of {runs} runs could be finished. The first to fail: {first.reason}\n{first.traceback}")
    result = SweepResult(
        list(search.space),
        search.runs,
        planned=runs if interrupted else len(search.runs) + len(search.failures),
        failures=search.failures,
        stopped=INTERRUPTED if interrupted else "",
        settings=settings_by_path(base),
    )
    return Tuned(result, recommend(result, slo, minimise, settings=list(search.space)))


class _Search:
    """Asks for points and measures them; after that it measures the best again, for luck does not repeat itself."""

    def __init__(self, base: Experiment, over: Mapping[str, Any], *, slo: SLO, minimise: str, seed: int) -> None:
        self._optuna = _optuna()
        self._base, self._slo, self._least = base, checked_slo(slo), minimised(minimise)
        self.space = _space(base, over)
        self._distributions = {path: _distribution(self._optuna, axis) for path, axis in self.space.items()}
        with _quiet(self._optuna):
            self._study = self._optuna.create_study(sampler=self._optuna.samplers.TPESampler(seed=seed % 2**32))
        self._points: dict[tuple[Any, ...], list[Run]] = {}
        self._scores: dict[tuple[Any, ...], float] = {}
        self.runs: list[Run] = []
        self.failures: list[FailedRun] = []
        self.calls = 0

    def explore(self) -> None:
        """Measure the point that is proposed."""
        with _quiet(self._optuna):
            trial = self._study.ask(self._distributions)
        point = tuple(_settled(axis, trial.params[path]) for path, axis in self.space.items())
        measured = self._measure(point)
        with _quiet(self._optuna):
            failed = self._optuna.trial.TrialState.FAIL
            self._study.tell(trial, *((self._scores[point],) if measured else (None, failed)))

    def confirm(self) -> None:
        """Measure the best point once more."""
        if self._scores:
            self._measure(min(self._scores, key=self._scores.__getitem__))
        else:
            self.explore()

    def _measure(self, point: tuple[Any, ...]) -> bool:
        settings, experiment = {}, self._base
        for (path, axis), chosen in zip(self.space.items(), point, strict=True):
            settings[path] = _value(axis, chosen)
            experiment = with_setting(experiment, path, settings[path])
        settings = readable_settings(settings)
        known = self._points.setdefault(point, [])
        replicate = len(known)
        seed = derived(experiment.seed, replicate) if replicate else experiment.seed
        performed = perform(len(self.runs), experiment.replace(seed=seed))
        if performed.record is None:
            self.failures.append(FailedRun(settings, replicate, seed, performed.reason, performed.traceback))
            return False
        known.append(Run(settings, replicate, seed, performed.record))
        self.runs.append(known[-1])
        calls = SweepResult(list(self.space), known, planned=len(known)).calls
        self.calls += int((calls["replicate"] == replicate).sum())
        self._scores[point] = self._score(calls)
        return True

    def _score(self, calls: pd.DataFrame) -> float:
        """Return how good a point is, less being better: what is minimised, or how far the SLO is missed."""
        targets = self._slo.targets()
        criteria = criteria_of(self._least, list(targets))
        [cells] = cells_by_setting(calls, [], [], criteria, slo=self._slo, confidence=_CONFIDENCE).values()
        excess = judge(cells, targets, _CONFIDENCE).excess
        value = worst(cells, self._least).value
        if math.isnan(value):  # no call to take it over: worse than any that misses the SLO
            return 2 * _MISSED * _MISSED
        if excess > 1:
            return _MISSED * (1 + min(excess, _MISSED))
        return 1 - value if self._least.more_is_better else value


def _space(base: Experiment, over: Mapping[str, Any]) -> dict[str, Any]:
    """Return what each setting is chosen from, each value checked at the base."""
    if not over:
        raise SettingsError("tune needs settings to choose: by its path, a list of values or a range for each")
    space = dict(Samples("random", 1, over).over)
    for path, axis in space.items():
        for value in axis if isinstance(axis, tuple) else (axis.at(0.0), axis.at(0.4), axis.high):
            with_setting(base, path, value)
    return space


def _distribution(optuna: Any, axis: Any) -> Any:
    """Return Optuna's distribution of an axis; of a list, one of places: in order where it holds numbers."""
    if isinstance(axis, tuple):
        if _are_numbers(axis):
            return optuna.distributions.IntDistribution(0, len(axis) - 1)
        return optuna.distributions.CategoricalDistribution(tuple(range(len(axis))))
    log = isinstance(axis, LogRange)
    if axis.whole:
        return optuna.distributions.IntDistribution(int(axis.low), int(axis.high), log=log)
    return optuna.distributions.FloatDistribution(axis.low, axis.high, log=log)


def _settled(axis: Any, proposed: Any) -> Any:
    """Return what is chosen of an axis: a number of a range, or of a list the place of a value that may be anything."""
    if isinstance(axis, tuple):
        return _ordered(axis).index(_ordered(axis)[proposed])  # the first, of equal ones
    if axis.whole:
        return int(proposed)
    return min(max(float(f"{proposed:.3g}"), axis.low), axis.high)  # three digits are as much as anybody would set


def _value(axis: Any, chosen: Any) -> Any:
    return _ordered(axis)[chosen] if isinstance(axis, tuple) else chosen


def _ordered(values: tuple[Any, ...]) -> list[Any]:
    return sorted(values) if _are_numbers(values) else list(values)


def _are_numbers(values: tuple[Any, ...]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _optuna() -> Any:
    try:
        import optuna  # noqa: PLC0415 - an extra: llmlab works without it
    except ImportError:
        raise SettingsError("tune needs Optuna; install it with: pip install 'llmlab[tune]'") from None
    return optuna


@contextlib.contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Keep Optuna from reporting each step, and leave its verbosity as it was."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
