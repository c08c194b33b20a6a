"""What a simulated server records of itself: its queue, its busy slots, its work and its waste, over time.

A row is a state that holds from its time until the next row's. Changes of one instant are one row.
`analysis.frames.server_frame` makes a data frame of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.core.event_log import ColumnTable
from llmlab.core.events import Column

if TYPE_CHECKING:
    from array import array
    from typing import Any

SERVER_COLUMNS: tuple[Column, ...] = (
    Column("time_s", "float", "s", "since the server's first use, which in an experiment is the run's start"),
    Column("queue", "int", "", "requests waiting for a slot or for their model"),
    Column("busy", "int", "", "requests being served"),
    Column("done_s", "float", "s", "work done on requests that were answered, until now"),
    Column("wasted_s", "float", "s", "work done on requests whose client has gone or whose answer broke, until now"),
    Column("refused", "int", "", "requests refused by the queue's bound or the server's rate limits, until now"),
)
"""The columns of the server's view. Work is in seconds of a slot that serves one request alone, and is counted when
the request leaves its slot."""

Row = tuple[float, int, int, float, float, int]


class ServerView:
    """The server's own view, by column."""

    def __init__(self, every: float = 0.0) -> None:
        """Keep at most one row per `every` seconds."""
        self._table = ColumnTable(SERVER_COLUMNS)
        self._every = every
        self._due = 0.0
        self._last: Row | None = (0.0, 0, 0, 0.0, 0.0, 0)

    def note(self, row: Row) -> None:
        """Note the state after a change."""
        last = self._last
        if last is not None and last[0] != row[0] and last[0] >= self._due:
            self._table.append(last)
            self._table.flush_if_due()
            self._due = last[0] + self._every
        self._last = row

    def table(self) -> ColumnTable:
        """Return the rows so far, the present state as the last of them."""
        if self._last is not None:
            self._table.append(self._last)
            self._last = None
        return self._table

    def columns(self) -> dict[str, array[Any]]:
        """Return each column by name; the arrays are the view's own and grow with it."""
        return self.table().arrays()

    def __repr__(self) -> str:
        return f"<ServerView: {len(self._table)} rows>"
