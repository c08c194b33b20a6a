"""One setting, run: a backend, a policy, a workload and a seed.

It runs the very client that an application runs. Where the backend is simulated, it does so under virtual time; else
in real time. Made of llmlab's own parts it is plain data as well, which rebuild it: a file can hold it, and the bytes
of `canonical_json` tell it apart from every other. Look next at `sweep.py`, which runs many.
"""

from __future__ import annotations

import asyncio
import functools
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field

from llmlab import virtual_time
from llmlab.backends.fallback import Fallback
from llmlab.backends.kinds import as_backend
from llmlab.backends.layer import Layer
from llmlab.backends.mock import MockBackend
from llmlab.backends.server_view import ServerView
from llmlab.backends.with_faults import WithFaults
from llmlab.core.backend import no_backend
from llmlab.core.chance import derived
from llmlab.core.client import AsyncClient
from llmlab.core.event_log import EventLog
from llmlab.core.plain_data import canonical_json, plain_data
from llmlab.core.policy import ClientPolicy
from llmlab.core.settings import Settings, SettingsError
from llmlab.experiments.collecting import collecting_rarely
from llmlab.experiments.readable import settings_by_path
from llmlab.experiments.runs import Run, RunLog
from llmlab.experiments.stop_signal import StopSignal
from llmlab.experiments.workload import ClosedLoop, OpenLoop
from llmlab.sync import LoopThread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from llmlab.core.backend import Backend
    from llmlab.core.events import Observer
    from llmlab.experiments.sweep_result import SweepResult


class Experiment(Settings):
    """A backend under a policy and a workload. The seed fixes all chance: the server's, the jitter's, the arrivals'.

    Args:
        backend: a `MockBackend` (default), another of llmlab's (also as a table with its `kind`), or your own.
        policy: the client's.
        workload: `ClosedLoop` or `OpenLoop`.
        seed: any integer; it replaces the backend's own.

    Raises:
        SettingsError: a setting has a wrong name, type or value.
    """

    backend: Annotated[Any, BeforeValidator(as_backend)] = MockBackend()
    policy: ClientPolicy = ClientPolicy()
    workload: Annotated[ClosedLoop | OpenLoop, Field(discriminator="kind")] = ClosedLoop()
    seed: int = 0

    def model_post_init(self, _context: Any) -> None:
        """Refuse what cannot serve as a backend."""
        why = no_backend(self.backend)
        if why is not None:
            raise ValueError(f"backend: {why}")

    @property
    def simulated(self) -> bool:
        """Whether it runs under virtual time."""
        return bool(getattr(self.backend, "simulated", False))

    def to_dict(self) -> dict[str, Any]:
        """Return everything that decides the result, as plain data; `Experiment(**data)` is an equal experiment.

        Raises:
            SettingsError: it holds what no file can hold, such as a backend of your own; the message names it.
        """
        data: dict[str, Any] = plain_data(self)
        return data

    def canonical_json(self) -> bytes:
        """Return `to_dict()` as JSON of one spelling: the bytes by which two experiments are the same or are not.

        Raises:
            SettingsError: as `to_dict`.
        """
        return canonical_json(self.to_dict())

    @property
    def portable(self) -> bool:
        """Whether it is made of llmlab's own parts only, so that it can be written to a file."""
        try:
            self.to_dict()
        except SettingsError:
            return False
        return True

    def run(self, *, stop: StopSignal | None = None) -> SweepResult:
        """Run it, and return its events as data frames.

        Works in a notebook cell and in scripts. In real time Ctrl-C ends it.

        Args:
            stop: ends the run when it is set, by any thread, whatever the run is waiting for.

        Raises:
            asyncio.CancelledError: it was stopped.
        """
        from llmlab.experiments.sweep_result import SweepResult  # noqa: PLC0415 - a second of pandas and scipy

        record = self.record(stop=stop)
        return SweepResult([], [Run({}, 0, self.seed, record)], planned=1, settings=settings_by_path(self))

    async def run_async(self) -> SweepResult:
        """Run it while the event loop goes on with other work. To cancel it ends the run."""
        stop = StopSignal()
        running = asyncio.ensure_future(asyncio.to_thread(self.run, stop=stop))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            stop.set("cancelled")
            await asyncio.wait([running])
            raise

    def record(
        self,
        *,
        done: Callable[[], object] | None = None,
        observers: Iterable[Observer] = (),
        stop: StopSignal | None = None,
    ) -> RunLog:
        """Run it and return the raw events.

        Args:
            done: called after each call, on the thread that runs them; what it raises ends the run.
            observers: receive the events as well.
            stop: ends the run when it is set, whatever the run is waiting for.

        Raises:
            asyncio.CancelledError: it was stopped.
        """
        began = time.perf_counter()
        main = self._main(done, observers, stop)
        if self.simulated:
            with collecting_rarely():
                log, started, server = virtual_time.run(main)
        else:
            log, started, server = LoopThread.shared().run(lambda: main)
        return RunLog(log, started, time.perf_counter() - began, server)

    async def _main(
        self, done: Callable[[], object] | None, observers: Iterable[Observer], stop: StopSignal | None
    ) -> tuple[EventLog, float, ServerView | None]:
        log = EventLog()
        client = AsyncClient(seeded(self.backend, self.seed), self.policy, observers=[log, *observers], seed=self.seed)
        started = asyncio.get_running_loop().time()
        with nullcontext() if stop is None else _cancelled_by(stop):
            async with client:
                flow = client.flow()
                await self.workload.run(flow, seed=self.seed, done=done)
                server = client.view
        return log, started, server if isinstance(server, ServerView) else None


def _cancelled_by(stop: StopSignal) -> AbstractContextManager[None]:
    """Within it, the signal cancels the task that runs now."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    if isinstance(loop, virtual_time.VirtualLoop):
        return stop.calling(loop.cancel_main_from_another_thread)
    return stop.calling(lambda: loop.call_soon_threadsafe(task.cancel) if task is not None else None)


@functools.singledispatch
def seeded(backend: Backend, seed: int) -> Backend:
    """Return the backend with its chance fixed by this seed. One of your own may have a method `seeded(seed)`."""
    own = getattr(backend, "seeded", None)
    changed: Backend = backend if own is None else own(seed)
    return changed


@seeded.register
def _(backend: MockBackend, seed: int) -> MockBackend:
    changed: MockBackend = backend.replace(seed=seed)
    return changed


@seeded.register
def _(backend: WithFaults, seed: int) -> WithFaults:
    changed: WithFaults = backend.replace(backend=seeded(backend.backend, seed), seed=seed)
    return changed


@seeded.register
def _(backend: Layer, seed: int) -> Layer:
    changed: Layer = backend.replace(backend=seeded(backend.backend, seed), seed=seed)
    return changed


@seeded.register
def _(backend: AsyncClient, seed: int) -> AsyncClient:
    return backend.over(seeded(backend.backend, seed), seed)


@seeded.register
def _(backend: Fallback, seed: int) -> Fallback:
    seeds = (derived(seed, place) if place else seed for place in range(len(backend.targets)))
    targets = [seeded(target, one) for target, one in zip(backend.targets, seeds, strict=True)]
    changed: Fallback = backend.replace(targets=targets)
    return changed
