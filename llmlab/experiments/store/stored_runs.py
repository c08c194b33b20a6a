"""Stored runs to read from: which files hold them, opened by column and filter when asked.

Look next at `sweep_result.py`, which makes frames and SQL of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.dataset as ds

from llmlab.analysis.totals import SKETCH_COLUMNS, TOTALS_COLUMNS
from llmlab.arrow import schema_of
from llmlab.backends.server_view import SERVER_COLUMNS
from llmlab.core.events import ATTEMPT_COLUMNS, CALL_COLUMNS
from llmlab.experiments.store.files import digest_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from llmlab.core.events import Column
    from llmlab.experiments.store.manifest import StoredBatch

TABLES: dict[str, tuple[Column, ...]] = {
    "attempts": ATTEMPT_COLUMNS,
    "calls": CALL_COLUMNS,
    "server": SERVER_COLUMNS,
    "totals": TOTALS_COLUMNS,
    "sketches": SKETCH_COLUMNS,
}
"""What the rows of each table have, beside the run that they come from."""


class StoredRun(NamedTuple):
    """Where a run is: its batch, and its number in the column `run` of the batch's files."""

    batch: StoredBatch
    number: int
    wall_s: float


class StoredRuns:
    """Runs of a store by their keys. Reads nothing before it is asked."""

    def __init__(self, data: Path, batches: Iterable[StoredBatch]) -> None:
        """Take the batches in order of preference: of a key that is in several, the first is read."""
        self._data = data
        self.found: dict[str, StoredRun] = {}
        for batch in batches:
            for place, (key, wall_s) in enumerate(zip(batch.keys, batch.wall_s, strict=True)):
                self.found.setdefault(key, StoredRun(batch, batch.base + place, wall_s))

    def damaged_files(self) -> list[Path]:
        """Return the files that are no longer what was written."""
        batches = {id(run.batch): run.batch for run in self.found.values()}
        files = [file for batch in batches.values() for file in batch.files.values()]
        return [path for file in files if not _is_whole(path := self._data / file.name, file.digest)]

    def dataset(self, table: str, keys: Iterable[str], *, dictionaries: bool = False) -> ds.Dataset:
        """Return the files that hold these runs' rows (and maybe others'); words as dictionaries, or as plain texts.

        A damaged page is an error when it is read.
        """
        schema = schema_of(TABLES[table], dictionaries=dictionaries)
        batches = {id(batch): batch for batch in (self.found[key].batch for key in keys)}
        files = [str(self._data / one.files[table].name) for one in batches.values() if table in one.files]
        if not files:
            return ds.dataset(schema.empty_table())
        words = [field.name for field in schema if pa.types.is_dictionary(field.type)]
        checking = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
        reading = ds.ParquetFileFormat(dictionary_columns=words, default_fragment_scan_options=checking)
        return ds.dataset(files, schema=schema, format=reading)


def _is_whole(path: Path, digest: str) -> bool:
    try:
        return digest_of(path) == digest
    except OSError:
        return False
