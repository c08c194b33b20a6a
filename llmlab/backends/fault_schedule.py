"""Faults that come and go: windows, bursts and ramps, each a probability that depends on the time.

The weather is the same whatever the client does: when a burst begins is drawn from the seed and the entry's place
alone, and an attempt meets a fault by the one number that is drawn for it. Times are seconds since the backend's first
use on its event loop, which in an `Experiment` is the run's start. Look next at `faults.py`, which holds a schedule.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from llmlab.backends.fault_kinds import FaultKind, fault_kind
from llmlab.core.chance import Purpose, derived, unit, words
from llmlab.core.settings import Settings, nearest

if TYPE_CHECKING:
    from collections.abc import Callable

Kind = Annotated[FaultKind, BeforeValidator(fault_kind)]
"""A `FaultKind`, or its name."""
_BURSTS = 0x6275727374  # "burst": keeps the bursts' seed apart from every other that is derived


class Window(Settings):
    """An attempt that begins from `start` up to `end` meets this fault with this probability: an outage that refuses.

    A server that stops working, and serves what has queued up afterwards, is another thing: `ServerModel.outages`.
    """

    pattern: Literal["window"] = "window"
    kind: Kind
    start: float = Field(default=0.0, ge=0)
    end: float = Field(gt=0)
    probability: float = Field(default=1.0, ge=0, le=1)

    def model_post_init(self, _context: Any) -> None:
        """Refuse an empty window."""
        _refuse_empty(self.start, self.end)

    def probability_at(self, seed: int, place: int) -> Callable[[float], float]:
        """Return the probability as a function of the time."""
        del seed, place
        start, end, probability = self.start, self.end, self.probability
        return lambda time: probability if start <= time < end else 0.0


class Ramp(Settings):
    """From `start` up to `end` the probability goes from `first` to `last` on a straight line; outside, it is 0."""

    pattern: Literal["ramp"] = "ramp"
    kind: Kind
    start: float = Field(default=0.0, ge=0)
    end: float = Field(gt=0)
    first: float = Field(default=0.0, ge=0, le=1)
    last: float = Field(default=1.0, ge=0, le=1)

    def model_post_init(self, _context: Any) -> None:
        """Refuse an empty ramp."""
        _refuse_empty(self.start, self.end)

    def probability_at(self, seed: int, place: int) -> Callable[[float], float]:
        """Return the probability as a function of the time."""
        del seed, place
        start, end, first = self.start, self.end, self.first
        slope = (self.last - first) / (end - start)
        return lambda time: first + slope * (time - start) if start <= time < end else 0.0


class Burst(Settings):
    """Good and bad times take turns, each of exponential length; in a bad one the fault has this probability.

    A two-state Markov process in continuous time (Gilbert 1960, "Capacity of a burst-noise channel"), which starts
    good. In the long run a share `mean_bad / (mean_good + mean_bad)` of the time is bad.
    """

    pattern: Literal["burst"] = "burst"
    kind: Kind
    mean_good: float = Field(gt=0, description="mean length of a good time, in seconds")
    mean_bad: float = Field(gt=0, description="mean length of a bad time, in seconds")
    probability: float = Field(default=1.0, ge=0, le=1)

    def probability_at(self, seed: int, place: int) -> Callable[[float], float]:
        """Return the probability as a function of the time; `seed` and `place` fix when the bad times are."""
        times = _TurningTimes(derived(seed, _BURSTS, place), self.mean_good, self.mean_bad)
        probability = self.probability
        return lambda time: probability if times.turns_before(time) % 2 else 0.0


class _TurningTimes:
    """When the good and the bad times of a burst end, drawn only as far as anyone has asked."""

    def __init__(self, seed: int, mean_good: float, mean_bad: float) -> None:
        self._seed = seed
        self._means = (mean_good, mean_bad)
        self._ends: list[float] = []
        self._known_until = 0.0

    def turns_before(self, time: float) -> int:
        """Return how often it has turned by then; an odd number means a bad time."""
        while self._known_until <= time:
            self._draw_eight_more()
        return bisect_right(self._ends, time)

    def _draw_eight_more(self) -> None:
        number = len(self._ends)
        for word in words(self._seed, number, 0, Purpose.FAULT):
            self._known_until += -self._means[number % 2] * math.log1p(-unit(word))
            self._ends.append(self._known_until)
            number += 1


_PATTERNS: dict[str, type[Settings]] = {"window": Window, "ramp": Ramp, "burst": Burst}


def _as_entry(value: object) -> object:
    """Make an entry of its serialised form."""
    if not isinstance(value, dict):
        return value
    pattern = value.get("pattern")
    if pattern not in _PATTERNS:
        raise ValueError(f"an entry's pattern must be known, got {pattern!r}; {nearest(str(pattern), _PATTERNS)}")
    return _PATTERNS[pattern](**value)


Scheduled = Annotated[Window | Ramp | Burst, BeforeValidator(_as_entry)]
"""An entry of a schedule."""


def as_schedule(given: object) -> object:
    """Take a single entry for a schedule of one."""
    return (given,) if isinstance(given, Settings | dict) else given


class Weather:
    """A schedule at work: which fault an attempt meets at a time.

    The entries are asked in order. Each takes its share of the draw and hands the rest on, stretched to (0, 1) again,
    so the entries are independent of each other; what is left when none took it is for the probabilities that always
    hold. Raising a probability therefore takes no fault away, and where no entry is active the draw is as it was.
    """

    def __init__(self, schedule: tuple[Window | Ramp | Burst, ...], seed: int) -> None:
        self._entries = [(entry.kind, entry.probability_at(seed, place)) for place, entry in enumerate(schedule)]

    def fault_at(self, time: float, u: float) -> tuple[FaultKind | None, float]:
        """Return the fault that the uniform draw `u` means at this time, or `None` and what is left of the draw."""
        for kind, probability_at in self._entries:
            probability = probability_at(time)
            if u < probability:
                return kind, u
            if probability:
                u = (u - probability) / (1.0 - probability)
        return None, u


def _refuse_empty(start: float, end: float) -> None:
    if end <= start:
        raise ValueError(f"end must be later than start={start:g}, got {end:g}")
