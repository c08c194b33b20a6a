"""SQL over the events of a result, by DuckDB, which reads only the columns and rows that a query needs.

The query runs in this process and sees these tables, nothing else: DuckDB may open no file, reach no network, load no
extension and look at no variable. Names and values of the sweep come to it as data, never as part of a query's text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmlab.arrow import RUN
from llmlab.core.settings import SettingsError
from llmlab.experiments.store.run_batch import KEPT

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    import pyarrow.dataset as ds

    from llmlab.experiments.run_tables import Events, Labels

_SHUT_IN: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "enable_external_access": False,
    "python_enable_replacements": False,
}
_RUNS = "create view runs as select * exclude (stored_run) from stored_runs"
_VIEW = """create view {name} as
    select r.* exclude (stored_run), e.* exclude (run)
    from (select *{derived} from stored_{name}) e join stored_runs r on e.run = r.stored_run"""
_DERIVED = {  # inside the view's subquery, so that what they are derived from need not go through the join
    "attempts": ", ended_at_s - started_at_s as latency_s, reason is null as answered",
    "calls": ", ended_at_s - arrived_at_s as latency_s, fate = 'answered' as answered",
}


def query(sql: str, events: Events, labels: Labels, layer: str) -> pd.DataFrame:
    """Return what a query finds; see `SweepResult.sql`."""
    runs = {"stored_run": events.numbers, RUN: np.arange(len(events.numbers)), **labels.columns}
    with duckdb.connect(":memory:", config=_SHUT_IN) as connection:
        connection.register("stored_runs", pa.table({name: pa.array(values) for name, values in runs.items()}))
        connection.execute(_RUNS)
        for name, dataset, derived in _tables(events, layer):
            connection.register(f"stored_{name}", dataset)
            connection.execute(_VIEW.format(name=name, derived=derived))
        connection.execute("set lock_configuration = true")
        try:
            found: pd.DataFrame = connection.execute(sql).df()
        except duckdb.Error as error:
            tables = ", ".join(name for name, *_ in _tables(events, layer))
            raise SettingsError(
                f"the query cannot be answered: {error}\nIt may use the tables {tables} and runs; a swept setting is a "
                'column of each, in double quotes: "policy.retry.max_retries"'
            ) from None
    return found


def _tables(events: Events, layer: str) -> Iterator[tuple[str, ds.Dataset, str]]:
    """Yield each view's name, its rows, and what is derived of them."""
    for table in KEPT[events.keep]:
        rows = events.dataset(table, range(len(events.numbers)), dictionaries=False)
        if "layer" in rows.schema.names:
            yield f"all_{table}", rows, _DERIVED.get(table, "")
            rows = rows.filter(pc.field("layer") == layer)
        yield table, rows, _DERIVED.get(table, "")
