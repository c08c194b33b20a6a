"""A `ServerMachine` on an event loop: its clock, its one timer, its effects, and the patience of those who wait.

The machine is pure; here time passes for it. The timer is for when something happens by itself, and each request has a
future, its `waiter`, which the machine's effects resolve. Who comes and goes is in `served_mock.py`.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, NamedTuple

from llmlab.backends.fault_effects import no_first_byte, stalled
from llmlab.backends.faults import FaultKind
from llmlab.backends.server_job import ENDED
from llmlab.backends.server_machine import ServerMachine
from llmlab.core.backend import Timeouts

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, TimerHandle

    from llmlab.backends.server_job import Job
    from llmlab.backends.server_model import ServerModel
    from llmlab.backends.server_view import ServerView
    from llmlab.core.backend import AttemptFailure

_STALL = FaultKind.STALL  # 3.11 looks an enumeration's member up in Python each time, a module's name not


class _Watch(NamedTuple):
    """Who watches a request's tokens come: a client whose patience may run out, or one whose tokens have stopped."""

    timeouts: Timeouts
    patience: float
    frozen: bool
    every_token: bool = False  # only the first: from then on it looks again by itself


class DrivenMachine:
    """A server at work; `machine` is the server itself. What it does is passed on when it is settled."""

    def __init__(self, model: ServerModel, loop: AbstractEventLoop) -> None:
        self.machine = ServerMachine(model)
        self._loop = loop
        self._origin = loop.time()
        self._reached = 0.0
        self._slowest = 1.0 + model.batch_slowdown * (model.slots - 1)
        self._out_for = sum(outage.end - outage.start for outage in model.outages)
        self._timer: TimerHandle | None = None
        self._armed_for = inf

    @property
    def view(self) -> ServerView | None:
        """The server's own view; `None` where the model keeps none."""
        return self.machine.view

    def _now(self) -> float:
        return max(self._loop.time() - self._origin, self._reached)

    def _reach(self, due: float) -> None:
        """Let everything happen that is due by the time that a timer was set for.

        That time has come, even where a rounding puts it after now: else the timer would be set for it again, for ever.
        """
        self._reached = max(self._reached, due)
        self.machine.advance(self._now())

    def _settle(self) -> None:
        """Pass on what the machine has done, and set the timer for what it will do by itself."""
        machine = self.machine
        if machine.ended:
            for job in machine.ended:
                if not (job.waiter.done() or (job.watch is not None and job.watch.frozen)):
                    job.waiter.set_result(None)
            machine.ended.clear()
        if machine.begun:
            for job in machine.begun:
                if job.watch.every_token:
                    job.watch.note(self._loop.time())
                else:
                    self._wait_for_token(job)
            machine.begun.clear()
        if machine.next_at < self._armed_for:  # a timer that is too early only asks again
            if self._timer is not None:
                self._timer.cancel()
            self._armed_for = machine.next_at
            self._timer = self._loop.call_at(self._origin + machine.next_at, self._wake)

    def _wake(self) -> None:
        self._reach(self._armed_for)
        self._armed_for, self._timer = inf, None
        self._settle()

    def _gone(self, job: Job) -> None:
        self.machine.abandon(self._now(), job)
        self._settle()

    def _give_up(self, job: Job, failure: AttemptFailure) -> None:
        """End an attempt whose client has run out of patience."""
        self._gone(job)
        if not job.waiter.done():
            job.waiter.set_result(failure)

    def _no_first_byte(self, job: Job, timeouts: Timeouts) -> None:
        if not self.machine.first_token_by(self._now(), job) and not job.waiter.done():
            self._give_up(job, no_first_byte(timeouts))
        self._settle()

    def _watch(self, timeouts: Timeouts, job: Job, fault: FaultKind | None) -> _Watch | None:
        """Make each token an event, at its cost, where two of them may come too far apart for this client."""
        patience, frozen = timeouts.between_chunks, fault is _STALL
        if frozen or (patience is not None and job.gap * self._slowest + self._out_for > patience):
            return _Watch(timeouts, inf if patience is None else patience, frozen)
        return None

    def _wait_for_token(self, job: Job) -> None:
        """Give up if no token has come for too long, else look again when that would be so."""
        now = self._now()
        watch: _Watch = job.watch
        if job.waiter.done() or (job.state == ENDED and not watch.frozen):
            return
        due = (job.first_at if watch.frozen else job.last_token_at) + watch.patience
        if due <= now:
            self._give_up(job, stalled(watch.timeouts))
        elif due < inf:
            self._loop.call_at(self._origin + due, self._look_again, job, due)

    def _look_again(self, job: Job, due: float) -> None:
        self._reach(due)
        self._settle()
        self._wait_for_token(job)
