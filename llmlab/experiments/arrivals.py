"""When the calls of an open workload arrive: how they are spread around its rate, or a recorded trace.

Pure: `times(seed, rate)` yields the arrival times, in seconds since the start, and needs neither a client nor a loop.
The n-th gap is drawn for (seed, n), so scheduling cannot shift it. The rate, which may change over time, stands in
`rates.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import count, pairwise, repeat
from numbers import Real
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from llmlab.core.chance import Purpose, uniform
from llmlab.core.settings import Settings, SettingsError
from llmlab.experiments.rates import Rate, arrival_times, of_kind
from llmlab.experiments.rows import MAX_LINE_BYTES, described, field, rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from llmlab.experiments.rows import Source


class PoissonArrivals(Settings):
    """Independent calls, as of many users who do not know of each other: exponential gaps."""

    kind: Literal["poisson"] = "poisson"

    def times(self, seed: int, rate: Rate = 1.0) -> Iterator[float]:
        """Yield arrival times, without end, in seconds since the start."""
        return arrival_times(rate, (-math.log1p(-_chance(seed, number)) for number in count()))


class ConstantArrivals(Settings):
    """Evenly spaced calls, as of a machine; the first comes after one gap."""

    kind: Literal["constant"] = "constant"

    def times(self, seed: int, rate: Rate = 1.0) -> Iterator[float]:
        """Yield arrival times, without end, in seconds since the start."""
        del seed
        return arrival_times(rate, repeat(1.0))


class BurstyArrivals(Settings):
    """Calls in bursts with silence between them: independent gaps with a gamma distribution.

    `cv` is the gaps' coefficient of variation, their standard deviation divided by their mean: 0 is `ConstantArrivals`,
    1 is `PoissonArrivals`, and more is burstier. The gamma distribution's shape is `1 / cv**2`.
    """

    kind: Literal["bursty"] = "bursty"
    cv: float = Field(default=3.0, ge=0.01, le=100)

    def times(self, seed: int, rate: Rate = 1.0) -> Iterator[float]:
        """Yield arrival times, without end, in seconds since the start."""
        from scipy.special import gammaincinv  # noqa: PLC0415 - loading it takes a fifth of a second

        scale = self.cv**2
        shape = 1 / scale
        gaps = (scale * float(gammaincinv(shape, _chance(seed, number))) for number in count())
        return arrival_times(rate, gaps)


def _chance(seed: int, number: int) -> float:
    return uniform(seed, number, 0, Purpose.WORKLOAD)


def _as_times(values: Any) -> object:
    return tuple(values.tolist()) if callable(getattr(values, "tolist", None)) else values


class TraceArrivals(Settings):
    """The times of calls as they were `recorded`, in seconds since the start; from a file with `TraceArrivals.read`."""

    kind: Literal["trace"] = "trace"
    recorded: Annotated[
        tuple[Annotated[float, Field(ge=0)], ...],
        Field(min_length=1),
        BeforeValidator(_as_times),
    ]
    """Seconds since the start, in order. Call n is the n-th of them, so that requests can be recorded beside them."""
    speed: float = Field(default=1.0, gt=0)
    """Times are divided by it: 2 replays the trace at twice its rate."""

    if TYPE_CHECKING:

        def __init__(self, *, recorded: Iterable[float], speed: float = 1.0) -> None: ...

    def model_post_init(self, _context: Any) -> None:
        """Refuse times in disorder: sorting them here would part them from the requests recorded beside them."""
        for number, (earlier, later) in enumerate(pairwise(self.recorded), 2):
            if later < earlier:
                raise ValueError(
                    f"recorded must not decrease, got {later} as number {number} after {earlier}; sort them"
                )

    def times(self, seed: int = 0, rate: Rate = 1.0) -> Iterator[float]:
        """Yield the arrival times; they depend on neither seed nor rate."""
        del seed, rate
        return (time / self.speed for time in self.recorded)

    @classmethod
    def read(
        cls,
        source: Source,
        column: str = "arrived_at_s",
        *,
        start: float | None = None,
        speed: float = 1.0,
        max_line_bytes: int = MAX_LINE_BYTES,
    ) -> Self:
        """Make a trace from a recording.

        Args:
            source: a list of numbers, a data frame, or the name of a file of CSV or of JSON lines (numbers or objects).
            column: the column or field that holds the time of each call, in seconds.
            start: the time that counts as the start of the run; `None` means that of the first call.
            speed: how much faster to replay it.
            max_line_bytes: the longest line of a file that is read.

        Raises:
            SettingsError: something is wrong in the source; the message says where and what.
            OSError: the file cannot be read.
        """
        times: list[float] = []
        for where, value in rows(source, column, max_line_bytes=max_line_bytes):
            time = _seconds(where, field(where, value, column) if isinstance(value, Mapping) else value)
            if times and time < times[-1]:
                raise SettingsError(f"{where}: {time} s comes after {times[-1]} s; sort the recording by its times")
            times.append(time)
        if not times:
            raise SettingsError("the source holds no time; give at least one")
        start = times[0] if start is None else start
        if times[0] < start:
            raise SettingsError(f"the first call, at {times[0]} s, comes before start={start}")
        return cls(recorded=[time - start for time in times], speed=speed)

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        return [("recorded", _Brief(self.recorded)), ("speed", self.speed)]


class _Brief:
    """A long series, in a few words."""

    def __init__(self, values: tuple[float, ...]) -> None:
        self._words = f"<{len(values)} times from {values[0]:g} to {values[-1]:g} s>"

    def __repr__(self) -> str:
        return self._words


def _seconds(where: str, value: object) -> float:
    try:
        if isinstance(value, str) or (not isinstance(value, bool) and isinstance(value, Real)):
            seconds = float(value)
            if math.isfinite(seconds):
                return seconds
    except (ValueError, OverflowError):
        pass
    raise SettingsError(f"{where}: a time must be a finite number of seconds, got {described(value)}")


_KINDS: dict[str, type[Settings]] = {
    "bursty": BurstyArrivals,
    "constant": ConstantArrivals,
    "poisson": PoissonArrivals,
    "trace": TraceArrivals,
}


def _as_arrivals(value: object) -> object:
    if isinstance(value, str):
        return of_kind({"kind": value}, _KINDS, "arrivals")
    if isinstance(value, Mapping):
        return of_kind(value, _KINDS, "arrivals")
    if not isinstance(value, tuple(_KINDS.values())):
        raise PydanticCustomError(
            "arrivals",
            "Input should be the name of a kind, or one of PoissonArrivals, ConstantArrivals, BurstyArrivals and "
            "TraceArrivals",
        )
    return value


_Kinds = Annotated[PoissonArrivals | ConstantArrivals | BurstyArrivals | TraceArrivals, Field(discriminator="kind")]
Arrivals = Annotated[
    _Kinds,
    BeforeValidator(_as_arrivals, json_schema_input_type=Literal["poisson", "constant", "bursty"] | _Kinds),
]
"""Any of them; a text is a kind with its defaults."""
