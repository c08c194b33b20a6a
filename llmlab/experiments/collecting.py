"""The garbage collector, kept from looking so often while a simulation runs or a chart is drawn.

A simulation makes short-lived tuples by the million beside thousands of tasks that live on, and hardly any cycles. At
Python's own threshold of 700 new objects the collector goes over those tasks again and again and finds nothing, at up
to a sixth of a run's time. A figure is thousands of objects that refer to each other: after ten charts or so a full
collection is due, which in a notebook's process takes 100 to 200 ms, as long as the chart that it falls into.
"""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_RARELY = (50_000, 20, 20)


@contextmanager
def collecting_rarely() -> Iterator[None]:
    """Within it, collect after 50,000 new objects; then as before. A collector that is off, or rarer, is left alone.

    The threshold belongs to the process. Where two threads run simulations, the first to end takes it back: the other
    is then only slower.
    """
    before = gc.get_threshold()
    if not 0 < before[0] < _RARELY[0]:
        yield
        return
    gc.set_threshold(*_RARELY)
    try:
        yield
    finally:
        gc.set_threshold(*before)
