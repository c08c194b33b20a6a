"""Adaptive client-side throttling: turn attempts away oneself, as often as the server would have.

Over the last `window` seconds an attempt is turned away with probability `max(0, (requests - k * accepts) / (requests
+ 1))` (Beyer et al., "Site Reliability Engineering", chapter 21, equation 21-1). `requests` counts all that were
tried, those turned away too; `accepts` those that the server took. `AdaptiveThrottle` is the setting, `ThrottleState`
the pure state machine.
"""

from __future__ import annotations

from collections import deque

from pydantic import Field

from llmlab.core.settings import Settings

_SLICES = 10


class AdaptiveThrottle(Settings):
    """How early to turn attempts away. A smaller `k` turns away more."""

    k: float = Field(default=2.0, ge=1)
    """How many attempts are let through for each that the server accepts."""
    window: float = Field(default=120.0, gt=0)
    """Seconds over which attempts are counted, in ten slices."""

    def at_work(self) -> ThrottleState:
        """Return the state machine that acts by these settings. A subclass of your own may return one of its own."""
        return ThrottleState(self)


class ThrottleState:
    """The counts of a throttle."""

    __slots__ = ("_accepts", "_requests", "_slices", "throttle")

    def __init__(self, throttle: AdaptiveThrottle) -> None:
        self.throttle = throttle
        self._slices: deque[list[float]] = deque()  # [start, requests, accepts], oldest first
        self._requests = self._accepts = 0.0

    def _slice(self, now: float) -> list[float]:
        slices, window = self._slices, self.throttle.window
        while slices and slices[0][0] <= now - window:
            _, requests, accepts = slices.popleft()
            self._requests -= requests
            self._accepts -= accepts
        if not slices or now - slices[-1][0] >= window / _SLICES:
            slices.append([now, 0.0, 0.0])
        return slices[-1]

    def rejection_probability(self, now: float) -> float:
        """Return the probability, from 0 to 1, with which an attempt is turned away now."""
        self._slice(now)
        return max(0.0, (self._requests - self.throttle.k * self._accepts) / (self._requests + 1.0))

    def allow(self, now: float, u: float) -> bool:
        """Whether an attempt may be sent now; `u` is a uniform draw from (0, 1). Counts it either way."""
        allowed = u >= self.rejection_probability(now)
        self._slice(now)[1] += 1
        self._requests += 1
        return allowed

    def accepted(self, now: float) -> None:
        """The server took an attempt."""
        self._slice(now)[2] += 1
        self._accepts += 1
