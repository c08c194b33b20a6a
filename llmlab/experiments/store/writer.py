"""One process's way into a store: batches become Parquet files, then a line in a manifest that is its own.

A column's encoding is chosen by its type: dictionaries for words, the bytes of floats one place at a time, which
compresses noise best and is the fastest to write. Look next at `store.py`.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmlab.arrow import RUN, arrow_array
from llmlab.experiments.store.files import append_line, write_whole
from llmlab.experiments.store.manifest import SUFFIX, StoredBatch, StoredFile

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from llmlab.experiments.store.run_batch import RunBatch

RUN_BITS = 16
"""A batch's runs are numbered from a random multiple of this power of two, so numbers differ over all batches."""
_ROWS_PER_GROUP = 2**17


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
            content = parquet(rows.set_column(0, RUN, _numbered(rows[RUN], base)))
            files[table] = StoredFile(name, len(content), write_whole(self._data / name, content))
        self._written += 1
        append_line(self._manifest, StoredBatch(base, batch.keep, batch.keys, batch.wall_s, files).line())


def _numbered(places: pa.ChunkedArray, base: int) -> pa.Array:
    return arrow_array(np.concatenate([_numbers(chunk) for chunk in places.chunks]).astype(np.int64) + base)


def _numbers(places: pa.Array) -> NDArray[Any]:
    dtype = np.int32 if pa.types.is_int32(places.type) else np.int64
    return np.frombuffer(places.buffers()[1], dtype)[places.offset : places.offset + len(places)]


def parquet(table: pa.Table) -> memoryview:
    """Return a table as the content of a Parquet file."""
    words = [field.name for field in table.schema if pa.types.is_dictionary(field.type)]
    floats = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        row_group_size=_ROWS_PER_GROUP,
        compression="lz4",  # a sixth larger than zstd's fastest, in two thirds of the time
        use_dictionary=[RUN, *words],
        column_encoding=dict.fromkeys(floats, "BYTE_STREAM_SPLIT"),
        write_statistics=[RUN],  # what is skipped by; those of all columns are a quarter of the cost
        write_page_checksum=True,
    )
    return memoryview(sink.getvalue())
