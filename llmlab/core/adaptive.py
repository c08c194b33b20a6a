"""A concurrency limit that finds itself: more in flight while the server keeps up, fewer when it does not.

Two laws. *AIMD* adds `increase` for a full limit's worth of answers and multiplies by `decrease` at an overload (Chiu
and Jain, 1989; TCP). *Gradient* compares a long-run latency with the present one and keeps `headroom` in the queue
(Netflix concurrency-limits, Gradient2): `limit = limit * clamp(tolerance * long / present, 0.5, 1) + headroom`,
smoothed. Both look only at what attempts really meet, never at a Retry-After, so no server can freeze them; and the
limit never falls below `minimum`, so they always find out that things are better again.

`AdaptiveConcurrency` is the setting, `AdaptiveLimit` the pure state machine.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field

from llmlab.core.settings import Settings


class AdaptiveConcurrency(Settings):
    """How the limit moves. It starts at `initial` and stays between `minimum` and `maximum`, in attempts in flight."""

    law: Literal["aimd", "gradient"] = "aimd"
    initial: int = Field(default=8, ge=1)
    minimum: int = Field(default=1, ge=1)
    maximum: int = Field(default=256, ge=1)
    increase: float = Field(default=1.0, gt=0)
    """AIMD: what a full limit's worth of answers adds."""
    decrease: float = Field(default=0.7, gt=0, lt=1)
    """What an overload multiplies the limit by; several within one latency of each other count once."""
    tolerance: float = Field(default=1.5, ge=1)
    """Gradient: how much slower than usual is still as usual."""
    headroom: float = Field(default=2.0, gt=0)
    """Gradient: attempts that may queue at the server; by this the limit grows while the latency is as usual."""
    smoothing: float = Field(default=0.2, gt=0, le=1)
    """Gradient: the share of a new value in the limit."""

    def model_post_init(self, _context: Any) -> None:
        """Refuse bounds that leave no room."""
        if not self.minimum <= self.initial <= self.maximum:
            raise ValueError(
                f"minimum <= initial <= maximum must hold, got {self.minimum}, {self.initial} and {self.maximum}"
            )

    def at_work(self) -> AdaptiveLimit:
        """Return the state machine that acts by these settings. A subclass of your own may return one of its own."""
        return AdaptiveLimit(self)


class AdaptiveLimit:
    """The limit as it stands. Invariant: between `minimum` and `maximum`."""

    __slots__ = ("_deaf_until", "_long", "_value", "settings")

    def __init__(self, settings: AdaptiveConcurrency) -> None:
        self.settings = settings
        self._value = float(settings.initial)
        self._long = 0.0  # not known yet
        self._deaf_until = -math.inf

    @property
    def limit(self) -> int:
        """Attempts that may be in flight."""
        return int(self._value)

    def record(self, now: float, *, latency: float, in_flight: int, overloaded: bool) -> int:
        """Learn from an attempt that has ended, and return the limit.

        Args:
            now: the clock, in seconds.
            latency: what the attempt took, in seconds.
            in_flight: attempts that were in flight, this one included.
            overloaded: whether it tells of a server that has too much to do (a timeout, 429, 503, ...).
        """
        if not 0.0 <= latency < math.inf:  # a time that is none would make it deaf for ever
            latency = 0.0
        if overloaded:
            if now >= self._deaf_until:
                self._deaf_until = now + latency
                self._set(self._value * self.settings.decrease)
        elif self.settings.law == "aimd":
            if 2 * in_flight >= self.limit:  # a limit that is not used teaches nothing
                self._set(self._value + self.settings.increase / self._value)
        else:
            self._follow_gradient(latency, in_flight)
        return self.limit

    def _follow_gradient(self, latency: float, in_flight: int) -> None:
        settings = self.settings
        # An answer that took no time at all (from a cache) is no yardstick: nothing would ever be as fast again.
        self._long = self._long + 0.01 * (latency - self._long) if self._long > 0.0 else latency
        if self._long > 2.0 * latency:  # a past overload must not pass for normal
            self._long *= 0.95
        if 2 * in_flight < self.limit:
            return
        gradient = max(0.5, min(1.0, settings.tolerance * self._long / latency)) if latency > 0 else 1.0
        target = self._value * gradient + settings.headroom
        self._set(self._value + settings.smoothing * (target - self._value))

    def _set(self, value: float) -> None:
        self._value = max(float(self.settings.minimum), min(float(self.settings.maximum), value))
