"""More replicates for the points that are not known well enough: the bookkeeping of `Precision` during a sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.core.chance import derived
from llmlab.experiments.precision import replicates_wanted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from llmlab.experiments.precision import Measured, Precision
    from llmlab.experiments.running.plan import PlannedRun


class Rounds:
    """Knows, of each point whose round is not over, which values are in.

    The runs of point p have the numbers from p times `max_replicates`, so that later replicates find their place.
    """

    def __init__(self, precision: Precision) -> None:
        self._precision = precision
        self._values: dict[int, dict[int, Measured | None]] = {}
        self._due: dict[int, int] = {}
        self._origins: dict[int, PlannedRun] = {}

    def first(self, points: Iterable[PlannedRun]) -> Iterator[PlannedRun]:
        """Return the first round, given replicate 0 of each point."""
        most = self._precision.max_replicates
        for number, point in enumerate(points):
            origin = self._origins[number * most] = point._replace(number=number * most)
            for replicate in range(self._precision.min_replicates):
                yield _replicate(origin, replicate)

    def ended(self, run: PlannedRun, value: Measured | None) -> list[PlannedRun]:
        """Take a run's value (`None` if it failed), and return the point's next round, if it is to have one now.

        A point with a failed run gets no further round: what it would measure is no longer the same.
        """
        point = run.number - run.replicate
        values = self._values.setdefault(point, {})
        values[run.replicate] = value
        due = self._due.get(point, self._precision.min_replicates)
        if len(values) < due:
            return []
        known = [one for _, one in sorted(values.items()) if one is not None]
        wanted = due if len(known) < due else replicates_wanted(known, self._precision)
        if wanted == due:
            del self._values[point], self._origins[point]
            return []
        self._due[point] = wanted
        return [_replicate(self._origins[point], replicate) for replicate in range(due, wanted)]


def _replicate(origin: PlannedRun, replicate: int) -> PlannedRun:
    """Return another replicate of a point, given its first."""
    if not replicate:
        return origin
    experiment = origin.experiment
    return origin._replace(
        number=origin.number + replicate,
        replicate=replicate,
        experiment=experiment.replace(seed=derived(experiment.seed, replicate)),
    )
