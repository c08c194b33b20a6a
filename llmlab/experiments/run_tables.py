"""The events of a result's runs as Arrow tables, read by column and filter, whether they are in memory or in a store.

Look next at `sweep_result.py`, which makes data frames of them, and at `event_sql.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from llmlab.analysis.frames import parameter_column
from llmlab.arrow import RUN, schema_of
from llmlab.core.settings import SettingsError, nearest
from llmlab.experiments.run_summaries import summary_tables
from llmlab.experiments.store.run_batch import KEPT, event_table
from llmlab.experiments.store.stored_runs import TABLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from llmlab.experiments.runs import Run, RunLog
    from llmlab.experiments.store.run_batch import Keep
    from llmlab.experiments.store.stored_runs import StoredRuns


class Events(Protocol):
    """Where the events of some runs, given in order, are."""

    keep: Keep
    numbers: NDArray[np.int64]
    """Of each run, what stands in the column `run` of its rows."""

    def dataset(self, table: str, places: Iterable[int], *, dictionaries: bool) -> ds.Dataset:
        """Return what holds the rows of the runs at these places, and maybe others'."""
        ...

    def rows(self, table: str, places: Iterable[int], columns: list[str], kept: pc.Expression) -> pa.Table:
        """Return these columns of the rows of the runs at these places for which the expression is true."""
        ...

    def unreadable(self, error: Exception) -> Exception:
        """Return what to raise where they could not be read."""
        ...


class EventsInMemory:
    """The events of runs that were just made."""

    keep: Keep = "events"

    def __init__(self, logs: Sequence[RunLog]) -> None:
        self._logs = logs
        self.numbers = np.arange(len(logs), dtype=np.int64)

    def _table(self, name: str) -> pa.Table:
        # Made when asked and not kept: the numbers are the logs' own, and a frame made of them is kept already.
        return event_table(name, self._logs) if self._logs else schema_of(TABLES[name]).empty_table()

    def dataset(self, table: str, places: Iterable[int], *, dictionaries: bool) -> ds.Dataset:
        """Return the rows of all runs."""
        del places, dictionaries
        return ds.dataset(self._table(table))

    def rows(self, table: str, places: Iterable[int], columns: list[str], kept: pc.Expression) -> pa.Table:
        """Return the rows, without copying them where all are kept, as most often."""
        del places
        whole = self._table(table)
        # Arrow's own threads let go of what they scanned after the answer is there. A buffer of numpy's needs Python
        # for that, and would abort a program that is ending: https://github.com/apache/arrow/issues/36389
        mask = ds.dataset(whole).to_table(columns={"kept": kept}, use_threads=False)["kept"]
        return whole.select(columns) if pc.all(mask, min_count=0).as_py() else whole.select(columns).filter(mask)

    def unreadable(self, error: Exception) -> Exception:
        """Return the error: memory is always readable."""
        return error


class EventsInStore:
    """The events of runs that are in a store, by their keys."""

    def __init__(self, stored: StoredRuns, keys: Sequence[str]) -> None:
        self._stored, self._keys = stored, keys
        order = list(KEPT)
        runs = [stored.found[key] for key in keys]
        self.keep = max((run.batch.keep for run in runs), key=order.index, default=order[0])
        self.numbers = np.array([run.number for run in runs], dtype=np.int64)

    def dataset(self, table: str, places: Iterable[int], *, dictionaries: bool) -> ds.Dataset:
        """Return the files of these runs; summaries of those that kept more are made."""
        if table in KEPT["summary"]:
            return ds.dataset(self._summaries[table])
        return self._stored.dataset(table, [self._keys[place] for place in places], dictionaries=dictionaries)

    def rows(self, table: str, places: Iterable[int], columns: list[str], kept: pc.Expression) -> pa.Table:
        """Read the rows; only what is asked for is read."""
        in_memory = table in KEPT["summary"]  # see `EventsInMemory.rows`
        dataset = self.dataset(table, places, dictionaries=True)
        return dataset.to_table(columns=columns, filter=kept, use_threads=not in_memory)

    @cached_property
    def _summaries(self) -> dict[str, pa.Table]:
        parts = [self._summaries_of(keep) for keep in KEPT]
        return {
            name: pa.concat_tables([part[name] for part in parts if name in part], promote_options="permissive")
            for name in KEPT["summary"]
        }

    def _summaries_of(self, keep: Keep) -> dict[str, pa.Table]:
        keys = [key for key in self._keys if self._stored.found[key].batch.keep == keep]
        ours = pc.field(RUN).isin([self._stored.found[key].number for key in keys])
        rows = {
            name: self._stored.dataset(name, keys, dictionaries=True).to_table(filter=ours)
            for name in KEPT[keep]
            if keys and name != "server"
        }
        return summary_tables(rows["calls"], rows.get("attempts")) if "calls" in rows else rows

    def unreadable(self, error: Exception) -> OSError:
        """Return an error that names the damaged files and says what to do."""
        named = ", ".join(map(str, self._stored.damaged_files())) or str(error)
        return OSError(
            f"stored events are damaged or gone: {named}. Run the sweep again with this store: what is damaged is set "
            "aside, and its runs are made again"
        )


class Labels:
    """What says of each row which run it comes from: the swept settings, the replicate and the seed, as columns.

    Numbers and booleans stay what they are, `None` is NaN, and where there is anything else all are texts.
    """

    def __init__(self, parameters: Sequence[str], runs: Sequence[Run]) -> None:
        self.columns: dict[str, Any] = {
            **{name: parameter_column([run.settings[name] for run in runs]) for name in parameters},
            "replicate": np.array([run.replicate for run in runs], dtype=np.int32),
            "seed": parameter_column([run.seed for run in runs]),
        }
        self._count = len(runs)

    def of(self, places: NDArray[np.intp]) -> dict[str, Any]:
        """Return the columns for rows that come from the runs at these places."""
        return {name: values.take(places) for name, values in self.columns.items()}

    def chosen(self, where: Mapping[str, object]) -> NDArray[np.intp]:
        """Return the places of the runs whose columns have these values, in order."""
        kept = np.ones(self._count, dtype=bool)
        for name, wanted in where.items():
            kept &= [_is_among(value, _listed(wanted)) for value in self.columns[name]]
        return np.flatnonzero(kept)


def read_rows(
    events: Events,
    labels: Labels,
    table: str,
    columns: Sequence[str] | None = None,
    where: Mapping[str, object] | None = None,
) -> tuple[pa.Table, NDArray[np.intp]]:
    """Return rows in the order of their runs, and the place of each row's run.

    Args:
        events: where they are.
        labels: of the runs.
        table: "attempts", "calls" or "server"; "totals" or "sketches" where only summaries were kept.
        columns: the declared columns to read; all by default.
        where: columns, or swept settings, and the value or the list of values that rows have in them.

    Raises:
        SettingsError: there is no such table or column, or it holds values of another type than those of `where`.
    """
    declared = schema_of(kept_table(events, table)).remove(0)  # without the run's own number
    wanted = declared.names if columns is None else list(columns)
    where = where or {}
    for name in [*wanted, *where]:
        if name not in declared.names and (name in wanted or name not in labels.columns):
            raise SettingsError(f"{table} have no column '{name}'; {nearest(name, [*declared.names, *labels.columns])}")
    places = labels.chosen({name: value for name, value in where.items() if name not in declared.names})
    numbers = events.numbers[places]
    kept = pc.field(RUN).isin(numbers.tolist())  # Arrow's own memory: see `EventsInMemory.rows`
    for field in declared:
        if field.name in where:
            kept &= _among(field, _listed(where[field.name]))
    try:
        rows = events.rows(table, places, [RUN, *wanted], kept)
    except (OSError, pa.ArrowException) as error:
        raise events.unreadable(error) from error
    if len(places) == 1:  # one large run, whose rows are in order: no place need be looked up or held for each
        return rows.drop_columns([RUN]), np.broadcast_to(places, len(rows))
    by_number = np.argsort(numbers)
    of_rows = places[by_number[np.searchsorted(numbers[by_number], rows[RUN].to_numpy())]]
    if np.any(of_rows[1:] < of_rows[:-1]):
        order = np.argsort(of_rows, kind="stable")
        rows, of_rows = rows.take(order), of_rows[order]
    return rows.drop_columns([RUN]), of_rows


def kept_table(events: Events, table: str) -> tuple[Any, ...]:
    """Return the declared columns of a table.

    Raises:
        SettingsError: there is no such table, or these runs did not keep it.
    """
    if table not in TABLES:
        raise SettingsError(f"there is no table '{table}'; {nearest(table, TABLES)}")
    if table not in KEPT[events.keep]:
        least = next(keep for keep in reversed(KEPT) if table in KEPT[keep])
        raise SettingsError(
            f"some of these runs were stored with keep='{events.keep}', which leaves the {table} out; there are "
            f"{' and '.join(KEPT[events.keep])}. Run the sweep again with keep='{least}' to have them"
        )
    return TABLES[table]


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str | Mapping) else [value]


def _is_among(value: Any, wanted: list[object]) -> bool:
    return any(value == one or (one is None and value != value) for one in wanted)  # noqa: PLR0124 - NaN


def _among(field: pa.Field, wanted: list[object]) -> pc.Expression:
    column = pc.field(field.name)
    try:
        kept = column.isin(pa.array([value for value in wanted if value is not None]).cast(field.type))
    except pa.ArrowException as error:
        raise SettingsError(f"where: column '{field.name}' holds values of type {field.type}: {error}") from None
    return kept | column.is_null(nan_is_null=True) if None in wanted else kept
