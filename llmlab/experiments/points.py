"""The points of a sweep: its axes put together, each point an experiment with the settings that make it.

A tree is walked whose levels are the axes, so an axis' setting is put into the experiment once for all the points below
it. The order of the points is that of the axes, the last one changing fastest; axes with a condition come after the
others, since they ask what the others are.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from llmlab.backends.setting_paths import setting_at, with_setting
from llmlab.core.settings import SettingsError
from llmlab.experiments.axes import conditions_of, values_of
from llmlab.experiments.readable import readable_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from llmlab.experiments.axes import Axis
    from llmlab.experiments.conditions import Condition
    from llmlab.experiments.experiment import Experiment
    from llmlab.experiments.samples import Samples


class Level(NamedTuple):
    """An axis, or several that go together: its settings by path, step by step, and where they are swept."""

    steps: Sequence[Mapping[str, Any]]
    only_if: tuple[Condition, ...] = ()

    @property
    def paths(self) -> list[str]:
        """The settings that it sweeps."""
        return list(self.steps[0])


def levels(
    grid: Mapping[str, Axis], zipped: Sequence[Mapping[str, Axis]], samples: Sequence[Samples]
) -> tuple[Level, ...]:
    """Return the levels of the tree, those with a condition last.

    Raises:
        ValueError: a setting is swept twice, a list has a value twice, or an axis undoes another.
    """
    found = [Level([{path: value} for value in values_of(axis)], conditions_of(axis)) for path, axis in grid.items()]
    found += [_zipped(group, number) for number, group in enumerate(zipped)]
    for level in found:
        _check_steps(level)
    found += [Level(_once_each(sample.points())) for sample in samples]
    found.sort(key=lambda level: bool(level.only_if))
    _check_paths([path for level in found for path in level.paths])
    return tuple(found)


def _zipped(group: Mapping[str, Axis], number: int) -> Level:
    columns = {path: values_of(axis) for path, axis in group.items()}
    if not columns:
        raise ValueError(f"zipped.{number} is empty; give settings with lists of values of one length")
    lengths = {path: len(values) for path, values in columns.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"'{path}' has {length}" for path, length in lengths.items())
        raise ValueError(f"zipped.{number}: values go together, so there must be as many of each; {counts}")
    if any(conditions_of(axis) for axis in group.values()):
        raise ValueError(f"zipped.{number}: only_if stands in the grid only; use where to leave out points")
    return Level([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])


def _check_steps(level: Level) -> None:
    """Refuse a step that is there twice: its runs would be equal, and count as if they were twice as many."""
    once = {id(step) for step in _once_each(level.steps)}
    again = next((step for step in level.steps if id(step) not in once), None)
    if again is not None:
        which = ", ".join(f"{path}={value!r}"[:80] for path, value in readable_settings(again).items())
        raise ValueError(f"{which} is there twice; leave one out, and use replicates for more runs of a point")


def _once_each(steps: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the steps without those that equal an earlier one."""
    found: list[Mapping[str, Any]] = []
    seen: dict[object, list[Mapping[str, Any]]] = {}
    for step in steps:
        key: object = tuple(step.values())
        try:
            alike = seen.setdefault(key, [])
        except TypeError:  # lists and the like cannot be looked up
            alike = seen.setdefault(repr(step), [])
        if step not in alike:  # a repr says less than the value does
            alike.append(step)
            found.append(step)
    return found


def _check_paths(paths: Sequence[str]) -> None:
    for number, path in enumerate(paths):
        if path in paths[:number]:
            raise ValueError(f"'{path}' is swept twice; leave one of them out")
        undone = next((before for before in paths[:number] if before.startswith(f"{path}.")), None)
        if undone is not None:
            raise ValueError(f"'{path}' would replace '{undone}', which is swept before it; put '{path}' first")


class Tree(NamedTuple):
    """Everything that makes the points. `paths` are the swept settings in the order in which they are shown."""

    base: Experiment
    levels: tuple[Level, ...]
    where: tuple[Condition, ...]
    paths: tuple[str, ...]

    @property
    def size(self) -> int:
        """How many points there are if no condition leaves any out."""
        size = 1
        for level in self.levels:
            size *= len(level.steps)
        return size

    @property
    def conditional(self) -> bool:
        """Whether conditions decide how many points there are."""
        return bool(self.where) or any(level.only_if for level in self.levels)

    def points(self) -> Iterator[tuple[dict[str, Any], Experiment]]:
        """Yield each point: its settings by path, and the experiment.

        A setting that a condition keeps from being swept is shown with the value that it has there, `None` if it is
        not there at all.

        Raises:
            SettingsError: a value is not valid at a point.
        """
        return self._below(self.base, {}, 0)

    def _below(self, point: Experiment, settings: dict[str, Any], depth: int) -> Iterator[tuple[dict[str, Any], Any]]:
        if depth == len(self.levels):
            shown = {column_of(path): settings[path] if path in settings else _kept(point, path) for path in self.paths}
            read = partial(_read, shown, point)
            if all(condition.holds(read) for condition in self.where):
                yield shown, point
            return
        level = self.levels[depth]
        if level.only_if and not all(one.holds(partial(_read, settings, point)) for one in level.only_if):
            yield from self._below(point, settings, depth + 1)
            return
        for step in level.steps:
            swept = {**settings, **step}
            if self._may_hold(swept):
                yield from self._below(_changed(point, step, settings), swept, depth + 1)

    def _may_hold(self, swept: dict[str, Any]) -> bool:
        """Whether the conditions hold that can be told from these settings: what they leave out may be invalid."""
        known = [one for one in self.where if all(path in swept for path in one.settings)]
        return all(one.holds(swept.__getitem__) for one in known)

    def one_at_a_time(self) -> Iterator[Tree]:
        """Yield trees that together meet every value, each with all axes but one at their first value."""
        for varied in range(len(self.levels)):
            kept = [
                level if number == varied else level._replace(steps=level.steps[:1])
                for number, level in enumerate(self.levels)
            ]
            yield self._replace(levels=tuple(kept))


def column_of(path: str) -> str:
    """Return the name that a swept setting has in results: its path, but where they have such a column of their own."""
    return f"experiment.{path}" if path == "backend" else path  # `backend` says what each attempt was sent to


def _read(settings: Mapping[str, Any], point: Experiment, path: str) -> Any:
    return settings[path] if path in settings else setting_at(point, path)


def _kept(point: Experiment, path: str) -> Any:
    try:
        return setting_at(point, path)
    except SettingsError:  # settings of another kind stand there; where it is swept, a wrong path is refused
        return None


def _changed(point: Experiment, step: Mapping[str, Any], settings: Mapping[str, Any]) -> Experiment:
    try:
        for path, value in step.items():
            point = with_setting(point, path, value)
    except SettingsError as error:
        if not settings:
            raise
        where = ", ".join(f"{path}={value!r}"[:80] for path, value in readable_settings(settings).items())
        raise SettingsError(f"{error} (at the point {where})") from None
    return point
