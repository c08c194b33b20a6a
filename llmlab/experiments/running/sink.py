"""Where finished runs are written, by the process that made them: a store, shared by all that take part in a sweep.

So only a few words travel back from a worker, and what it has finished is safe whatever becomes of the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from llmlab.experiments.store.run_buffer import RunBuffer

if TYPE_CHECKING:
    from llmlab.experiments.runs import RunLog
    from llmlab.experiments.store.run_batch import Keep
    from llmlab.experiments.store.store import Store


class NotStored(OSError):
    """Finished runs cannot be written to the store; the message says why. There is no use in going on."""


class Sink(NamedTuple):
    """A store, and what is kept there of each run. It is sent to workers as the store's path."""

    store: Store
    keep: Keep

    def buffer(self) -> SinkBuffer:
        """Return a place for runs on their way there."""
        return SinkBuffer(RunBuffer(self.store, self.keep))


class SinkBuffer:
    """Runs on their way to a store, for one thread."""

    def __init__(self, buffer: RunBuffer) -> None:
        self._buffer = buffer

    def add(self, key: str, record: RunLog) -> None:
        """Take what a run recorded.

        Raises:
            NotStored: it cannot be written.
        """
        try:
            self._buffer.add(key, record)
        except OSError as error:
            raise NotStored(str(error)) from None

    def flush(self) -> None:
        """Write what was taken.

        Raises:
            NotStored: it cannot be written.
        """
        try:
            self._buffer.flush()
        except OSError as error:
            raise NotStored(str(error)) from None
