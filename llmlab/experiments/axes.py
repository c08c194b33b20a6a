"""The values that a sweep tries of one setting: a list, an even or logarithmic range, or values with a condition.

Ranges are computed in decimal and rounded to 12 significant digits: 0 to 0.4 in five steps has 0.3 in it and not
0.30000000000000004, and the values are the same on every machine. Look next at `samples.py`, which draws from ranges,
and at `points.py`, which puts axes together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from fractions import Fraction
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from llmlab.core.plain_data import plain_data
from llmlab.core.settings import Settings, by_place
from llmlab.experiments.conditions import Condition, Conditions
from llmlab.experiments.rates import of_kind
from llmlab.experiments.readable import readable

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_VALUES = 1_000_000
"""The most values of one axis."""


class _Range(Settings):
    low: float
    high: float
    num: int | None = Field(default=None, ge=2, le=MAX_VALUES)
    """How many values, both ends included; `None` in a sample, which says itself how many points it has."""
    whole: bool = False
    """Whether values are rounded to whole numbers; what then stands twice is taken once."""
    only_if: Conditions = ()
    """Where it is swept; at other points the setting stays as it is."""

    if not TYPE_CHECKING:

        def __init__(self, *ends: Any, **settings: Any) -> None:
            super().__init__(**by_place(("low", "high", "num"), ends), **settings)

    def model_post_init(self, _context: Any) -> None:
        """Refuse a range without an extent."""
        if self.high <= self.low:
            raise ValueError(f"high must be more than low={self.low:g}, got {self.high:g}")
        if self.whole and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError(f"the ends of whole numbers must be whole, got {self.low:g} and {self.high:g}")

    def steps(self) -> tuple[float, ...] | tuple[int, ...]:
        """Return the values, from low to high.

        Raises:
            ValueError: `num` is not given.
        """
        if self.num is None:
            raise ValueError(f"needs num, the number of values between {self.low:g} and {self.high:g}")
        inner = (self._within(self._between(number, self.num - 1)) for number in range(1, self.num - 1))
        values = (self.low, *inner, self.high)
        return tuple(dict.fromkeys(map(round, values) if self.whole else values))

    def at(self, u: float) -> float | int:
        """Return the value that a uniform draw from [0, 1) means."""
        if not self.whole:
            return self._within(self._stretched(u, self.low, self.high))
        return min(math.floor(self._stretched(u, self.low, self.high + 1)), int(self.high))

    def _within(self, value: float) -> float:
        """Round a value, which must not leave the range by it."""
        return min(max(float(f"{value:.12g}"), self.low), self.high)

    def _between(self, number: int, steps: int) -> float:
        raise NotImplementedError

    def _stretched(self, u: float, low: float, high: float) -> float:
        raise NotImplementedError


class LinearRange(_Range):
    """Evenly spaced values: `LinearRange(0, 0.4, num=5)`; with `whole=True` whole numbers."""

    kind: Literal["linear"] = "linear"

    if TYPE_CHECKING:

        def __init__(
            self, low: float, high: float, num: int | None = None, *, whole: bool = False, only_if: Any = ()
        ) -> None: ...

    def _between(self, number: int, steps: int) -> float:
        low, high = Fraction(repr(self.low)), Fraction(repr(self.high))
        return float(low + (high - low) * number / steps)

    def _stretched(self, u: float, low: float, high: float) -> float:
        return low * (1 - u) + high * u  # the difference of the ends may be infinite


class LogRange(_Range):
    """Values of even ratios: `LogRange(0.1, 100, num=4)` is 0.1, 1, 10, 100; with `whole=True` whole numbers."""

    kind: Literal["log"] = "log"
    low: float = Field(gt=0)

    if TYPE_CHECKING:

        def __init__(
            self, low: float, high: float, num: int | None = None, *, whole: bool = False, only_if: Any = ()
        ) -> None: ...

    def _between(self, number: int, steps: int) -> float:
        return self._stretched(number / steps, self.low, self.high)

    def _stretched(self, u: float, low: float, high: float) -> float:
        return math.exp(math.log(low) * (1 - u) + math.log(high) * u)  # the ratio of the ends may be infinite


def _as_plain(values: object) -> object:
    """Take arrays and series, and turn NumPy's numbers into Python's, which settings and files understand."""
    if isinstance(values, AbstractSet):
        raise PydanticCustomError("axis", "Input should be a list of values, since a set has no order")
    if isinstance(values, np.ndarray | pd.Series | pd.Index) and values.ndim:
        return tuple(values.tolist())
    if isinstance(values, Iterable) and not isinstance(values, str | bytes | Mapping | np.ndarray):
        several = islice(values, MAX_VALUES + 1)  # what has no end is refused by its length
        return tuple(value.item() if isinstance(value, np.generic) else value for value in several)
    raise PydanticCustomError("axis", "Input should be a list of values, or one of LinearRange, LogRange and Values")


List = Annotated[tuple[Any, ...], BeforeValidator(_as_plain)]
"""Values in a list, an array, a series or whatever else can be gone through."""


class Values(Settings):
    """A list of values with a condition.

    Values([0.5, 2.0], only_if=Condition("policy.retry.max_retries", ">", 0))
    """

    kind: Literal["values"] = "values"
    values: List
    only_if: Conditions = ()
    """Where they are swept; at other points the setting stays as it is."""

    if not TYPE_CHECKING:

        def __init__(self, *values: Any, **settings: Any) -> None:
            super().__init__(**by_place(("values",), values), **settings)

    else:

        def __init__(self, values: Iterable[Any], *, only_if: Any = ()) -> None: ...


_KINDS: dict[str, type[Settings]] = {"linear": LinearRange, "log": LogRange, "values": Values}


def _as_axis(given: object) -> object:
    if isinstance(given, Mapping):
        return of_kind(given, _KINDS, "axis")
    return given if isinstance(given, LinearRange | LogRange | Values) else _as_plain(given)


def _with_values(axis: Axis) -> Axis:
    count = len(values_of(axis))
    if not count:
        raise ValueError("has no values; give at least one")
    if count > MAX_VALUES:
        raise ValueError(f"has {count:,} values; at most {MAX_VALUES:,} are taken")
    return axis


def values_of(axis: Axis) -> tuple[Any, ...]:
    """Return the values of an axis, in order.

    Raises:
        ValueError: a range does not say how many it has.
    """
    if isinstance(axis, tuple):
        return axis
    return axis.values if isinstance(axis, Values) else axis.steps()


def conditions_of(axis: Axis) -> tuple[Condition, ...]:
    """Return where an axis has its values; nothing where that is everywhere."""
    return () if isinstance(axis, tuple) else axis.only_if


def _as_range(given: object) -> object:
    axis = _as_axis(given)
    if isinstance(axis, Values) or (isinstance(axis, _Range) and (axis.num is not None or axis.only_if)):
        raise ValueError("in a sample a range takes no num and no only_if, and a list stands for itself")
    return axis


def by_path(given: object) -> object:
    """Return what is given for settings by their paths; tables in tables become paths with dots.

    In TOML a path without quotation marks, as `policy.retry.max_retries = [0, 1]`, is a table of tables.
    """
    if not isinstance(given, Mapping):
        return given
    flat: dict[str, Any] = {}
    for name, entry in given.items():
        inner = by_path(entry) if isinstance(entry, Mapping) and not isinstance(entry.get("kind"), str) else None
        below = {f"{name}.{rest}": value for rest, value in inner.items()} if isinstance(inner, Mapping) else {}
        for path, value in (below or {str(name): entry}).items():
            if path in flat:
                raise ValueError(f"'{path}' is given twice, as a path and as a table in a table; leave one of them out")
            flat[path] = value
    return flat


def mapped(axis: Axis, change: Callable[[Any], Any]) -> Axis:
    """Return an axis with its listed values changed; those of a range are numbers and stay."""
    if isinstance(axis, tuple):
        return tuple(map(change, axis))
    if isinstance(axis, Values):
        changed: Values = axis.replace(values=tuple(map(change, axis.values)))
        return changed
    return axis


def axes_without_prompts(axes: Mapping[str, Axis]) -> dict[str, Axis]:
    """Return axes as they may be shown; see `readable`."""
    return {path: mapped(axis, partial(readable, path)) for path, axis in axes.items()}


def by_path_data(axes: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return axes or ranges as plain data.

    Raises:
        SettingsError: a value has no such form.
    """
    return {name: plain_data(axis, f"{path}.{name}", complete=False) for name, axis in axes.items()}


Axis = tuple[Any, ...] | LinearRange | LogRange | Values
"""What a setting is swept over."""
Axes = Annotated[
    dict[str, Annotated[Any, BeforeValidator(_as_axis), AfterValidator(_with_values)]], BeforeValidator(by_path)
]
"""Axes by the path of their setting."""
Ranges = Annotated[dict[str, Annotated[Any, BeforeValidator(_as_range)]], BeforeValidator(by_path)]
"""Ranges and lists to draw from, by the path of their setting."""
