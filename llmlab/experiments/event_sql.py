"""SQL over the events of a result, by DuckDB, which reads only the columns and rows that a query needs.

The query runs in this process and sees these tables, nothing else: DuckDB may open no file, reach no network, load no
extension and look at no variable. Names and values of the sweep come to it as data, never as part of a query's text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa

from llmlab.analysis.arrow import RUN
from llmlab.core.settings import SettingsError
from llmlab.experiments.store.run_batch import KEPT

if TYPE_CHECKING:
    import pandas as pd

    from llmlab.experiments.run_tables import Events, Labels

_SHUT_IN = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "enable_external_access": "false",
    "python_enable_replacements": "false",
}
_RUNS = "create view runs as select * exclude (stored_run) from stored_runs"
_EVENTS = {
    "attempts": """create view attempts as
        select r.* exclude (stored_run), e.* exclude (run),
            e.ended_at_s - e.started_at_s as latency_s, e.reason is null as answered
        from stored_attempts e join stored_runs r on e.run = r.stored_run""",
    "calls": """create view calls as
        select r.* exclude (stored_run), e.* exclude (run),
            e.ended_at_s - e.arrived_at_s as latency_s, e.fate = 'answered' as answered
        from stored_calls e join stored_runs r on e.run = r.stored_run""",
    "server": """create view server as
        select r.* exclude (stored_run), e.* exclude (run)
        from stored_server e join stored_runs r on e.run = r.stored_run""",
}


def query(sql: str, events: Events, labels: Labels) -> pd.DataFrame:
    """Return what a query finds; see `SweepResult.sql`."""
    runs = {"stored_run": events.numbers, RUN: np.arange(len(events.numbers)), **labels.columns}
    kept = KEPT[events.keep]
    with duckdb.connect(":memory:", config=_SHUT_IN) as connection:
        connection.register("stored_runs", pa.table({name: pa.array(values) for name, values in runs.items()}))
        connection.execute(_RUNS)
        for table in kept:
            rows = events.dataset(table, range(len(events.numbers)), dictionaries=False)
            connection.register(f"stored_{table}", rows)
            connection.execute(_EVENTS[table])
        connection.execute("set lock_configuration = true")
        try:
            found: pd.DataFrame = connection.execute(sql).df()
        except duckdb.Error as error:
            raise SettingsError(
                f"the query cannot be answered: {error}\nIt may use the tables {', '.join(kept)} and runs; a swept "
                'setting is a column of each, in double quotes: "policy.retry.max_retries"'
            ) from None
    return found
