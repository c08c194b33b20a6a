"""What a frame must have, refused early: in words that say what there is, and which name is near."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterable


def need_columns(frame: object, names: Iterable[str]) -> None:
    """Refuse what is no frame, or lacks one of these columns.

    Raises:
        TypeError: it is no data frame; the message names those that it has.
        KeyError: a column is missing; the message lists those there are.
    """
    if not isinstance(frame, pd.DataFrame):
        has = [f".{name}" for name in ("calls", "attempts", "points") if hasattr(type(frame), name)]
        hint = f": take its {' or '.join(has)}" if has else ""
        raise TypeError(f"needs a data frame, got a {type(frame).__name__}{hint}")
    missing = [name for name in names if name not in frame.columns]
    if missing:
        ends = [str(column) for column in frame.columns if str(column).endswith(f".{missing[0]}")]
        near = f"did you mean '{ends[0]}'? " if ends else ""
        raise KeyError(f"no column {missing}; {near}the frame has {list(frame.columns)}")
