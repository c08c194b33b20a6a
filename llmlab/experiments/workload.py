"""When calls arrive, and what they ask: the load of an experiment.

A *closed* workload has users who wait for their answer before they ask again, so a slow server slows its own load. An
*open* one keeps its schedule whatever the server does, and a call's latency counts from its scheduled start (no
coordinated omission). The n-th call always has the number n, whoever makes it, so its draws are the same under every
policy. Look next at `arrivals.py` (how an open workload's calls are spread), `rates.py` (how its rate changes) and
`prompts.py` (what is asked, from a file).
"""

from __future__ import annotations

import asyncio
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from llmlab.core.messages import LLMRequest, to_request
from llmlab.core.settings import Settings
from llmlab.core.timers import sleep_until
from llmlab.experiments.arrivals import Arrivals, PoissonArrivals, TraceArrivals
from llmlab.experiments.rates import Rate

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

    from llmlab.core.flow import Flow


def _as_requests(value: object) -> object:
    given = (value,) if isinstance(value, str | LLMRequest) else value
    if isinstance(given, list | tuple):
        return tuple(to_request(one) if isinstance(one, str) else one for one in given)
    return given


Requests = Annotated[
    tuple[LLMRequest, ...],
    Field(min_length=1),
    BeforeValidator(
        _as_requests, json_schema_input_type=str | Annotated[tuple[str | LLMRequest, ...], Field(min_length=1)]
    ),
]
_HELLO = (LLMRequest(prompt="Tell me something that I do not know about retries."),)


class ClosedLoop(Settings):
    """`users` who each ask, wait for the result, think, and ask again, until `calls` are made."""

    kind: Literal["closed"] = "closed"
    calls: int = Field(default=1000, ge=1)
    users: int = Field(default=10, ge=1)
    think_time: float = Field(default=0.0, ge=0)
    """Seconds between a user's result and the next call."""
    requests: Requests = _HELLO
    """What is asked: call n asks number n modulo their count. Plain texts are prompts."""

    if TYPE_CHECKING:  # requests may be plain texts, or one

        def __init__(
            self,
            *,
            calls: int = 1000,
            users: int = 10,
            think_time: float = 0.0,
            requests: str | LLMRequest | Sequence[str | LLMRequest] = ...,
        ) -> None: ...

    async def run(self, flow: Flow, *, seed: int, done: Callable[[], object] | None = None) -> None:
        """Make all calls; returns when the last has ended. `done` is called after each."""
        del seed
        numbers = iter(range(self.calls))
        calls = _Calls()
        try:
            for _ in range(min(self.users, self.calls)):
                calls.begin(flow.loop, self._user(flow, numbers, done))
            await calls.all_done()
        finally:
            await calls.stop()

    async def _user(self, flow: Flow, numbers: Iterator[int], done: Callable[[], object] | None) -> None:
        requests, think_time, loop = self.requests, self.think_time, flow.loop
        count = len(requests)
        for number in numbers:
            await flow.call(requests[number % count], number)
            if done is not None:
                done()
            if think_time:
                await sleep_until(loop, loop.time() + think_time)


class OpenLoop(Settings):
    """Calls that arrive at `rate` per second, whatever the server does.

        OpenLoop(rate=5)  # 1000 calls, Poisson
        OpenLoop(rate=5, duration=300, arrivals=BurstyArrivals(cv=3))
        OpenLoop(rate=RateSteps(points=[(0, 5), (20, 50), (30, 5)]), duration=60)
        OpenLoop(arrivals=TraceArrivals.read("calls.csv"))

    They stop at the first bound that is given: a number of `calls`, a `duration`, or a trace's end.
    """

    kind: Literal["open"] = "open"
    calls: int | None = Field(default=1000, ge=1)
    """The most calls; `None` is no bound, and the default where there is a duration. Of a trace it is its length."""
    rate: Rate | None = 5.0
    """Calls per second, or a `RateSteps` or `RateRamp` over time; `None` for a trace, which says it itself."""
    arrivals: Arrivals = PoissonArrivals()
    """How calls are spread: "poisson", "constant", "bursty", or `PoissonArrivals` and its like with their settings."""
    duration: float | None = Field(default=None, gt=0)
    """Seconds in which calls arrive; those still open at its end are finished. `None` is no bound."""
    requests: Requests = _HELLO
    """What is asked: call n asks number n modulo their count. Plain texts are prompts."""

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            calls: int | None = 1000,
            rate: Rate | None = 5.0,
            arrivals: Arrivals | Literal["poisson", "constant", "bursty"] = ...,
            duration: float | None = None,
            requests: str | LLMRequest | Sequence[str | LLMRequest] = ...,
        ) -> None: ...

    def model_post_init(self, _context: Any) -> None:
        """Settle the defaults that depend on other settings, and refuse what has no end or two rates."""
        given = self.model_fields_set  # without what is settled here, so that replace() settles it anew
        if not isinstance(self.arrivals, TraceArrivals):
            if self.duration is not None and "calls" not in given:
                self.__dict__["calls"] = None
            if self.calls is None and self.duration is None:
                raise ValueError("arrivals need an end: give a number of calls, or a duration in seconds")
            if self.rate is None:
                raise ValueError("rate must be given, in calls per second, except for recorded arrivals")
            return
        length = len(self.arrivals.recorded)
        if "calls" not in given:
            self.__dict__["calls"] = length if self.duration is None else None
        if "rate" not in given:
            self.__dict__["rate"] = None
        if self.rate is not None:
            raise ValueError("rate must be None for recorded arrivals; set arrivals.speed to replay them faster")
        if self.calls is not None and self.calls > length:
            raise ValueError(f"calls must be {length} or less, which is the trace's length, got {self.calls}")

    def times(self, seed: int) -> Iterator[float]:
        """Yield when calls arrive, in seconds since the start: the same for the same seed, whatever happens."""
        times = self.arrivals.times(seed) if self.rate is None else self.arrivals.times(seed, self.rate)
        end = self.duration
        return islice(times if end is None else takewhile(lambda time: time < end, times), self.calls)

    async def run(self, flow: Flow, *, seed: int, done: Callable[[], object] | None = None) -> None:
        """Make all calls; returns when the last has ended. `done` is called after each."""
        loop = flow.loop
        start = loop.time()
        requests, count = self.requests, len(self.requests)
        calls = _Calls()
        try:
            for number, time in enumerate(self.times(seed)):
                at = start + time
                if at > loop.time():
                    await sleep_until(loop, at)
                calls.begin(loop, _one(flow, requests[number % count], number, at, done))
            await calls.all_done()
        finally:
            await calls.stop()


async def _one(flow: Flow, request: LLMRequest, number: int, arrived: float, done: Callable[[], object] | None) -> None:
    await flow.call(request, number, arrived=arrived)
    if done is not None:
        done()


class _Calls:
    """Tasks in progress, none of which is left over. A `TaskGroup` costs 11 microseconds a call, this 2."""

    def __init__(self) -> None:
        self._open: dict[asyncio.Task[None], None] = {}  # ordered, so that stopping is the same in every run
        self._bug: BaseException | None = None
        self._waiting: asyncio.Future[None] | None = None

    def begin(self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, None]) -> None:
        """Start a task; raise the error of an earlier one."""
        if self._bug is not None:
            coroutine.close()
            raise self._bug
        task = loop.create_task(coroutine)
        self._open[task] = None
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._open[task]
        if not task.cancelled() and task.exception() is not None:
            self._bug = self._bug or task.exception()
        if self._waiting is not None and not self._waiting.done() and (self._bug is not None or not self._open):
            self._waiting.set_result(None)

    async def all_done(self) -> None:
        """Wait for the end of all tasks, or for the first error, which is raised."""
        if self._open and self._bug is None:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        if self._bug is not None:
            raise self._bug

    async def stop(self) -> None:
        """Cancel what is still in progress and wait for its cleanup."""
        for task in (left := list(self._open)):
            task.cancel()
        if left:
            await asyncio.gather(*left, return_exceptions=True)
