"""Readable names: of a swept parameter's path, of its values, of numbers with a unit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter

from llmlab.analysis.wording import counted

_UNITS = {"_per_s": "1/s", "_s": "s", "_tokens": "tokens"}
_TIMEOUTS = {"attempt_timeout", "total_timeout", "max_queue_wait", "connect", "pool", "first_byte", "between_chunks"}
_SETTINGS_IN_SECONDS = _TIMEOUTS | {"think_time", "retry_after", "latency", "refusal_latency", "base", "maximum"}


def parameter_name(path: str) -> str:
    """Return the last part of a parameter's path: `max_retries` for `policy.retry.max_retries`."""
    return path.rsplit(".", 1)[-1]


def axis_label(path: str) -> str:
    """Return a parameter's name with its unit, which its suffix tells: `attempt_timeout (s)` for `..._s`."""
    name = parameter_name(path)
    for suffix, unit in _UNITS.items():
        if name.endswith(suffix) and name != suffix.lstrip("_"):
            return name if suffix == "_tokens" else f"{name.removesuffix(suffix)} ({unit})"
    if name == "rate":  # of an open workload
        return f"{name} (calls/s)"
    if name in _SETTINGS_IN_SECONDS:
        return f"{name} (s)"
    return name


def value_label(value: Any) -> str:
    """Return a parameter's value as a short text: `3` for 3.0, `none` for a setting that there was not."""
    if value is None or value is pd.NA or (isinstance(value, float | np.floating) and math.isnan(value)):
        return "none"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)


def drawn(value: Any) -> str:
    """Return `value_label` as matplotlib is to draw it: a "$" in a name begins no formula, which might be wrong."""
    return value_label(value).replace("$", r"\$")


def percent(share: float) -> str:
    """Return a share as a percentage with as many digits as it deserves: `0.4%`, `12%`."""
    value = 100 * share
    return f"{value:.1f}%" if 0 < value < 9.95 else f"{value:.0f}%"


def percent_ticks() -> FuncFormatter:
    """Return a formatter of shares as percentages, without digits that say nothing: `2%`, `0.5%`."""
    return FuncFormatter(lambda share, _: f"{round(100 * share, 6):g}%")


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it: `12 ms`, `0.27 s`, `1.3 s`, `90 s`."""
    if 0 < seconds < 0.0995:
        return f"{1000 * seconds:.0f} ms" if seconds > 0.00095 else f"{1000 * seconds:.2g} ms"
    if seconds < 0.995:
        return f"{seconds:.2g} s"
    return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:,.0f} s"


def plain_number(number: float) -> str:
    """Return a number with about three digits, as many behind the point as its like in other cells: `1.50`, `12.3`."""
    return f"{number:.2f}" if abs(number) < 9.995 else f"{number:.1f}" if abs(number) < 99.95 else f"{number:,.0f}"


def calls_per_point(counts: Any) -> str:
    """Say how many calls each point of a chart stands for: `200 calls a point`, `50 to 200 calls a point`."""
    fewest, most = int(np.min(counts)), int(np.max(counts))
    return f"{counted(most, 'call')} a point" if fewest == most else f"{fewest:,} to {most:,} calls a point"
