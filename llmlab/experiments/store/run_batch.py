"""Finished runs in columns: what a worker writes to a store, or sends to the process that asked for it.

Many runs share a batch, because a table of a hundred rows costs as much to make as one of a hundred thousand. It
pickles as Arrow does, at less than a microsecond an event. Look next at `store.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from llmlab.arrow import arrow_table
from llmlab.backends.server_view import SERVER_COLUMNS
from llmlab.core.event_log import ColumnTable
from llmlab.core.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from llmlab.experiments.runs import RunLog

Keep = Literal["events", "calls", "summary"]
"""What is kept of a run, from most to least: every event; the calls alone; or totals and sketches, for `summary()`."""

KEPT: dict[Keep, tuple[str, ...]] = {
    "events": ("attempts", "calls", "server"),
    "calls": ("calls",),
    "summary": ("totals", "sketches"),
}
"""The tables of each."""


class RunBatch(NamedTuple):
    """Finished runs: `tables` holds their rows, with a column `run` that is a run's place in `keys`.

    Points in time count from the run's start.
    """

    keys: tuple[str, ...]
    """What tells each run from all others: its `run_key`, where it is stored."""
    wall_s: tuple[float, ...]
    """How long each took, in real seconds."""
    keep: Keep
    tables: dict[str, pa.Table]

    @classmethod
    def of(cls, runs: Sequence[tuple[str, RunLog]], keep: Keep = "events") -> RunBatch:
        """Return one or more finished runs, each with its key, as columns.

        Raises:
            SettingsError: there is no such `keep`, or no run.
        """
        checked_keep(keep)
        if not runs:
            raise SettingsError("a batch needs at least one run, got none")
        keys, logs = zip(*runs, strict=True)
        if keep == "summary":
            from llmlab.experiments.run_summaries import summary_tables  # noqa: PLC0415 - pandas, else not needed

            tables = summary_tables(event_table("calls", logs), event_table("attempts", logs))
        else:
            tables = {name: event_table(name, logs) for name in KEPT[keep]}
        return cls(keys, tuple(log.wall_s for log in logs), keep, tables)

    @property
    def rows(self) -> int:
        """The number of rows of all its tables."""
        return sum(table.num_rows for table in self.tables.values())


def event_table(name: str, logs: Sequence[RunLog]) -> pa.Table:
    """Return the attempts, the calls or the server views of some runs as one table, times since each run's start."""
    if name == "server":
        return arrow_table([ColumnTable(SERVER_COLUMNS) if log.server is None else log.server.table() for log in logs])
    tables = [log.log.call_table if name == "calls" else log.log.attempt_table for log in logs]
    return arrow_table(tables, starts=[log.started_at_s for log in logs])


def checked_keep(keep: object) -> Keep:
    """Return what is to be kept.

    Raises:
        SettingsError: there is no such `keep`.
    """
    for known in get_args(Keep):
        if keep == known:
            found: Keep = known
            return found
    raise SettingsError(f"keep must be one of {list(get_args(Keep))}, got {keep!r}")
