"""Runs summarised one by one: what is kept of them where a sweep is too large for its events.

Look next at `store/run_batch.py` and, for what is kept, at `analysis/totals.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from llmlab.analysis.frames import attempts_frame, calls_frame
from llmlab.analysis.totals import SKETCH_COLUMNS, TOTALS_COLUMNS, sketches_frame, totals_frame
from llmlab.arrow import RUN, numbers, schema_of

if TYPE_CHECKING:
    import pandas as pd

_BY = (RUN, "layer")


def summary_tables(calls: pa.Table, attempts: pa.Table | None) -> dict[str, pa.Table]:
    """Return the tables `totals` and `sketches` of runs, which the column `run` tells apart."""
    called = calls_frame(calls).assign(run=numbers(calls[RUN]))
    made = None if attempts is None else attempts_frame(attempts).assign(run=numbers(attempts[RUN]))
    return {
        "totals": _table(totals_frame(called, made, _BY), schema_of(TOTALS_COLUMNS, dictionaries=True)),
        "sketches": _table(sketches_frame(called, made, _BY), schema_of(SKETCH_COLUMNS, dictionaries=True)),
    }


def _table(frame: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    words = [field.name for field in schema if pa.types.is_dictionary(field.type)]
    texts = frame.astype(dict.fromkeys(words, object))
    return pa.Table.from_pandas(texts, schema=schema, preserve_index=False)
