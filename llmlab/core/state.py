"""What calls share while they run: limits, budget, breaker, held apart from the frozen policy.

Several clients may share one state, and so one set of limits: `AsyncClient(backend, policy, state=other.state)`. The
limits are counted on one event loop at a time, since their queues wake tasks of that loop. When the loop changes (a
second `asyncio.run`), rate limits carry over where both loops read the machine's clock; a loop with a clock of its own
(a simulation) starts them afresh.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from llmlab.core.guard import guard_of
from llmlab.core.limits import RateLimiter, Slots

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from llmlab.core.policy import ClientPolicy


class Progress:
    """How many calls are in progress. After a reset the calls of a loop that was closed still count on the old one."""

    __slots__ = ("calls",)

    def __init__(self) -> None:
        self.calls = 0


class ClientState:
    """The limits of a policy, in use.

    Args:
        policy: its limits, budget, breaker, throttle and measured hedging delay become those of every client that
            shares this state.
    """

    def __init__(self, policy: ClientPolicy) -> None:
        self.policy = policy
        self.loop: AbstractEventLoop | None = None
        """The event loop on which the limits are counted."""
        self._pid = os.getpid()
        self._reset()

    @property
    def calls_in_progress(self) -> int:
        """The calls in progress of all clients that share this state."""
        return self.progress.calls

    def _reset(self) -> None:
        policy = self.policy
        self.progress = Progress()
        adaptive = policy.adaptive_concurrency
        limit = policy.max_concurrency if adaptive is None else adaptive.initial
        self.slots = None if limit is None else Slots(min(limit, policy.max_concurrency or limit))
        self.rate = None if policy.rate_limit is None else RateLimiter(policy.rate_limit)
        self.guard = guard_of(policy, self.slots)

    def bind(self, loop: AbstractEventLoop) -> None:
        """Count on this event loop from now on.

        Raises:
            RuntimeError: calls are still in progress on another loop that is open.
        """
        old = self.loop
        if old is loop:
            return
        if old is not None and self.calls_in_progress:
            if not old.is_closed() and self._pid == os.getpid():
                raise RuntimeError(
                    f"{self.calls_in_progress} calls are in progress on another event loop, and a client's limits are "
                    "counted on one loop at a time; use one client (and state) per loop, or a sync client from threads"
                )
            self._reset()  # their loop was closed under them (or left behind by a fork): they give no slot back
        if old is not None and not (_on_the_machines_clock(old) and _on_the_machines_clock(loop)):
            self._reset()
        self.loop, self._pid = loop, os.getpid()


def _on_the_machines_clock(loop: AbstractEventLoop) -> bool:
    """Whether a loop reads the machine's monotonic clock, as asyncio's and uvloop's do, and not one of its own."""
    return abs(loop.time() - time.monotonic()) < 1.0
