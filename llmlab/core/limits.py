"""How many at once, and how many per time: two small state machines that never wait and never read a clock.

`Slots` counts attempts in flight and keeps who waits in order of arrival; `Bucket` answers *from when on?*. The flow
does the waiting, so one implementation serves real and virtual time. Look next at `state.py`, which holds them for the
clients that share them.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from pydantic import Field

from llmlab.core.settings import Settings

if TYPE_CHECKING:
    from asyncio import Future

    from llmlab.core.messages import LLMRequest


class RateLimit(Settings):
    """At most `requests` attempts and `tokens` tokens in any window of `per` seconds; `None` means no such limit.

    Since an attempt's tokens are not known before, a window may hold those of one attempt more than `tokens`.

    A request's tokens are its prompt's characters over 4 plus its `max_tokens` until the server's own count is known;
    then the difference is settled. `burst` attempts may go at once after a quiet time; 1 spaces them evenly, so that
    no window of `per` seconds ever holds more than `requests`. A larger burst b allows `requests + b - 1` in a window,
    as any token bucket does.
    """

    requests: float | None = Field(default=None, gt=0)
    tokens: float | None = Field(default=None, gt=0)
    per: float = Field(default=60.0, gt=0)
    burst: int = Field(default=1, ge=1)


class Slots:
    """A concurrency limit: FIFO, safe under cancellation.

    Invariant: a slot is either counted in `in_use` by exactly one holder, or free; while anyone waits, none is free. A
    slot that is given back goes to the one who has waited longest without becoming free in between, so nobody
    overtakes.
    """

    __slots__ = ("in_use", "limit", "waiting")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_use = 0
        self.waiting: deque[Future[None]] = deque()
        """Tickets in order of arrival; the result of one is set when its slot has been handed over."""

    def take(self) -> bool:
        """Take a free slot if there is one."""
        if self.in_use < self.limit:
            self.in_use += 1
            return True
        return False

    def give(self) -> None:
        """Give a slot back: to the first in the queue, else to nobody."""
        while self.waiting and self.in_use <= self.limit:
            ticket = self.waiting.popleft()
            if not ticket.done():
                ticket.set_result(None)
                return
        self.in_use -= 1

    def set_limit(self, limit: int) -> None:
        """Change the limit; new slots go to those who wait. Fewer slots take effect as attempts end."""
        self.limit = limit
        while self.waiting and self.in_use < limit:
            ticket = self.waiting.popleft()
            if not ticket.done():
                self.in_use += 1
                ticket.set_result(None)

    def leave(self, ticket: Future[None]) -> None:
        """Stop waiting. A ticket whose slot was handed over in the same instant gives it back."""
        if ticket.done() and not ticket.cancelled():
            self.give()
        elif ticket in self.waiting:  # `give` has dropped it if it was cancelled before its turn came
            self.waiting.remove(ticket)


class Bucket:
    """A token bucket as the generic cell rate algorithm: one number, the time at which the bucket is full again.

    `full_at - slack` is the earliest time at which more may be taken (ITU-T I.371, annex A). What is taken may be
    larger than the bucket: it is then in debt, and the next one waits longer.
    """

    __slots__ = ("full_at", "interval", "slack")

    def __init__(self, rate: float, burst: float) -> None:
        """Make a full bucket that refills with `rate` units per second and holds `burst` units."""
        self.interval = 1.0 / rate
        self.slack = (burst - 1.0) * self.interval
        self.full_at = float("-inf")

    def free_at(self, now: float) -> float:
        """Return the earliest time, `now` or later, at which a unit may be taken."""
        at = self.full_at - self.slack
        return at if at > now else now  # noqa: FURB136 - max() costs three times as much, once per attempt

    def take(self, at: float, units: float = 1.0) -> None:
        """Take units at time `at`, which must not lie before `free_at`."""
        since = at if at > self.full_at else self.full_at  # noqa: FURB136 - as above
        self.full_at = since + units * self.interval

    def settle(self, units: float) -> None:
        """Take (or, if negative, give back) units whose number became known only now."""
        self.full_at += units * self.interval


class RateLimiter:
    """The buckets of one `RateLimit`. Attempts reserve in order of arrival."""

    __slots__ = ("requests", "tokens")

    def __init__(self, limit: RateLimit) -> None:
        per = limit.per
        self.requests = None if limit.requests is None else Bucket(limit.requests / per, limit.burst)
        self.tokens = None if limit.tokens is None else Bucket(limit.tokens / per, 1.0)

    def free_at(self, now: float) -> float:
        """Return the earliest time, `now` or later, at which an attempt may start."""
        at = now if self.requests is None else self.requests.free_at(now)
        return at if self.tokens is None else self.tokens.free_at(at)

    def reserve(self, now: float, tokens: float, latest: float) -> float | None:
        """Reserve a place for one attempt and return its time; `None`, and no place, if that is not before `latest`."""
        requests, used = self.requests, self.tokens
        at = self.free_at(now)
        if at >= latest:
            return None
        if requests is not None:
            requests.take(at)
        if used is not None:
            used.take(at, tokens)
        return at

    def settle(self, estimated: float, actual: float) -> None:
        """Correct the tokens of an attempt once the server has counted them."""
        if self.tokens is not None:
            self.tokens.settle(actual - estimated)


def estimated_tokens(request: LLMRequest) -> float:
    """Return the tokens that a request may use, before the server has counted: characters / 4, plus `max_tokens`."""
    return request.characters / 4 + (request.max_tokens or 0)
