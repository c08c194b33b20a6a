"""What is to be run: the runs of a sweep, in the order of its result.

It is handed over by `Sweep`, which makes it, and knows nothing of where it is carried out.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from llmlab.experiments.procedure import Procedure
from llmlab.experiments.rates import RateRamp, RateSteps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from llmlab.experiments.experiment import Experiment
    from llmlab.experiments.precision import Precision


class PlannedRun(NamedTuple):
    """One run to be made: its place in the sweep's result, the swept settings, the replicate, and the experiment.

    `key` is what it is stored under, empty where there is no store.
    """

    number: int
    settings: dict[str, Any]
    replicate: int
    experiment: Experiment
    key: str = ""


class Plan(NamedTuple):
    """A sweep to be carried out: the swept settings' paths, and its runs, of which there are `planned`.

    `runs` gives them anew at each call, so that not all need be in memory at a time. With `until` they are replicate 0
    of each point, and the sweep decides how many more there are. `settings` are the base's by path, for its result.
    """

    parameters: list[str]
    runs: Callable[[], Iterator[PlannedRun]]
    planned: int
    procedure: Procedure = Procedure()
    until: Precision | None = None
    settings: Mapping[str, Any] = MappingProxyType({})


def expected_calls(experiment: Experiment) -> float:
    """Return how many calls an experiment makes, or about so many where its workload ends by its duration."""
    workload = experiment.workload
    if workload.calls is not None:
        return workload.calls
    assert workload.duration is not None  # noqa: S101 - one of the two is its end
    rate = workload.rate
    if isinstance(rate, RateSteps | RateRamp):
        return rate.expected_calls(workload.duration)
    if rate is not None:
        return rate * workload.duration
    return float(sum(1 for _ in workload.times(experiment.seed)))  # a trace that is cut off
