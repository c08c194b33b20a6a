"""A circuit breaker: when most attempts fail, stop sending for a while, then try with few.

Closed: attempts pass, and the share of failures over the last `window` seconds is watched. Open: for `open_for`
seconds nothing passes. Half-open: `probes` attempts pass; if all are answered it closes, at the first failure it opens
again. (Michael Nygard, "Release It!", 2007; the ratio over a window with a minimum of attempts is Polly's.) Only
failures that tell of a sick server count; a request that is wrong in itself says nothing.

`CircuitBreaker` is the setting, `BreakerState` the pure state machine: it gets `now`, never reads a clock or sleeps.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

from pydantic import Field

from llmlab.core.settings import Settings
from llmlab.core.vocabulary import FailureReason

SICK = frozenset(
    {
        FailureReason.ATTEMPT_TIMEOUT,
        FailureReason.CONNECTION_FAILED,
        FailureReason.CONNECTION_LOST,
        FailureReason.RATE_LIMITED,
        FailureReason.OVERLOADED,
        FailureReason.SERVER_ERROR,
        FailureReason.MALFORMED_RESPONSE,
        FailureReason.TOTAL_DEADLINE_EXCEEDED,
    }
)
"""The reasons that tell of a server in trouble, and count as failures for a breaker, a throttle and adaptive limits."""

_SLICES = 10


class CircuitBreaker(Settings):
    """When to stop sending, and how to try again."""

    failure_ratio: float = Field(default=0.5, gt=0, le=1)
    """The share of failed attempts, from 0 to 1, at which it opens."""
    minimum_attempts: int = Field(default=10, ge=1)
    """Attempts that the window must hold before the share means anything."""
    window: float = Field(default=30.0, gt=0)
    """Seconds over which the share is taken, in ten slices."""
    open_for: float = Field(default=10.0, gt=0)
    """Seconds for which nothing passes."""
    probes: int = Field(default=1, ge=1)
    """Attempts that must be answered, when half open, before it closes."""


class BreakerState:
    """A breaker at work. Every attempt that `allow` lets pass must be ended by one `record` or one `forget`."""

    __slots__ = ("_opened_at", "_probes_answered", "_probes_out", "_slices", "breaker", "state")

    def __init__(self, breaker: CircuitBreaker) -> None:
        self.breaker = breaker
        self.state: Literal["closed", "open", "half_open"] = "closed"
        self._opened_at = 0.0
        self._probes_out = self._probes_answered = 0
        self._slices: deque[list[float]] = deque()  # [start, attempts, failures], oldest first

    def allow(self, now: float) -> bool:
        """Whether an attempt may be sent now."""
        if self.state == "open" and now - self._opened_at >= self.breaker.open_for:
            self.state = "half_open"
            self._probes_out = self._probes_answered = 0
        if self.state == "closed":
            return True
        if self.state == "half_open" and self._probes_out + self._probes_answered < self.breaker.probes:
            self._probes_out += 1
            return True
        return False

    def wait(self, now: float) -> float:
        """Return the seconds until an attempt may pass; 0 where one may pass now, or a probe is out."""
        return max(0.0, self._opened_at + self.breaker.open_for - now) if self.state == "open" else 0.0

    def record(self, now: float, *, sick: bool) -> None:
        """An attempt that was allowed has ended; `sick` says whether it tells of a server in trouble."""
        if self.state == "half_open" and self._probes_out:
            self._probes_out -= 1
            if sick:
                self._open(now)
            else:
                self._probes_answered += 1
                if self._probes_answered >= self.breaker.probes:
                    self.state = "closed"
                    self._slices.clear()
        elif self.state == "closed":
            self._count(now, sick=sick)

    def forget(self) -> None:
        """An attempt that was allowed was given up (cancelled) and says nothing."""
        if self.state == "half_open" and self._probes_out:
            self._probes_out -= 1

    def _count(self, now: float, *, sick: bool) -> None:
        breaker, slices = self.breaker, self._slices
        while slices and slices[0][0] <= now - breaker.window:
            slices.popleft()
        if not slices or now - slices[-1][0] >= breaker.window / _SLICES:
            slices.append([now, 0, 0])
        slices[-1][1] += 1
        slices[-1][2] += sick
        if sick:
            attempts = sum(one[1] for one in slices)
            failures = sum(one[2] for one in slices)
            if attempts >= breaker.minimum_attempts and failures >= breaker.failure_ratio * attempts:
                self._open(now)

    def _open(self, now: float) -> None:
        self.state = "open"
        self._opened_at = now
        self._slices.clear()
