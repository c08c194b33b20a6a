"""Which rows of a frame are of which layer, where clients are stacked.

The outermost client's calls have no parent; every other call serves an attempt of the client around it. A count over
all layers would count each call several times, so a frame is cut to one of them first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from llmlab.core.event_log import EventLog


def layers_inside(log: EventLog) -> list[str]:
    """Return the names of the layers whose calls serve another client's attempts, in order of appearance."""
    names, codes = log.call_table.words()["layer"], log.call_table.arrays()["layer"]
    return [names[code] for code in dict.fromkeys(np.asarray(codes)[_inside(log)].tolist())]


def of_layer(frame: pd.DataFrame, log: EventLog, layer: str | None = None) -> pd.DataFrame:
    """Return the rows of a log's frame, of attempts or of calls, that are of one layer.

    Args:
        frame: made of this log by `attempts_frame` or `calls_frame`.
        log: the events of one run.
        layer: the layer's name; `None` is the outermost client.
    """
    inside = _inside(log)
    if layer is None and not inside.any():
        return frame
    # An attempt does not say whether its call has a parent: its call's number does, which has 63 bits further inside.
    calls = np.array(log.call_table.arrays()["call"])
    rows = frame["call"].isin(calls[~inside if layer is None else inside])
    if layer is not None:
        rows &= frame["layer"] == layer
    return frame[rows].reset_index(drop=True)


def _inside(log: EventLog) -> NDArray[np.bool_]:
    """Return, for each call of a log, whether it serves another client's attempt."""
    return np.asarray(log.call_table.arrays()["parent_call"]) >= 0
