"""The rate of an open workload: a number, or one that changes over time.

Arrivals are first placed on a clock on which one call is due per unit (the *gaps* of `arrivals.py`), and then moved to
the time at which the integral of the rate reaches that unit: the inversion method for a non-homogeneous Poisson process
(Cinlar, "Introduction to Stochastic Processes", 1975, section 4.7). Poisson gaps stay Poisson, and the n-th arrival
depends on the seed, on n and on the rate, and on nothing that happens in the run.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError, PydanticKnownError

from llmlab.core.settings import Settings, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# The bounds keep the arithmetic exact: squares and integrals of such numbers neither overflow nor vanish.
_Seconds = Annotated[float, Field(ge=0, le=1e9)]
_PerSecond = Annotated[float, Field(ge=0, le=1e9)]


class _Piece(NamedTuple):
    """A stretch of time in which the rate is a straight line; the last one has no end and is level."""

    begin: float
    end: float
    rate: float
    slope: float

    def calls(self, until: float) -> float:
        """Return the calls that are due from its begin until then."""
        length = until - self.begin
        return (self.rate + self.slope * length / 2) * length

    @property
    def all_calls(self) -> float:
        return math.inf if self.end == math.inf else self.calls(self.end)

    def when(self, calls: float) -> float:
        """Return when so many calls are due: the root of a quadratic, in the form that does not cancel."""
        divisor = self.rate + math.sqrt(max(0.0, self.rate**2 + 2 * self.slope * calls))
        return min(self.end, self.begin + 2 * calls / divisor) if divisor > 0 else self.begin


class _RateOverTime(Settings):
    points: Annotated[tuple[tuple[_Seconds, _PerSecond], ...], Field(min_length=1)]
    """Pairs of a time, in seconds since the start of the run, and the rate then, in calls per second."""
    scale: float = Field(default=1.0, gt=0, le=1e9)
    """A factor of all rates: a sweep over `workload.rate.scale` varies the load and keeps its course."""

    def model_post_init(self, _context: Any) -> None:
        """Refuse a course that does not begin, goes back in time, or ends."""
        times = [time for time, _ in self.points]
        if times[0] != 0:
            raise ValueError(f"points must begin at time 0, got {times[0]}")
        for earlier, later in itertools.pairwise(times):
            self._check_order(earlier, later)
        if self.points[-1][1] == 0:
            raise ValueError("points must not end in a rate of 0; end the arrivals with the workload's duration")

    def _check_order(self, earlier: float, later: float) -> None:
        if later < earlier:
            raise ValueError(f"the times of points must not decrease, got {later} after {earlier}")

    def _pieces(self) -> list[_Piece]:
        raise NotImplementedError

    def at(self, time: float) -> float:
        """Return the rate at a time, in calls per second."""
        piece = next(piece for piece in self._pieces() if time < piece.end)
        return piece.rate + piece.slope * (time - piece.begin)

    def expected_calls(self, until: float) -> float:
        """Return how many calls are due from the start until a time, on average."""
        return sum(piece.calls(min(until, piece.end)) for piece in self._pieces() if piece.begin < until)

    def times(self, gaps: Iterable[float]) -> Iterator[float]:
        """Yield arrival times whose gaps, where the rate is 1, would be these."""
        pieces = iter(self._pieces())
        piece = next(pieces)
        due = before = latest = 0.0
        room = piece.all_calls
        for gap in gaps:
            due += gap
            while due - before > room:
                before += room
                piece = next(pieces)
                room = piece.all_calls
            latest = max(latest, piece.when(due - before))  # rounding may not turn the order of two arrivals
            yield latest


class RateSteps(_RateOverTime):
    """A rate that jumps: from each point's time on it is that point's rate.

        RateSteps(points=[(0, 5), (20, 50), (30, 5)])  # a spike from t=20 to t=30

    A rate of 0 is a pause.
    """

    kind: Literal["steps"] = "steps"

    if TYPE_CHECKING:

        def __init__(self, *, points: Sequence[tuple[float, float]], scale: float = 1.0) -> None: ...

    def _check_order(self, earlier: float, later: float) -> None:
        if later <= earlier:
            raise ValueError(f"the times of points must increase, got {later} after {earlier}")

    def _pieces(self) -> list[_Piece]:
        ends = [*(time for time, _ in self.points[1:]), math.inf]
        return [_Piece(time, end, rate * self.scale, 0.0) for (time, rate), end in zip(self.points, ends, strict=True)]


class RateRamp(_RateOverTime):
    """A rate that runs straight from point to point, and stays at the last one's.

        RateRamp(points=[(0, 1), (60, 20)])  # up from 1 to 20 calls per second within a minute

    Two points at the same time are a jump.
    """

    kind: Literal["ramp"] = "ramp"

    if TYPE_CHECKING:

        def __init__(self, *, points: Sequence[tuple[float, float]], scale: float = 1.0) -> None: ...

    def _pieces(self) -> list[_Piece]:
        pieces = []
        for (begin, low), (end, high) in itertools.pairwise(self.points):
            if begin < end:
                pieces.append(_Piece(begin, end, low * self.scale, (high - low) * self.scale / (end - begin)))
        begin, rate = self.points[-1]
        return [*pieces, _Piece(begin, math.inf, rate * self.scale, 0.0)]


def arrival_times(rate: float | RateSteps | RateRamp, gaps: Iterable[float]) -> Iterator[float]:
    """Yield arrival times, in seconds since the start, at this rate; `gaps` have a mean of 1."""
    if isinstance(rate, _RateOverTime):
        yield from rate.times(gaps)
        return
    at = 0.0
    for gap in gaps:
        at += gap / rate
        yield at


def of_kind(given: Mapping[Any, Any], kinds: Mapping[str, type[Settings]], what: str) -> Settings:
    """Make the settings whose `kind` is given.

    Raises:
        ValueError: there is no such kind, or its settings are wrong (a `SettingsError`).
    """
    kind = given.get("kind")
    if not isinstance(kind, str):
        raise ValueError(f"must say of which 'kind' it is; {nearest('', kinds)}")
    if kind not in kinds:
        name = f"'{kind}'" if len(kind) <= 60 else f"a text of {len(kind)} characters"
        raise ValueError(f"{name} is not a kind of {what}; {nearest(kind, kinds)}")
    return kinds[kind](**{str(name): value for name, value in given.items()})


_KINDS: dict[str, type[Settings]] = {"ramp": RateRamp, "steps": RateSteps}


def _as_rate(value: object) -> object:
    """Check a number here: a union's own errors would name its branches, and not the mistake."""
    if value is None or isinstance(value, _RateOverTime):
        return value
    if isinstance(value, Mapping):
        return of_kind(value, _KINDS, "rate")
    if isinstance(value, bool) or not isinstance(value, Real):
        raise PydanticCustomError("rate", "Input should be a number of calls per second, a RateRamp or a RateSteps")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise PydanticKnownError("finite_number")
    if number <= 0:
        raise PydanticKnownError("greater_than", {"gt": 0})
    return number


_OverTime = Annotated[RateRamp | RateSteps, Field(discriminator="kind")]
Rate = Annotated[
    float | _OverTime,
    BeforeValidator(_as_rate, json_schema_input_type=Annotated[float, Field(gt=0)] | _OverTime),
]
"""A rate: calls per second (more than 0), or how they change over time."""
