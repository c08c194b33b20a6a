"""When a fault server's port is really closed: while a schedule refuses every connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.backends.fault_kinds import FaultKind
from llmlab.backends.fault_schedule import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmlab.backends.faults import Faults


def closed_times(faults: Faults) -> Iterator[tuple[float, float]]:
    """Yield from when to when, in seconds, in order and apart: the windows of a certain `connection_error`.

    A window of smaller probability, a burst or a ramp closes no port: they refuse single connections.
    """
    windows = sorted(
        (entry.start, entry.end)
        for entry in faults.schedule
        if isinstance(entry, Window) and entry.kind is FaultKind.CONNECTION_ERROR and entry.probability == 1
    )
    start = end = 0.0
    for next_start, next_end in windows:
        if next_start > end:
            if end > start:
                yield start, end
            start = next_start
        end = max(end, next_end)
    if end > start:
        yield start, end
