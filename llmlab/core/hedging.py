"""When to send a second attempt beside one that is slow: the setting, and the delay it means.

After `delay` seconds without an answer, or after the latency that a share `percentile` of recent attempts stays below,
another attempt is sent; the first answer wins, the loser is cancelled and recorded. Against independent slowness this
cuts the tail for a small extra load, P(T > t) = S(t) S(t - d) for t > d (Dean and Barroso, "The Tail at Scale", CACM
2013).
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from typing import Any

from pydantic import Field

from llmlab.core.settings import Settings


class Hedging(Settings):
    """When to hedge: after a fixed `delay` in seconds, or at a measured `percentile` (0 to 1) of latency."""

    delay: float | None = Field(default=None, ge=0)
    percentile: float | None = Field(default=None, gt=0, lt=1)
    max_hedges: int = Field(default=1, ge=1)
    """Attempts that may run beside the first of a race; each starts another delay later."""
    remember: int = Field(default=1000, ge=20)
    """Latencies from which the percentile is measured."""
    at_least: int = Field(default=20, ge=1)
    """Latencies that must be known before a percentile means anything; until then there is no hedging."""

    def model_post_init(self, _context: Any) -> None:
        """Refuse to guess which of the two is meant, and a percentile that would never be known."""
        if (self.delay is None) == (self.percentile is None):
            raise ValueError("give either a delay (seconds) or a percentile (0 to 1) after which to hedge")
        if self.at_least > self.remember:
            raise ValueError(
                f"at_least must be no more than remember, got {self.at_least} and {self.remember}: it would never hedge"
            )

    def at_work(self) -> HedgeDelay:
        """Return the state machine that acts by these settings. A subclass of your own may return one of its own."""
        return HedgeDelay(self)


class HedgeDelay:
    """The delay as it stands, from the latencies of the first attempts of races."""

    __slots__ = ("_recent", "_sorted", "hedging")

    def __init__(self, hedging: Hedging) -> None:
        self.hedging = hedging
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []

    def record(self, latency: float) -> None:
        """Learn from the first attempt of a race, answered after `latency` seconds or overtaken by its hedge then.

        An overtaken attempt counts with the time it had taken so far: that is above the percentile, as its full time
        would be. Left out, the slow would be missing, the percentile would fall, and hedges would become ever more.
        """
        if self.hedging.percentile is None or not math.isfinite(latency):  # NaN would unsort the rest
            return
        self._recent.append(latency)
        insort(self._sorted, latency)
        if len(self._recent) > self.hedging.remember:
            del self._sorted[bisect_left(self._sorted, self._recent.popleft())]

    def current(self) -> float | None:
        """Return the seconds after which to hedge, or `None` where too little is known yet."""
        if self.hedging.percentile is None:
            return self.hedging.delay
        if len(self._sorted) < self.hedging.at_least:
            return None
        # 1e-9: the 0.29 quantile of a hundred has 29 below it, although 0.29 * 100 is less than 29
        below = int(self.hedging.percentile * len(self._sorted) + 1e-9)
        return self._sorted[min(len(self._sorted) - 1, below)]
