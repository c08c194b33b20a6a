"""What a calibration found, and what it could not tell: the rows of its two tables."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pandas as pd


class Found(NamedTuple):
    """A parameter that was told from the data.

    Attributes:
        parameter: its path in the backend: `server.slots`, `faults.timeout`.
        value: what was found.
        low, high: the ends of its 95% interval; NaN where there is none.
        unit: of all three.
        how: how it was told.
    """

    parameter: str
    value: Any
    low: float
    high: float
    unit: str
    how: str


class Unknown(NamedTuple):
    """A parameter that could not be told from the data.

    Attributes:
        parameter: its path in the backend.
        assumed: what the backend has in its place.
        why: why it could not be told.
        measure: what to measure to tell it; "" where no measurement of a client's could.
    """

    parameter: str
    assumed: str
    why: str
    measure: str


def found_frame(rows: list[Found]) -> pd.DataFrame:
    """Return the parameters found as a frame: `parameter`, `value`, `low`, `high`, `unit`, `how`."""
    return pd.DataFrame(rows, columns=list(Found._fields)).astype({"low": "float64", "high": "float64"})


def unknown_frame(rows: list[Unknown]) -> pd.DataFrame:
    """Return what could not be told as a frame: `parameter`, `assumed`, `why`, `measure`."""
    return pd.DataFrame(rows, columns=list(Unknown._fields))


def rounded(value: float) -> float:
    """Return a number with six digits: no measurement has more, and files read better."""
    return float(f"{value:.6g}")


def exactly(parameter: str, value: Any, unit: str, how: str) -> Found:
    """Return a parameter that has no interval."""
    return Found(parameter, value, math.nan, math.nan, unit, how)
