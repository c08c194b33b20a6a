"""Distributions as inverse CDFs: one uniform number in, one value out, so that keyed draws stay keyed.

Values are seconds where a latency is meant. A plain number stands for `Constant` wherever a distribution is taken.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import NormalDist
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from llmlab.core.settings import Settings

_standard_normal = NormalDist().inv_cdf


class Constant(Settings):
    """Always `value`."""

    kind: Literal["constant"] = "constant"
    value: float = Field(ge=0)

    def at(self, u: float) -> float:
        """Return the value below which a share `u` of all draws lies; `u` inside (0, 1)."""
        del u
        return self.value


class Uniform(Settings):
    """Evenly between `low` and `high`."""

    kind: Literal["uniform"] = "uniform"
    low: float = Field(ge=0)
    high: float = Field(ge=0)

    def model_post_init(self, _context: Any) -> None:
        """Refuse an empty range."""
        if self.high < self.low:
            raise ValueError(f"high must be low={self.low} or more, got {self.high}")

    def at(self, u: float) -> float:
        """Return the value below which a share `u` of all draws lies; `u` inside (0, 1)."""
        return self.low + u * (self.high - self.low)


class Exponential(Settings):
    """Memoryless, with this `mean`: the service time of the M/M/c queue."""

    kind: Literal["exponential"] = "exponential"
    mean: float = Field(gt=0)

    def at(self, u: float) -> float:
        """Return the value below which a share `u` of all draws lies; `u` inside (0, 1)."""
        return -self.mean * math.log1p(-u)


class Lognormal(Settings):
    """What latencies of real services look like: half of them above `median`, and a tail that `sigma` makes long.

    `sigma` is the standard deviation of the logarithm; the p99 is `median * exp(2.326 * sigma)`.
    """

    kind: Literal["lognormal"] = "lognormal"
    median: float = Field(gt=0)
    sigma: float = Field(ge=0)

    def at(self, u: float) -> float:
        """Return the value below which a share `u` of all draws lies; `u` inside (0, 1)."""
        return self.median * math.exp(self.sigma * _standard_normal(u))


def _as_tuple(values: object) -> object:
    """Take an array or a series as well."""
    return tuple(values) if isinstance(values, Iterable) and not isinstance(values, str | bytes | dict) else values


class Empirical(Settings):
    """What was measured: the sorted `values`, with straight lines between them."""

    kind: Literal["empirical"] = "empirical"
    values: Annotated[
        tuple[Annotated[float, Field(ge=0)], ...],
        Field(min_length=1),
        BeforeValidator(_as_tuple),
        AfterValidator(lambda values: tuple(sorted(values))),
    ]

    if TYPE_CHECKING:

        def __init__(self, *, values: Iterable[float]) -> None: ...

    def at(self, u: float) -> float:
        """Return the value below which a share `u` of all draws lies; `u` inside (0, 1)."""
        values = self.values
        place = u * (len(values) - 1)
        index = int(place)
        if index + 1 >= len(values):
            return values[-1]
        return values[index] + (place - index) * (values[index + 1] - values[index])


def _constant(value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Constant(value=value)
    if isinstance(value, dict | Settings):
        return value
    kinds = "Constant, Uniform, Exponential, Lognormal or Empirical"
    raise ValueError(f"must be a number or a distribution ({kinds}), got a {type(value).__name__}")


_Kinds = Annotated[Constant | Uniform | Exponential | Lognormal | Empirical, Field(discriminator="kind")]
Distribution = Annotated[
    _Kinds, BeforeValidator(_constant, json_schema_input_type=Annotated[float, Field(ge=0)] | _Kinds)
]
"""Any of the distributions; a number means `Constant`."""
