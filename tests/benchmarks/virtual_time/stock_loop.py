"""The stock asyncio loop on a fake selector that, instead of waiting, moves the clock."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

from tests.benchmarks.virtual_time import llmlab_client
from tests.benchmarks.virtual_time import workload as w


class _Jump(selectors.SelectSelector):
    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("deadlock: nothing is ready and no timer is armed")
        self.now += max(timeout, 0.0)
        return []


class JumpingLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop, on virtual time."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now


def run(calls: int = w.CALLS, users: int = w.USERS) -> w.Tally:
    """Run W with llmlab's client."""
    return llmlab_client.run_on(JumpingLoop, calls, users)
