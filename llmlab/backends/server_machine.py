"""The simulated server as a pure state machine: `now` in, effects out; it never waits and never reads a clock.

Work is measured on a *work clock*, which advances at the pace at which each request being served is worked on: at 1
where slots are independent, slower in a batch, not at all in an outage. A request that starts when the work clock shows
v and needs w ends when it shows v + w, whatever the pace does meanwhile. So a change of pace reschedules all remaining
work exactly by changing one line (clock = v + pace * (now - t)), and every arrival, end or departure costs O(log n) in
the number being served. (The virtual time of processor sharing: Parekh and Gallager, IEEE/ACM ToN 1993.)

Invariants: a request waits for a slot only while all are taken; `next_at` is when something happens by itself; of
things at one instant, what the server does comes before who arrives or leaves.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from math import inf
from typing import TYPE_CHECKING

from llmlab.backends.server_job import AWAITS_MODEL, ENDED, GONE, QUEUED, SERVED, Job
from llmlab.backends.server_loading import Loader
from llmlab.backends.server_view import ServerView

if TYPE_CHECKING:
    from llmlab.backends.server_model import ServerModel

_TOKEN, _END = range(2)


class ServerMachine:
    """A `ServerModel` at work, on a clock that starts at 0. Call `advance` at `next_at`, or later.

    Attributes:
        next_at: when something happens by itself; `inf` for never.
        ended: requests that have been served to the end since the driver last cleared the list, in order.
        begun: watched requests whose first token has come, likewise; those of which every token is watched, for each.
        view: what the server records of itself, or `None`.
    """

    def __init__(self, model: ServerModel) -> None:
        self.next_at = inf
        self.ended: list[Job] = []
        self.begun: list[Job] = []
        self.view = None if model.record_every is None else ServerView(model.record_every)
        self._slots = model.slots
        self._bound = inf if model.queue is None else model.queue
        self._lifo = model.discipline == "lifo"
        self._stops = model.on_disconnect == "stop"
        self._slowdown = model.batch_slowdown
        self._loader = None if model.load_time is None else Loader(model)
        self._turns = deque(sorted(time for outage in model.outages for time in (outage.start, outage.end)))
        self._steady = not self._turns and not self._slowdown  # the pace is always 1: the future is known
        self._out = False
        self._line: deque[Job] = deque()
        self._queued = self._busy = self._refused = self._started = 0
        self._done = self._wasted = 0.0
        self._events: list[tuple[float, int, int, Job]] = []  # (work clock, start number, what, request)
        # Those that nobody waits for: no events, only noted before the pace changes, while the line still holds.
        self._first_tokens: list[tuple[float, int, Job]] = []
        self._pace = 1.0
        self._anchor_time = self._anchor_work = 0.0
        self._loading = Job("", 0.0, 0.0)
        self._schedule()

    @property
    def waiting(self) -> int:
        """How many requests wait for a slot, or for their model."""
        return self._queued if self._loader is None else self._queued + len(self._loader)

    # ---- what happens to it

    def arrive(self, now: float, job: Job) -> bool:
        """Take a request in: serve it or let it wait. False if it is refused (503)."""
        if now >= self.next_at:
            self.advance(now)
        accepted = True
        if self._loader is not None and not self._loader.has(job.model, now, idle=not self._busy and not self._queued):
            accepted = self._loader.line_up(job)
            job.state = AWAITS_MODEL
            self._load_if_idle(now)
        elif self._busy < self._slots:
            self._start(now, job)
        elif self._queued < self._bound:
            self._line.append(job)
            self._queued += 1
            self._note(now)
            return True  # when something next happens by itself stays the same: an overload is full of such arrivals
        else:
            accepted = False
        if not accepted:
            self._refused += 1
        self._note(now)
        self._schedule()
        return accepted

    def refuse(self, now: float) -> None:
        """Count a request that is refused before it comes here."""
        self._refused += 1
        self._note(now)

    def abandon(self, now: float, job: Job) -> None:
        """Learn that a request's client has gone."""
        if now >= self.next_at:
            self.advance(now)
        if job.state >= ENDED:
            return
        job.abandoned = True
        if not self._stops:
            return
        if job.state == AWAITS_MODEL and self._loader is not None:
            self._loader.leave(job)
            self._load_if_idle(now)
        elif job.state == QUEUED:
            self._queued -= 1
        elif job.state == SERVED:
            self._wasted += self._work_clock(now) - job.began_at_work
            job.state = GONE
            self._leave_slot(now)
        job.state = GONE
        self._forget_the_gone()
        self._note(now)
        self._schedule()

    def advance(self, now: float) -> None:
        """Let everything happen that is due by now."""
        while self.next_at <= now:
            at = self.next_at
            if self._turns and self._turns[0] <= at and self._next_end() > at:
                self._turns.popleft()
                self._out = not self._out
                self._set_pace(at)
            else:
                work, number, what, job = heappop(self._events)
                if job is self._loading:
                    self._loaded(at)
                elif what == _END:
                    self._end(at, job)
                else:
                    self._token(at, job, work, number)
            self._note(at)
            self._schedule()

    def first_token_by(self, now: float, job: Job) -> bool:
        """Whether a request's first token has come by now."""
        self.advance(now)
        self._note_first_tokens(now)
        return job.first_at <= now

    # ---- serving

    def _start(self, now: float, job: Job) -> None:
        work = job.began_at_work = self._work_clock(now)
        job.state = SERVED
        self._busy += 1
        self._started = number = self._started + 1
        if self._slowdown:
            self._set_pace(now)
        if job.watch is not None:
            heappush(self._events, (work + job.first, number, _TOKEN, job))
        elif self._steady:
            job.first_at = now + job.first
        else:
            heappush(self._first_tokens, (work + job.first, number, job))
        heappush(self._events, (work + job.total, number, _END, job))

    def _token(self, at: float, job: Job, work: float, number: int) -> None:
        if job.last_token_at < 0:
            job.first_at = at
            if job.watch is not None and not job.abandoned:
                self.begun.append(job)
        elif job.watch is not None and job.watch.every_token and not job.abandoned:
            self.begun.append(job)
        job.last_token_at = at
        following = work + job.gap
        if job.watch is not None and following < job.began_at_work + job.total:
            heappush(self._events, (following, number, _TOKEN, job))

    def _end(self, at: float, job: Job) -> None:
        job.state = ENDED
        if job.first_at == inf:
            job.first_at = self._time_of(job.began_at_work + job.first)
        if job.abandoned or job.broken:
            self._wasted += job.total
        else:
            self._done += job.total
        if not job.abandoned:
            self.ended.append(job)
        self._leave_slot(at)

    def _leave_slot(self, now: float) -> None:
        """Give the slot to who is next, if anyone is."""
        self._busy -= 1
        line = self._line
        while line:
            job = line.pop() if self._lifo else line.popleft()
            if job.state == QUEUED:
                self._queued -= 1
                self._start(now, job)
                return
        if self._slowdown:
            self._set_pace(now)
        if self._loader is not None and not self._busy:
            self._loader.idle_since = now
            self._load_if_idle(now)

    def _forget_the_gone(self) -> None:
        """Keep a queue that nobody reads from filling up with requests that have gone."""
        if len(self._line) > 64 + 2 * self._queued:
            self._line = deque(job for job in self._line if job.state == QUEUED)

    # ---- loading

    def _load_if_idle(self, now: float) -> None:
        if self._loader is None or self._busy or self._queued:
            return
        job = self._loader.begin()
        if job is not None:
            self._loading.model = job.model
            heappush(self._events, (self._work_clock(now) + job.load, 0, _END, self._loading))

    def _loaded(self, at: float) -> None:
        if self._loader is None:
            return
        for job in self._loader.finish(at, self._loading.model):
            if self._busy < self._slots:
                self._start(at, job)
            else:  # it has been let in already, so the queue's bound is not asked again
                job.state = QUEUED
                self._line.append(job)
                self._queued += 1
        self._load_if_idle(at)

    # ---- the work clock

    def _work_clock(self, now: float) -> float:
        return self._anchor_work + (now - self._anchor_time) * self._pace

    def _time_of(self, work: float) -> float:
        """Return when the work clock shows this, at the present pace."""
        return self._anchor_time + (work - self._anchor_work) / self._pace if self._pace else self._anchor_time

    def _set_pace(self, now: float) -> None:
        """Change the pace of the work clock to what the number being served allows."""
        if self._first_tokens:
            self._note_first_tokens(now)
        self._anchor_work = self._work_clock(now)
        self._anchor_time = now
        self._pace = 0.0 if self._out else 1.0 / (1.0 + self._slowdown * (self._busy - 1)) if self._busy else 1.0

    def _note_first_tokens(self, now: float) -> None:
        pending, work = self._first_tokens, self._work_clock(now)
        while pending and pending[0][0] <= work:
            due, _, job = heappop(pending)
            if job.first_at == inf:
                job.first_at = self._time_of(due)

    def _next_end(self) -> float:
        """Return when the next event of the work clock is due at the present pace; those of the gone are dropped."""
        events = self._events
        while events and events[0][3].state == GONE:
            heappop(events)
        if not events or not self._pace:
            return inf
        due = self._time_of(events[0][0])
        return due if due > self._anchor_time else self._anchor_time  # noqa: FURB136 - max() costs more, twice a request

    def _schedule(self) -> None:
        due = self._next_end()
        turns = self._turns
        self.next_at = turns[0] if turns and turns[0] < due else due

    def _note(self, now: float) -> None:
        if self.view is not None:
            self.view.note((now, self.waiting, self._busy, self._done, self._wasted, self._refused))
