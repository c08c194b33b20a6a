"""What a sweep brought: its events as data frames, Arrow tables and SQL, made when asked.

Whether the events are in memory (`Sweep.run()`) or in a store makes no difference to what is returned. Look next at
`run_tables.py`, which reads them.
"""

from __future__ import annotations

from functools import cached_property, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from llmlab.analysis.frames import attempts_frame, calls_frame, declared_frame, server_frame
from llmlab.analysis.summaries import HEADLINE, summary, summary_of_totals
from llmlab.core.client import OUTERMOST
from llmlab.core.display import grid
from llmlab.experiments.run_tables import Events, EventsInMemory, EventsInStore, Labels, read_rows
from llmlab.experiments.store.store import Store
from llmlab.experiments.store.stored_runs import TABLES

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from llmlab.experiments.runs import FailedRun, Run


class SweepResult:
    """The runs of a sweep.

    Where clients are stacked, its frames hold what the outermost client saw, so that nothing is counted twice;
    `layer(name)` is the same result as a client further inside saw it.

    Attributes:
        parameters: the swept settings' paths, which are columns of both frames.
        runs: the finished runs, with their raw events, those of all layers.
        planned: how many runs there were to be.
        failures: the runs that could not be finished, with the reasons.
        stopped: why the sweep ended before all runs were made; empty where it did not.
        settings: those of the experiment before any was swept, by their paths, for reading; prompts are counted only.
    """

    def __init__(
        self,
        parameters: Sequence[str],
        runs: Sequence[Run],
        *,
        planned: int,
        store: Store | None = None,
        failures: Sequence[FailedRun] = (),
        stopped: str = "",
        layer: str = OUTERMOST,
        settings: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Take the finished runs: with their records, or with their keys in a store."""
        self.parameters = list(parameters)
        self.runs = list(runs)
        self.planned = planned
        self._store = store
        self._layer = layer
        self.failures = list(failures)
        self.stopped = stopped
        self.settings = dict(settings)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SweepResult:
        """Return what is in a store of the sweep that was last begun there. Reads no events before they are asked for.

        Raises:
            SettingsError: there is no store, or no sweep was begun in it.
            OSError: it cannot be read.
        """
        store = Store(path, create=False)
        index = store.last_index()
        found = store.read().found
        runs = [run for run in index.runs if run.key in found]
        return cls(index.parameters, runs, planned=len(index.runs), store=store, settings=index.settings)

    @property
    def interrupted(self) -> bool:
        """Whether it was stopped before all runs were made."""
        return len(self.runs) + len(self.failures) < self.planned

    @cached_property
    def layers(self) -> list[str]:
        """The names of the clients inside the outermost one, from whose attempts theirs are made."""
        table = "totals" if self._events.keep == "summary" else "calls"
        rows, _ = read_rows(self._events, self._labels, table, ["layer"])
        return [name for name in pc.unique(rows["layer"]).to_pylist() if name != OUTERMOST]

    def layer(self, name: str) -> SweepResult:
        """Return this result as a client inside saw it: its calls, its attempts, their summary.

        Its calls say by `parent_call` and `parent_attempt` which attempt of the client around it they served.

        Raises:
            KeyError: no client inside has this name; the message lists those that have made calls.
        """
        if name not in self.layers:
            raise KeyError(f"no layer '{name}' has made calls; those that have: {', '.join(self.layers) or 'none'}")
        inside = SweepResult(
            self.parameters,
            self.runs,
            planned=self.planned,
            store=self._store,
            failures=self.failures,
            stopped=self.stopped,
            layer=name,
            settings=self.settings,
        )
        inside.__dict__.update(_events=self._events, _labels=self._labels)  # made once
        return inside

    @cached_property
    def attempts(self) -> pd.DataFrame:
        """One row per attempt: the swept settings, `replicate`, `seed`, then the columns of `ATTEMPT_COLUMNS`.

        Times are in seconds since the run's start.
        """
        return self._frame("attempts", attempts_frame)

    @cached_property
    def calls(self) -> pd.DataFrame:
        """One row per call: the swept settings, `replicate`, `seed`, then the columns of `CALL_COLUMNS`.

        Times are in seconds since the run's start.
        """
        return self._frame("calls", calls_frame)

    @cached_property
    def server(self) -> pd.DataFrame:
        """The simulated servers' own view: the swept settings, `replicate`, `seed`, then `SERVER_COLUMNS`.

        A row holds until the next one of its run. There are no rows of a run without a `ServerModel`.
        """
        return self._frame("server", server_frame)

    def to_arrow(
        self,
        table: str = "attempts",
        *,
        columns: Sequence[str] | None = None,
        where: Mapping[str, object] | None = None,
    ) -> pa.Table:
        """Return events as an Arrow table, for Polars and other tools; of a store only what is asked for is read.

            result.to_arrow("calls", columns=["ended_at_s"], where={"policy.retry.max_retries": 0, "fate": "answered"})

        Args:
            table: "attempts", "calls" or "server".
            columns: the recorded columns wanted; all by default. The swept settings, `replicate` and `seed` come first.
            where: for recorded columns or swept settings the value, or the list of values, that the rows have in them.

        Raises:
            SettingsError: there is no such table or column, or it was not kept.
        """
        where = {**self._only_layer(table), **(where or {})}
        rows, places = read_rows(self._events, self._labels, table, columns, where)
        labels = {name: pa.array(values) for name, values in self._labels.of(places).items()}
        return pa.table({**labels, **dict(zip(rows.column_names, rows.columns, strict=True))})

    def sql(self, query_text: str, /) -> pd.DataFrame:
        """Return what an SQL query finds in the tables `attempts`, `calls`, `server` and `runs`.

            result.sql('select "policy.retry.max_retries", avg(answered::int) from calls group by all')

        They have the columns of the frames of these names, and `run`, the number of the run; `all_attempts` and
        `all_calls` hold those of all layers. The query sees nothing else: no file, no network. It is written for
        DuckDB, which reads only what it needs.

        Raises:
            SettingsError: the query cannot be answered; the message says why.
        """
        from llmlab.experiments.event_sql import query  # noqa: PLC0415 - DuckDB, for those who ask

        return query(query_text, self._events, self._labels, self._layer)

    @cached_property
    def _labels(self) -> Labels:
        return Labels(self.parameters, self.runs)

    @cached_property
    def _events(self) -> Events:
        if self._store is not None:
            return EventsInStore(self._store.read(), [run.key for run in self.runs])
        return EventsInMemory([run.record for run in self.runs if run.record is not None])

    def _only_layer(self, table: str) -> dict[str, object]:
        return {"layer": self._layer} if any(column.name == "layer" for column in TABLES.get(table, ())) else {}

    def _frame(self, table: str, make: Callable[[pa.Table], pd.DataFrame]) -> pd.DataFrame:
        rows, places = read_rows(self._events, self._labels, table, where=self._only_layer(table))
        frame = make(rows)
        labels = pd.DataFrame(self._labels.of(places), index=frame.index, copy=False)
        return pd.concat([labels, frame], axis="columns")

    def summary(self, by: str | Sequence[str] | None = None) -> pd.DataFrame:
        """Return headline numbers for each group of calls; see `llmlab.analysis.summaries.summary`.

        Args:
            by: columns to group by; `None` means all swept settings.
        """
        by = self.parameters if by is None else by
        if self._events.keep == "summary":
            totals = self._frame("totals", partial(declared_frame, declared=TABLES["totals"]))
            sketches = self._frame("sketches", partial(declared_frame, declared=TABLES["sketches"]))
            return summary_of_totals(totals, sketches, by)
        return summary(self.calls, self.attempts if self._events.keep == "events" else None, by)

    def __repr__(self) -> str:
        state = f"interrupted after {len(self.runs)} of {self.planned}" if self.interrupted else f"{len(self.runs)}"
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return f"<SweepResult: {state} runs{failed} over {', '.join(self.parameters) or 'one point'}>"

    def _repr_html_(self) -> str:
        table = self.summary()[[*self.parameters, *HEADLINE]]
        return grid(repr(self).strip("<>"), [str(name) for name in table], table.to_numpy(dtype=object).tolist())
