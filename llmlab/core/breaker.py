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

    def at_work(self) -> BreakerState:
        """Return the state machine that acts by these settings. A subclass of your own may return one of its own."""
        return BreakerState(self)


class BreakerState:
    """A breaker at work. Every attempt that `allow` lets pass must be ended by one `record` or one `forget`.

    An attempt that was let pass before the last change of state says nothing of the state after it: a slow failure
    from before the outage's end must not end a probe. `allow` therefore returns a ticket, which `record` and `forget`
    take back; without one the attempt counts as let pass in the present state.
    """

    __slots__ = ("_epoch", "_open_until", "_probes_answered", "_probes_out", "_slices", "breaker", "state")

    def __init__(self, breaker: CircuitBreaker) -> None:
        self.breaker = breaker
        self.state: Literal["closed", "open", "half_open"] = "closed"
        self._epoch = 1
        self._open_until = 0.0
        self._probes_out = self._probes_answered = 0
        self._slices: deque[list[float]] = deque()  # [start, attempts, failures], oldest first

    def allow(self, now: float) -> int:
        """Return a ticket, 1 or more, if an attempt may be sent now, else 0."""
        # The time `wait` has named is compared, not the time passed: the two can differ by a rounding.
        if self.state == "open" and now >= self._open_until:
            self._enter("half_open")
        if self.state == "closed":
            return self._epoch
        if self.state == "half_open" and self._probes_out + self._probes_answered < self.breaker.probes:
            self._probes_out += 1
            return self._epoch
        return 0

    def wait(self, now: float) -> float:
        """Return the seconds until an attempt may pass; 0 where one may pass now, or a probe is out."""
        return max(0.0, self._open_until - now) if self.state == "open" else 0.0

    def record(self, now: float, *, sick: bool, ticket: int | None = None) -> None:
        """An attempt that was allowed has ended; `sick` says whether it tells of a server in trouble."""
        if ticket is not None and ticket != self._epoch:
            return
        if self.state == "half_open" and self._probes_out:
            self._probes_out -= 1
            if sick:
                self._open(now)
            else:
                self._probes_answered += 1
                if self._probes_answered >= self.breaker.probes:
                    self._enter("closed")
        elif self.state == "closed":
            self._count(now, sick=sick)

    def forget(self, ticket: int | None = None) -> None:
        """An attempt that was allowed was given up (cancelled) and says nothing."""
        if self.state == "half_open" and self._probes_out and ticket in {None, self._epoch}:
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
            # 1e-9: three of thirty are a tenth, although 0.1 * 30 is more than 3
            if attempts >= breaker.minimum_attempts and failures >= breaker.failure_ratio * attempts - 1e-9:
                self._open(now)

    def _open(self, now: float) -> None:
        self._enter("open")
        self._open_until = now + self.breaker.open_for

    def _enter(self, state: Literal["closed", "open", "half_open"]) -> None:
        self.state = state
        self._epoch += 1
        self._probes_out = self._probes_answered = 0
        self._slices.clear()
