"""Many settings, run one after another: every combination of the values in a grid, and more.

A grid's key is the path of a setting inside the experiment (`"backend.timeout_probability"`,
`"policy.retry.max_retries"`, `"workload.users"`); of several, such as a fallback's targets, it has the number, from 0
(`"backend.targets.1.model"`). The same replicate has the same seed at every point, so all points meet the same chance
and differences between them are differences of their settings (common random numbers). What is swept over stands in
`axes.py` and `samples.py`, how points come of it in `points.py`; `documents.py` reads and writes the files.
"""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BeforeValidator, Field

from llmlab.backends.setting_paths import setting_at, with_setting
from llmlab.core.chance import derived
from llmlab.core.plain_data import plain_data
from llmlab.core.settings import Settings, SettingsError
from llmlab.experiments.axes import Axes, Axis, axes_without_prompts, by_path_data, mapped
from llmlab.experiments.conditions import Conditions
from llmlab.experiments.documents import json_text, read_document, toml_text, write_document
from llmlab.experiments.experiment import Experiment
from llmlab.experiments.points import Tree, column_of, levels
from llmlab.experiments.precision import Precision
from llmlab.experiments.procedure import Procedure
from llmlab.experiments.readable import readable_settings, settings_by_path
from llmlab.experiments.running.carry_out import carry_out, carry_out_async, stream
from llmlab.experiments.running.plan import Plan, PlannedRun
from llmlab.experiments.running.sink import Sink
from llmlab.experiments.running.sweep_run import SweepRun
from llmlab.experiments.samples import Samples
from llmlab.experiments.schema import sweep_schema
from llmlab.experiments.store.run_batch import checked_keep
from llmlab.experiments.store.store import Store

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
    from concurrent.futures import Executor
    from pathlib import Path

    from llmlab.experiments.conditions import Condition
    from llmlab.experiments.runs import FailedRun, Run
    from llmlab.experiments.store.run_batch import Keep
    from llmlab.experiments.sweep_result import SweepResult

MAX_RUNS = 10_000_000
"""The most runs of a sweep: more is a slip of the pen."""
_ALL_CHECKED = 10_000
"""Up to so many points each is checked before anything runs: a third of a second."""


def _as_tuple(given: object) -> object:
    """Take a single entry for a tuple of one."""
    return (given,) if isinstance(given, Samples | dict) else given


class Sweep(Settings):
    """An experiment under every combination of settings.

        Sweep(Experiment(), {"backend.timeout_probability": [0, 0.2], "policy.retry.max_retries": [0, 1, 2]}).run()
        Sweep(base, {"workload.rate": LogRange(1, 100, num=5)}, replicates=3)
        Sweep(base, zipped=[{"policy.max_concurrency": [2, 8], "backend.server.slots": [2, 8]}])
        Sweep(base, samples=Samples("sobol", 64, {"workload.rate": LinearRange(1, 9), "policy.max_queue": [10, 100]}))

    Grid, zipped lists and samples may be given together: the sweep is over all their combinations.

    Args:
        base: the experiment whose settings are changed; `None` is `Experiment()`.
        grid: for each path the values to try: a list, a `LinearRange`, a `LogRange` or `Values`.
        zipped: groups of settings whose values go together, the first with the first and so on.
        samples: points drawn from ranges; see `Samples`.
        where: conditions; points at which one does not hold are left out.
        replicates: runs of each point, with different seeds.
        until: instead of a fixed number of replicates, the precision that is wanted of a metric.
        procedure: in what order the runs are made, what surrounds each, and what ends the sweep early.

    Raises:
        SettingsError: a path does not exist, a value is not valid there, a list is empty, or no point is left.
    """

    base: Experiment = Experiment()
    grid: Axes = Field(default_factory=dict)
    zipped: Annotated[tuple[Axes, ...], BeforeValidator(_as_tuple, json_schema_input_type=tuple[Axes, ...] | Axes)] = ()
    samples: Annotated[
        tuple[Samples, ...], BeforeValidator(_as_tuple, json_schema_input_type=tuple[Samples, ...] | Samples)
    ] = ()
    where: Conditions = ()
    replicates: int = Field(default=1, ge=1)
    until: Precision | None = None
    procedure: Procedure = Procedure()

    if not TYPE_CHECKING:

        def __init__(self, base: Any = None, grid: Any = None, /, **settings: Any) -> None:
            given = {"base": base, "grid": grid}
            super().__init__(**{name: value for name, value in given.items() if value is not None}, **settings)

    else:

        def __init__(
            self,
            base: Experiment | None = None,
            grid: Mapping[str, Any] | None = None,
            /,
            *,
            zipped: Mapping[str, Any] | Iterable[Mapping[str, Any]] = (),
            samples: Samples | Iterable[Samples] = (),
            where: Condition | Iterable[Condition] = (),
            replicates: int = 1,
            until: Precision | None = None,
            procedure: Procedure = ...,
        ) -> None: ...

    def model_post_init(self, _context: Any) -> None:
        """Check the points before anything runs."""
        if self.until is not None and self.replicates > 1:
            raise ValueError("replicates and until exclude each other: until says itself how many there are")
        self.__dict__["grid"] = self._settled(self.grid)
        self.__dict__["zipped"] = tuple(map(self._settled, self.zipped))
        if "grid" in self.model_fields_set and not self.grid:
            raise ValueError("grid is empty; name a setting with its values, or leave it out to run the base alone")
        tree = self._tree
        if tree.size * self.replicates > MAX_RUNS:
            raise ValueError(f"this makes {tree.size * self.replicates:,} runs; at most {MAX_RUNS:,} are taken")
        for part in tree.one_at_a_time() if tree.size > _ALL_CHECKED else ():
            for _ in part.points():
                pass
        if not (self._point_count if tree.size <= _ALL_CHECKED else any(True for _ in tree.points())):
            raise ValueError("where leaves no point; at least one must be left")

    def to_dict(self) -> dict[str, Any]:
        """Return what was given, as plain data; `Sweep(**data)` is an equal sweep.

        What was left at its default stays out: some defaults depend on other settings, swept ones among them.

        Raises:
            SettingsError: it holds what no file can hold, such as a backend of your own; the message names it.
        """
        data: dict[str, Any] = {"base": plain_data(self.base, "base", complete=False)}
        if self.grid:
            data["grid"] = by_path_data(self.grid, "grid")
        if self.zipped:
            data["zipped"] = [by_path_data(axes, f"zipped.{number}") for number, axes in enumerate(self.zipped)]
        if self.samples:
            data["samples"] = [sample.to_dict() for sample in self.samples]
        if self.where:
            data["where"] = [plain_data(condition, "where", complete=False) for condition in self.where]
        if self.replicates != 1:
            data["replicates"] = self.replicates
        if self.until is not None:
            data["until"] = plain_data(self.until, "until", complete=False)
        if self.procedure != Procedure():
            data["procedure"] = plain_data(self.procedure, "procedure", complete=False)
        return data

    def to_json(self) -> str:
        """Return the sweep as the text of a JSON file; see `to_dict`."""
        return json_text(self.to_dict())

    def to_toml(self) -> str:
        """Return the sweep as the text of a TOML file; see `to_dict`. `None` is written as `{ none = true }`."""
        return toml_text(self.to_dict())

    def save(self, path: str | Path) -> Path:
        """Write the sweep to a file, `.toml` or `.json`, which `Sweep.load` reads; an earlier one is replaced.

        Raises:
            SettingsError: it holds what no file can hold, or the file's name has another ending.
            OSError: the file cannot be written.
        """
        return write_document(path, self.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a sweep from a file, `.toml` or `.json`. Nothing in the file is executed.

        Raises:
            SettingsError: the file cannot be read, or something in it is wrong; the message names file and setting.
        """
        data = read_document(path)
        try:
            return cls(**data)
        except SettingsError as error:
            raise SettingsError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from None

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """Return the JSON schema of the files that `Sweep.load` reads, for editors and other programs."""
        return sweep_schema(cls, Experiment)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Yield what a repr shows: prompts are not part of it."""
        for name, value in super().__repr_args__():
            if name == "grid":
                yield name, axes_without_prompts(value)
            else:
                yield name, tuple(map(axes_without_prompts, value)) if name == "zipped" else value

    def _settled(self, axes: Mapping[str, Axis]) -> dict[str, Axis]:
        """Return axes whose tables and lists have become the settings that they describe, as in a file of Python."""
        return {path: mapped(axis, partial(self._setting, path)) for path, axis in axes.items()}

    def _setting(self, path: str, value: Any) -> Any:
        if not isinstance(value, dict | list | tuple):
            return value
        try:
            return setting_at(with_setting(self.base, path, value), path)
        except SettingsError:  # it is valid at some points only, or nowhere; the check of all points will tell
            return value

    @cached_property
    def _tree(self) -> Tree:
        found = levels(self.grid, self.zipped, self.samples)
        named = [*self.grid, *(path for group in self.zipped for path in group)]
        return Tree(
            self.base, found, self.where, tuple(dict.fromkeys([*named, *(p for s in self.samples for p in s.over)]))
        )

    @cached_property
    def _point_count(self) -> int:
        tree = self._tree
        return sum(1 for _ in tree.points()) if tree.conditional or tree.size <= _ALL_CHECKED else tree.size

    @property
    def parameters(self) -> list[str]:
        """The names of the swept settings in results: their paths, or for `backend` as a whole `experiment.backend`."""
        return list(map(column_of, self._tree.paths))

    def __len__(self) -> int:
        """The number of runs: points times replicates."""
        return self._point_count * self.replicates

    def runs(self) -> Iterator[tuple[dict[str, Any], int, Experiment]]:
        """Iterate over the runs: swept settings, replicate (from 0), and the experiment to run.

        Of swept requests the settings hold their number and a digest, so that no result shows a prompt.
        """
        for found, point in self._tree.points():
            settings = readable_settings(found)
            yield settings, 0, point
            for replicate in range(1, self.replicates):
                yield settings, replicate, point.replace(seed=derived(point.seed, replicate))

    def run(
        self,
        *,
        store: Store | str | os.PathLike[str] | None = None,
        keep: Keep = "events",
        executor: Executor | None = None,
        workers: int | None = None,
        progress: bool = True,
        on_point: Callable[[Run | FailedRun], object] | None = None,
    ) -> SweepResult:
        """Run all points and return their events as data frames.

        A small sweep, or one of a real backend, runs here, one run after another; a large one in a process on each
        core. The result is the same. Works in a notebook cell and in a script as it stands.

        Ctrl-C (or the kernel's interrupt) stops it within a second and keeps the finished runs: the result's
        `interrupted` is then true. A run whose backend raises, or whose worker process dies twice, costs itself alone
        and is listed in the result's `failures`.

        Args:
            store: a directory where finished runs are kept. Those that it has are not run again, so the same call goes
                on after an interruption, and a larger grid computes what is new in it.
            keep: what is kept of a run there: all its `"events"`, its `"calls"` alone, or a `"summary"` of it.
            executor: any `concurrent.futures.Executor` to run it through, such as dask's `Client(...).get_executor()`.
            workers: how many worker processes; 1 runs everything here. Of an executor: how many jobs it does at a time.
            progress: whether to show a progress bar, with runs per second and the time left.
            on_point: called here with each run when it has ended; with a store it has a `key` and no record.

        Raises:
            SettingsError: an argument is wrong, or a backend of your own has no `fingerprint` to be stored by.
            SweepError: not one run could be finished.
            OSError: the store cannot be read or written; what was stored before is safe.
        """
        return carry_out(
            self._begun(store, keep, executor=executor, workers=workers, progress=progress, on_point=on_point)
        )

    async def run_async(
        self,
        *,
        store: Store | str | os.PathLike[str] | None = None,
        keep: Keep = "events",
        executor: Executor | None = None,
        workers: int | None = None,
        progress: bool = True,
        on_point: Callable[[Run | FailedRun], object] | None = None,
    ) -> SweepResult:
        """Run all points while this event loop goes on with other work; see `run`.

        To cancel it stops the sweep within half a second. `on_point` is called in another thread.
        """
        return await carry_out_async(
            self._begun(store, keep, executor=executor, workers=workers, progress=progress, on_point=on_point)
        )

    def stream(
        self,
        *,
        store: Store | str | os.PathLike[str] | None = None,
        keep: Keep = "events",
        executor: Executor | None = None,
        workers: int | None = None,
        progress: bool = False,
    ) -> AsyncGenerator[Run | FailedRun]:
        """Yield each run when it has ended, in no particular order: `async for run in sweep.stream(): ...`; see `run`.

        Leaving the loop by an exception or a cancellation stops the sweep within half a second; to leave it by a
        `break`, put `contextlib.aclosing` around the stream.
        """
        return stream(self._begun(store, keep, executor=executor, workers=workers, progress=progress))

    def _begun(self, store: Store | str | os.PathLike[str] | None, keep: Keep, **how: Any) -> SweepRun:
        checked_keep(keep)
        sink = None if store is None else Sink(store if isinstance(store, Store) else Store(store), keep)
        if self.until is not None and keep == "summary":
            raise SettingsError('keep="summary" holds percentiles too roughly for until; use "events" or "calls"')
        plan = Plan(
            self.parameters,
            lambda: (PlannedRun(number, *run) for number, run in enumerate(self.runs())),
            len(self),
            self.procedure,
            self.until,
            settings_by_path(self.base),
        )
        return SweepRun(plan, sink=sink, **how)
