"""One process's way into a store: batches become Parquet files, then a line in a manifest that is its own.

A column's encoding is chosen by its type: dictionaries for words, the bytes of floats one place at a time, which
compresses noise best and is the fastest to write. Look next at `store.py`.
"""

from __future__ import annotations

import os
import secrets
import time
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmlab.analysis.arrow import RUN
from llmlab.experiments.store.files import append_line, write_whole
from llmlab.experiments.store.manifest import SUFFIX, StoredBatch, StoredFile
from llmlab.experiments.store.run_batch import RunBatch

if TYPE_CHECKING:
    from pathlib import Path

    from llmlab.experiments.store.run_batch import Keep
    from llmlab.experiments.store.store import Store
    from llmlab.experiments.sweep_result import RunLog

RUN_BITS = 16
"""A batch's runs are numbered from a random multiple of this power of two, so numbers differ over all batches."""
_ROWS_PER_GROUP = 2**17
_ROWS_PER_FLUSH = 2**17
_SECONDS_PER_FLUSH = 1.0
_SHARE = 20.0
"""Time between two flushes, in times of what a flush takes: writing then costs less than a twentieth of the sweep."""


class Writer:
    """Writes batches for one process."""

    def __init__(self, store: Path) -> None:
        self.process = os.getpid()
        self._data = store / "data"
        self._name = secrets.token_hex(8)
        self._manifest = store / "manifests" / f"{self._name}{SUFFIX}"
        self._written = 0

    def write(self, batch: RunBatch) -> None:
        """Write a batch.

        Raises:
            OSError: it cannot be written; it then counts as not written.
        """
        base = secrets.randbits(63 - RUN_BITS) << RUN_BITS
        files = {}
        for table, rows in batch.tables.items():
            if not rows.num_rows:
                continue
            name = f"{table}-{self._name}-{self._written}.parquet"
            content = parquet(rows.set_column(0, RUN, pa.array(rows[RUN].to_numpy().astype(np.int64) + base)))
            files[table] = StoredFile(name, len(content), write_whole(self._data / name, content))
        self._written += 1
        append_line(self._manifest, StoredBatch(base, batch.keep, batch.keys, batch.wall_s, files).line())


def parquet(table: pa.Table) -> memoryview:
    """Return a table as the content of a Parquet file."""
    words = [field.name for field in table.schema if pa.types.is_dictionary(field.type)]
    floats = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        row_group_size=_ROWS_PER_GROUP,
        compression="zstd",
        compression_level=1,
        use_dictionary=[RUN, *words],
        column_encoding=dict.fromkeys(floats, "BYTE_STREAM_SPLIT"),
        write_page_checksum=True,
    )
    return memoryview(sink.getvalue())


class RunBuffer:
    """Collects finished runs and writes them to a store many at a time: by rows, or when enough time has passed.

    What is not yet written is lost when the process is killed: about a second's work, or less than 131,072 rows.
    """

    def __init__(self, store: Store, keep: Keep = "events") -> None:
        self._store, self._keep = store, keep
        self._runs: list[tuple[str, RunLog]] = []
        self._rows = 0
        self._due = time.monotonic() + _SECONDS_PER_FLUSH

    def add(self, key: str, log: RunLog) -> tuple[str, ...]:
        """Take a finished run; return the keys of the runs that this call wrote, which are often none.

        Raises:
            OSError: they cannot be written.
        """
        self._runs.append((key, log))
        self._rows += len(log.log.attempt_table) + len(log.log.call_table)
        if self._rows < _ROWS_PER_FLUSH and time.monotonic() < self._due:
            return ()
        return self.flush()

    def flush(self) -> tuple[str, ...]:
        """Write what was collected, and return its keys.

        Raises:
            OSError: it cannot be written. It stays collected.
        """
        if not self._runs:
            return ()
        began = time.monotonic()
        batch = RunBatch.of(self._runs, self._keep)
        self._store.write(batch)
        ended = time.monotonic()
        self._due = ended + max(_SECONDS_PER_FLUSH, _SHARE * (ended - began))
        self._runs, self._rows = [], 0
        return batch.keys
