"""llmlab's client on other people's virtual-time loops."""

from __future__ import annotations

import math
from typing import Any

import async_solipsism
import looptime

from tests.benchmarks.virtual_time import llmlab_client
from tests.benchmarks.virtual_time import workload as w

_TICK_S = 1e-6


class _Solipsism(async_solipsism.EventLoop):  # type: ignore[misc]  # untyped
    """async-solipsism, with timers that are due at a whole tick of its clock and a tick late.

    It would spin for ever at a timer that is less than half a tick away, and fires others up to a tick early, which
    the client, who compares the clock with its deadlines, meets by waiting again.
    """

    def call_at(self, when: float, *args: Any, **options: Any) -> Any:
        return super().call_at((math.ceil(when / _TICK_S) + 1) * _TICK_S, *args, **options)


def run_solipsism(calls: int = w.CALLS, users: int = w.USERS) -> w.Tally:
    """Run W on async-solipsism."""
    return llmlab_client.run_on(_Solipsism, calls, users)


def run_looptime(calls: int = w.CALLS, users: int = w.USERS) -> w.Tally:
    """Run W on looptime."""
    return llmlab_client.run_on(looptime.new_event_loop, calls, users)
