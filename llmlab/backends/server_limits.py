"""The rate limits of a simulated server: pure, `now` in, the wait that it asks for out.

Token buckets that refill continuously, as the generic cell rate algorithm (ITU-T I.371, annex A): one number each, the
time at which the bucket is full again. A refused request takes nothing, so the Retry-After is when this request would
be let in if nobody else came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from llmlab.backends.server_model import ServerModel

_ROUNDING = 1e-9
"""Seconds; who comes back exactly after the Retry-After must not be refused for a rounding error."""


class Standing(NamedTuple):
    """How a limit stands: its size and what is left of it, in requests or tokens; seconds until it is whole again."""

    limit: float
    remaining: float
    reset: float


class ServerLimits:
    """The two buckets of a server."""

    def __init__(self, model: ServerModel) -> None:
        burst = model.limit_burst
        self._requests = _Limit(model.requests_per_minute, burst)
        self._tokens = _Limit(model.tokens_per_minute, burst)

    def admit(self, now: float, tokens: float) -> float | None:
        """Let a request in (`None`), or return the seconds after which it would be."""
        wait = max(self._requests.wait(now, 1.0), self._tokens.wait(now, tokens))
        if wait > _ROUNDING:
            return wait
        self._requests.take(now, 1.0)
        self._tokens.take(now, tokens)
        return None

    def settle(self, expected: float, used: float) -> None:
        """Correct the tokens of a request once they are known."""
        self._tokens.full_at += (used - expected) * self._tokens.interval

    def standing(self, now: float) -> dict[str, Standing]:
        """Return how the limits stand that there are: of `requests` and of `tokens`."""
        both = {"requests": self._requests, "tokens": self._tokens}
        return {name: limit.standing(now) for name, limit in both.items() if limit.interval}


class _Limit:
    def __init__(self, per_minute: float | None, burst: float) -> None:
        self.full_at = float("-inf")
        self.interval = 0.0 if per_minute is None else 60.0 / per_minute
        self._size = 0.0 if per_minute is None else max(burst, self.interval)  # in seconds; room for one at least

    def wait(self, now: float, units: float) -> float:
        """Return how long until so many units fit; more than the bucket holds fit when it is full."""
        needed = min(units * self.interval, self._size)
        return max(0.0, self.full_at + needed - self._size - now)

    def standing(self, now: float) -> Standing:
        """Return how it stands."""
        reset = max(0.0, self.full_at - now)
        return Standing(self._size / self.interval, max(0.0, self._size - reset) / self.interval, reset)

    def take(self, now: float, units: float) -> None:
        self.full_at = max(self.full_at, now) + units * self.interval
