"""What a virtual-time run can fail with.

All of these are `RuntimeError`s and none is an `OSError`: libraries retry an `OSError` as a network failure, and a
program that cannot run on a simulated clock must never look like one that met a bad network. `loop.py` raises the
errors of time itself (deadlock, livelock, limits), `refusals.py` the ones of the outside world.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmlab.virtual_time.waiting import WaitingTask

_LISTED = 50


class VirtualTimeError(RuntimeError):
    """A program could not be run on virtual time; every error of this package derives from it."""


class NotInVirtualTime(VirtualTimeError):
    """A call needs the outside world (a socket, a thread, a signal), where a simulated clock means nothing."""


class VirtualRunError(VirtualTimeError):
    """A run was given up; `waiting` has every unfinished task, and the message the first 50 of them."""

    def __init__(self, what: str, *, waiting: Sequence[WaitingTask]) -> None:
        self.what = what
        self.waiting = tuple(waiting)
        super().__init__(what, self.waiting)

    def __str__(self) -> str:
        lines = [f"  {task}" for task in self.waiting[:_LISTED]]
        if len(self.waiting) > _LISTED:
            lines.append(f"  and {len(self.waiting) - _LISTED} more; all are in the error's attribute 'waiting'")
        return "\n".join([self.what, *(lines or ["  (there is no unfinished task)"])])


class VirtualDeadlock(VirtualRunError):
    """Nothing is ready and no timer is armed, so nothing can ever happen again."""


class VirtualLivelock(VirtualRunError):
    """Callbacks keep running and time does not move: somebody polls with `sleep(0)`, or re-arms a timer for now."""


class VirtualTimeLimit(VirtualRunError):
    """The run reached `max_time` and still had something to do."""


class VirtualStepLimit(VirtualRunError):
    """The run reached `max_steps` and still had something to do."""
