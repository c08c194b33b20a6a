"""Many settings, run one after another: every combination of the values in a grid.

A grid's key is the path of a setting inside the experiment (`"backend.timeout_probability"`,
`"policy.retry.max_retries"`, `"workload.users"`); of several, such as a fallback's targets, it has the number, from 0
(`"backend.targets.1.model"`). The same replicate has the same seed at every point, so all points
meet the same chance and differences between them are differences of their settings (common random numbers).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pandas as pd
from pydantic import BeforeValidator, Field
from tqdm.auto import tqdm

from llmlab.backends.setting_paths import with_setting
from llmlab.core.chance import derived
from llmlab.core.settings import Settings
from llmlab.experiments.experiment import Experiment
from llmlab.experiments.sweep_result import Run, SweepResult

if TYPE_CHECKING:
    from collections.abc import Iterator


def _as_plain(values: object) -> object:
    """Take arrays and series, and turn NumPy's numbers into Python's, which settings and files understand."""
    if isinstance(values, np.ndarray | pd.Series | pd.Index):
        return tuple(values.tolist())
    if isinstance(values, Iterable) and not isinstance(values, str | bytes | dict):
        return tuple(value.item() if isinstance(value, np.generic) else value for value in values)
    return values


class Sweep(Settings):
    """An experiment under every combination of settings.

        Sweep(Experiment(), {"backend.timeout_probability": [0, 0.2], "policy.retry.max_retries": [0, 1, 2]}).run()

    Args:
        base: the experiment whose settings are changed; `None` is `Experiment()`.
        grid: for each path the values to try.
        replicates: runs of each point, with different seeds.

    Raises:
        SettingsError: a path does not exist, a value is not valid there, or a list of values is empty.
    """

    base: Experiment = Experiment()
    grid: dict[str, Annotated[tuple[Any, ...], BeforeValidator(_as_plain)]] = Field(default_factory=dict)
    replicates: int = Field(default=1, ge=1)

    if not TYPE_CHECKING:

        def __init__(self, base: Any = None, grid: Any = None, /, **settings: Any) -> None:
            given = {"base": base, "grid": grid}
            super().__init__(**{name: value for name, value in given.items() if value is not None}, **settings)

    else:

        def __init__(
            self,
            base: Experiment | None = None,
            grid: dict[str, Any] | None = None,
            /,
            *,
            replicates: int = 1,
        ) -> None: ...

    def model_post_init(self, _context: Any) -> None:
        """Check every value of the grid before anything runs."""
        for path, values in self.grid.items():
            if not values:
                raise ValueError(f"grid: '{path}' has no values; give at least one")
            for value in values:
                with_setting(self.base, path, value)

    def __len__(self) -> int:
        """The number of runs: points times replicates."""
        count = self.replicates
        for values in self.grid.values():
            count *= len(values)
        return count

    def runs(self) -> Iterator[tuple[dict[str, Any], int, Experiment]]:
        """Iterate over the runs: swept settings, replicate (from 0), and the experiment to run."""
        for combination in itertools.product(*self.grid.values()):
            settings = dict(zip(self.grid, combination, strict=True))
            point = self.base
            for path, value in settings.items():
                point = with_setting(point, path, value)
            for replicate in range(self.replicates):
                seed = point.seed if replicate == 0 else derived(point.seed, replicate)
                yield settings, replicate, point.replace(seed=seed)

    def run(self, *, progress: bool = True) -> SweepResult:
        """Run all points and return their events as data frames.

        Works in a notebook cell as it stands. Ctrl-C (or the kernel's interrupt) stops it and keeps the finished runs:
        the result's `interrupted` is then true.

        Args:
            progress: whether to show a progress bar, with the time left.
        """
        runs: list[Run] = []
        counts = [experiment.workload.calls for _, _, experiment in self.runs()]
        known = [count for count in counts if count is not None]
        counted = len(known) == len(counts)  # a workload that ends by its duration does not say how many calls it makes
        total, unit = (sum(known), "call") if counted else (len(counts), "run")
        with tqdm(total=total, disable=not progress, unit=unit, dynamic_ncols=True, delay=0.5) as bar:
            try:
                for settings, replicate, experiment in self.runs():
                    bar.set_postfix_str(f"run {len(runs) + 1} of {len(self)}", refresh=False)
                    if experiment.simulated or not counted:
                        record = experiment.record()
                        bar.update(counts[len(runs)] if counted else 1)
                    else:
                        record = experiment.record(done=partial(bar.update, 1))
                    runs.append(Run(settings, replicate, experiment.seed, record))
            except KeyboardInterrupt:
                if not runs:
                    raise
        return SweepResult(list(self.grid), runs, planned=len(self))

    async def run_async(self, *, progress: bool = True) -> SweepResult:
        """Run all points in another thread, while this event loop goes on with other work."""
        return await asyncio.to_thread(self.run, progress=progress)
