"""Waiting until a time that may be never, and the end of another's wait."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from llmlab.core.timers import sleep_until

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

    from llmlab.core.backend import Outcome


async def wait_until(loop: AbstractEventLoop, when: float) -> None:
    """Wait until the loop's clock shows `when`; at once if it does already, and for ever if that is `inf`."""
    if when == inf:
        await loop.create_future()  # nothing comes any more; only a timeout or a cancellation ends this
    if when > loop.time():
        await sleep_until(loop, when)


def tell(told: Future[Outcome], outcome: Outcome) -> None:
    """Say what has come of an attempt, if anybody still waits for it: its call may have been cancelled just now."""
    if not told.done():
        told.set_result(outcome)
