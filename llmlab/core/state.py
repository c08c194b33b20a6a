"""What calls share while they run: the limits, held apart from the frozen policy.

Several clients may share one state, and so one set of limits: `AsyncClient(backend, policy, state=other.state)`. The
limits are counted on one event loop at a time, since their queues wake tasks of that loop. When the loop changes (a
second `asyncio.run`), rate limits carry over as long as the clock does; a clock that went back (a new simulation)
starts them afresh.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.core.limits import RateLimiter, Slots

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from llmlab.core.policy import ClientPolicy


class ClientState:
    """The limits of a policy, in use.

    Args:
        policy: its `max_concurrency` and `rate_limit` become the limits of every client that shares this state.
    """

    def __init__(self, policy: ClientPolicy) -> None:
        self.policy = policy
        self.calls_in_progress = 0
        self._loop: AbstractEventLoop | None = None
        self._reset()

    def _reset(self) -> None:
        policy = self.policy
        self.calls_in_progress = 0
        self.slots = None if policy.max_concurrency is None else Slots(policy.max_concurrency)
        self.rate = None if policy.rate_limit is None else RateLimiter(policy.rate_limit)

    def bind(self, loop: AbstractEventLoop) -> None:
        """Count on this event loop from now on.

        Raises:
            RuntimeError: calls are still in progress on another loop that is open.
        """
        old = self._loop
        if old is loop:
            return
        if old is not None and self.calls_in_progress:
            if not old.is_closed():
                raise RuntimeError(
                    f"{self.calls_in_progress} calls are in progress on another event loop, and a client's limits are "
                    "counted on one loop at a time; use one client (and state) per loop, or a sync client from threads"
                )
            self._reset()  # their loop was closed under them, so they will never give their slots back
        if old is not None and loop.time() < old.time():
            self._reset()
        self._loop = loop
