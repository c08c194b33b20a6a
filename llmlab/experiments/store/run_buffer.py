"""Finished runs on their way to a store, many to a file: what one process that makes runs keeps for a moment.

Look next at `store.py`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from llmlab.experiments.store.run_batch import RunBatch

if TYPE_CHECKING:
    from llmlab.experiments.runs import RunLog
    from llmlab.experiments.store.run_batch import Keep
    from llmlab.experiments.store.store import Store

_ROWS_PER_FLUSH = 2**17
_SECONDS_PER_FLUSH = 1.0
_SHARE = 20.0
"""Time between two flushes, in times of what a flush takes: writing then costs less than a twentieth of the sweep."""


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
