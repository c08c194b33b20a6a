"""Python's garbage collector, kept out of a chart that somebody waits for.

A figure is thousands of objects that refer to each other. After every ten charts or so a full collection is due, which
in a notebook's process takes 100 to 200 ms: as long as the chart. It is put off until the picture is on its way.
"""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_holding: list[bool] = []  # for each that holds it off now, whether it was on; dashboards share one loop, so no lock


@contextmanager
def collection_put_off() -> Iterator[None]:
    """Let no cyclic garbage be collected meanwhile, unless that is so already; what is due follows afterwards."""
    _holding.append(gc.isenabled())
    gc.disable()
    try:
        yield
    finally:
        before = _holding.pop()
        if not _holding and before:
            gc.enable()
