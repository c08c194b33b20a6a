"""What a sweep brought: its events as data frames, made on first use."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from llmlab.analysis.frames import attempts_frame, calls_frame, concat_frames, server_frame
from llmlab.analysis.layers import layers_inside, of_layer
from llmlab.analysis.summaries import HEADLINE, summary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd

    from llmlab.backends.server_view import ServerView
    from llmlab.core.event_log import EventLog


class RunLog(NamedTuple):
    """What one run recorded.

    `started_at_s` is when it began, on its loop's clock; `wall_s` how long it took, in real seconds; `server` is the
    simulated server's own view, where there is one.
    """

    log: EventLog
    started_at_s: float
    wall_s: float
    server: ServerView | None = None


class Run(NamedTuple):
    """One run of a sweep: the swept settings, the replicate (from 0), the seed, and what was recorded."""

    settings: dict[str, Any]
    replicate: int
    seed: int
    record: RunLog


class SweepResult:
    """The runs of a sweep.

    Where clients are stacked, its frames hold what the outermost client saw, so that nothing is counted twice;
    `layer(name)` is the same result as a client further inside saw it.

    Attributes:
        parameters: the swept settings' paths, which are columns of both frames.
        runs: the finished runs, with their raw events, those of all layers.
        planned: how many runs there were to be.
    """

    def __init__(
        self, parameters: Sequence[str], runs: Sequence[Run], *, planned: int, layer: str | None = None
    ) -> None:
        self.parameters = list(parameters)
        self.runs = list(runs)
        self.planned = planned
        self._layer = layer

    @property
    def interrupted(self) -> bool:
        """Whether it was stopped before all runs were finished."""
        return len(self.runs) < self.planned

    @cached_property
    def layers(self) -> list[str]:
        """The names of the clients inside the outermost one, from whose attempts theirs are made."""
        return list(dict.fromkeys(name for run in self.runs for name in layers_inside(run.record.log)))

    def layer(self, name: str) -> SweepResult:
        """Return this result as a client inside saw it: its calls, its attempts, their summary.

        Its calls say by `parent_call` and `parent_attempt` which attempt of the client around it they served.

        Raises:
            KeyError: no client inside has this name; the message lists those that have made calls.
        """
        if name not in self.layers:
            raise KeyError(f"no layer '{name}' has made calls; those that have: {', '.join(self.layers) or 'none'}")
        return SweepResult(self.parameters, self.runs, planned=self.planned, layer=name)

    @cached_property
    def attempts(self) -> pd.DataFrame:
        """One row per attempt: the swept settings, `replicate`, `seed`, then the columns of `ATTEMPT_COLUMNS`.

        Times are in seconds since the run's start.
        """
        return self._frame(attempts_frame)

    @cached_property
    def calls(self) -> pd.DataFrame:
        """One row per call: the swept settings, `replicate`, `seed`, then the columns of `CALL_COLUMNS`.

        Times are in seconds since the run's start.
        """
        return self._frame(calls_frame)

    @cached_property
    def server(self) -> pd.DataFrame:
        """The simulated servers' own view: the swept settings, `replicate`, `seed`, then `SERVER_COLUMNS`.

        A row holds until the next one of its run. There are no rows of a run without a `ServerModel`.
        """
        return concat_frames([server_frame(run.record.server) for run in self.runs], self._labels())

    def _frame(self, make: Callable[[EventLog], pd.DataFrame]) -> pd.DataFrame:
        frames = []
        for run in self.runs:
            frame = of_layer(make(run.record.log), run.record.log, self._layer)
            if run.record.started_at_s:
                clocks = [name for name in frame.columns if name.endswith("_at_s")]
                frame[clocks] -= run.record.started_at_s
            frames.append(frame)
        return concat_frames(frames, self._labels())

    def _labels(self) -> list[dict[str, Any]]:
        return [{**run.settings, "replicate": run.replicate, "seed": run.seed} for run in self.runs]

    def summary(self, by: str | Sequence[str] | None = None) -> pd.DataFrame:
        """Return headline numbers for each group of calls; see `llmlab.analysis.summaries.summary`.

        Args:
            by: columns to group by; `None` means all swept settings.
        """
        return summary(self.calls, self.attempts, by=self.parameters if by is None else by)

    def __repr__(self) -> str:
        state = f"interrupted after {len(self.runs)} of {self.planned}" if self.interrupted else f"{len(self.runs)}"
        return f"<SweepResult: {state} runs over {', '.join(self.parameters) or 'one point'}>"

    def _repr_html_(self) -> str:
        table = self.summary()[[*self.parameters, *HEADLINE]]
        return str(table.to_html(float_format=lambda value: f"{value:.4g}"))
