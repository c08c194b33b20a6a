"""Runs a world under virtual time and keeps what the laws look at: events, results, and what was left behind."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from llmlab import AsyncClient, ClientPolicy, EventLog, Fallback, Layer, WithFaults
from llmlab.core.backend import LayeredBackend
from llmlab.core.client import OUTERMOST
from llmlab.core.streams import StreamedAttempt, streaming
from llmlab.experiments.experiment import seeded
from llmlab.virtual_time import run

VISITORS = "visitors"


class Gauge:
    """Counts the attempts on their way to a backend: those begun, by call, and those that are there at once."""

    simulated = True

    def __init__(self, backend, layer, counts):
        self.backend, self.layer, self.counts = backend, layer, counts

    def session(self):
        inner = self.backend.session() if hasattr(self.backend, "session") else self.backend
        foreseen = self.counts.foreseen and callable(getattr(type(inner), "begin", None))
        return (_ForeseenSession if foreseen else _Session)(inner, self.layer, self.counts)

    async def attempt(self, request, *, timeouts, key):
        raise AssertionError("its session is asked")


class LayeredGauge(Gauge):
    """The same before a backend that has clients inside it."""

    def observed_by(self, observers, above):
        return LayeredGauge(self.backend.observed_by(observers, above), self.layer, self.counts)


@dataclass
class Counts:
    """What gauges that stand before one set of limits have counted together."""

    foreseen: bool = True
    begun: Counter = field(default_factory=Counter)
    inside: int = 0
    most: int = 0

    def enters(self, layer, key):
        self.begun[layer, key.call] += 1
        self.inside += 1
        self.most = max(self.most, self.inside)


class _Session:
    def __init__(self, inner, layer, counts):
        self.inner, self.layer, self.counts = inner, layer, counts
        self.begins_stream = streaming(inner)

    async def attempt(self, request, *, timeouts, key):
        self.counts.enters(self.layer, key)
        try:
            return await self.inner.attempt(request, timeouts=timeouts, key=key)
        finally:
            self.counts.inside -= 1

    def stream(self, request, *, timeouts, key):
        return StreamedAttempt(self._steps(request, timeouts, key))

    async def _steps(self, request, timeouts, key):
        self.counts.enters(self.layer, key)
        stream = self.begins_stream(request, timeouts=timeouts, key=key)
        try:
            async for piece in stream:
                yield piece
        finally:
            self.counts.inside -= 1
            await stream.aclose()
        yield stream.outcome

    async def aclose(self):
        if hasattr(self.inner, "aclose"):
            await self.inner.aclose()


class _ForeseenSession(_Session):
    """Of a server that knows at once what will come of an attempt, the flow waits for the outcome itself."""

    def begin(self, request, timeouts, key, limit):
        self.counts.begun[self.layer, key.call] += 1
        return self.inner.begin(request, timeouts, key, limit)


@dataclass
class Read:
    """What a reader has met: the stream, and when they had its first piece."""

    stream: Any = None
    first_at: float = math.inf


@dataclass
class Record:
    """A run, over."""

    world: Any
    counts: Counts
    log: EventLog = field(default_factory=EventLog)  # of the workload's client, and in the end of both
    results: list = field(
        default_factory=list
    )  # of the visits: a result, a batch's results, a Read, or what was raised
    cancelled_at: dict = field(default_factory=dict)  # by the visit's place
    left: dict = field(default_factory=dict)  # what was left behind, by name: all of it empty or 0
    client: AsyncClient | None = None

    @property
    def groups(self):
        """Yield each set of limits: its policy, and the attempts and calls that it held for."""
        policies = {OUTERMOST: self.world.experiment.policy, **policies_inside(self.world.experiment.backend)}
        names = dict.fromkeys(policies)
        for name in names:
            layers = {name, VISITORS if name == OUTERMOST else f"{VISITORS}/{name}"}
            yield Group(
                policies[name],
                [attempt for attempt in self.log.attempts if attempt.layer in layers],
                [call for call in self.log.calls if call.layer in layers],
            )


@dataclass
class Group:
    """What happened under one set of limits."""

    policy: ClientPolicy
    attempts: list
    calls: list

    def __post_init__(self):
        self.by_call = defaultdict(list)
        for attempt in sorted(self.attempts, key=lambda attempt: attempt.attempt):
            self.by_call[attempt.layer, attempt.call].append(attempt)

    def attempts_of(self, call):
        return self.by_call.get((call.layer, call.call), [])


def policies_inside(backend):
    """Return the policies of the clients inside a backend, by the names of their layers."""
    if isinstance(backend, Layer):
        return {backend.name: backend.policy, **policies_inside(backend.backend)}
    if isinstance(backend, Fallback):
        return {name: policy for target in backend.targets for name, policy in policies_inside(target).items()}
    return policies_inside(backend.backend) if isinstance(backend, WithFaults) else {}


def states_inside(backend, loop):
    """Yield the limits of the clients inside a backend, and the simulated servers, that were used on a loop."""
    if isinstance(backend, Layer) and loop in backend._states:
        yield backend._states[loop]
    for inner in getattr(backend, "targets", ()) or filter(None, [getattr(backend, "backend", None)]):
        yield from states_inside(inner, loop)


def gauged(backend, layer, counts):
    return (LayeredGauge if isinstance(backend, LayeredBackend) else Gauge)(backend, layer, counts)


def recorded(world, observers=()):
    """Run a world and return its record."""
    record = Record(world, Counts(world.foreseen))
    run(_live(record, observers), max_steps=50_000)
    return record


async def _live(record, observers):
    world, loop = record.world, asyncio.get_running_loop()
    complaints = record.left["complaints"] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    experiment, log, counts = world.experiment, record.log, record.counts
    theirs = EventLog()
    backend, seed = seeded(experiment.backend, experiment.seed), experiment.seed
    main = AsyncClient(gauged(backend, OUTERMOST, counts), experiment.policy, observers=[log, *observers], seed=seed)
    visitors = AsyncClient(
        gauged(backend, VISITORS, counts), experiment.policy, observers=[theirs, *observers], seed=seed + 1,
        state=main.state, layer=VISITORS,
    )  # fmt: skip
    record.client = main
    closing = loop.create_task(_close([main, visitors], world.closed_at))
    load = experiment.workload.run(main.flow(), seed=seed)
    visits = (_visit(record, visitors, place, visit) for place, visit in enumerate(world.visits))
    _, *record.results = await asyncio.gather(load, *visits)
    closing.cancel()
    await asyncio.gather(closing, return_exceptions=True)
    await _close([main, visitors], 0.0)
    # Both clients number their calls from 0, and so those inside: the layers' names tell them apart.
    for events, receive in ((theirs.attempts, log.on_attempt), (theirs.calls, log.on_call)):
        for event in events:
            receive(event if event.layer == VISITORS else event._replace(layer=f"{VISITORS}/{event.layer}"))
    note_what_is_left(record, [main.state, *states_inside(backend, loop)])


async def _close(clients, at):
    if at is not None:
        await asyncio.sleep(at)
        for client in clients:
            await client.aclose()


def note_what_is_left(record, states):
    """Note what the loop, the limits and the gauge say is still there, now that all is over."""
    left, loop = record.left, asyncio.get_running_loop()
    left["tasks"] = asyncio.all_tasks() - {asyncio.current_task()}
    # Only a server that works on for nobody has something to do still, and one whose model is loaded or out.
    left["timers"] = [timer for timer in loop._timers if not timer.cancelled() and "DrivenMachine" not in repr(timer)]
    left["attempts at the backend"] = record.counts.inside
    left["calls"] = sum(state.calls_in_progress for state in states)
    slots = [state.slots for state in states if state.slots is not None]
    left["slots"] = sum(one.in_use for one in slots)
    left["waiting"] = sum(len(one.waiting) for one in slots)
    breakers = [state.guard.breaker for state in states if state.guard is not None and state.guard.breaker is not None]
    left["probes"] = sum(breaker._probes_out for breaker in breakers)


async def _visit(record, client, place, visit):
    await asyncio.sleep(visit.at)
    call = asyncio.create_task({"answer": _ask, "batch": _ask_many, "stream": _read}[visit.wants](client, visit))
    end = asyncio.create_task(_cancel(record, place, call, *visit.cancelled)) if visit.cancelled else None
    (result,) = await asyncio.gather(call, return_exceptions=True)
    if end is not None:
        end.cancel()
        await asyncio.gather(end, return_exceptions=True)
    return result


async def _ask(client, _):
    return await client.generate("Hello")


async def _ask_many(client, _):
    return await client.generate_many(["one", "two", "three"], concurrency=2)


async def _read(client, visit):
    """Read a stream at the reader's pace; a cancellation is part of the story, and what was read by then stays."""
    read = Read()
    try:
        async with client.stream("Hello") as read.stream:
            for number in itertools.count(1):
                await asyncio.sleep(visit.pace)
                if number == visit.leaves_after or await read.stream.next_piece() is None:
                    break
                read.first_at = min(read.first_at, asyncio.get_running_loop().time())
    except asyncio.CancelledError:
        if read.stream is None:
            raise
    return read


async def _cancel(record, place, call, after, turns):
    await asyncio.sleep(after)
    for _ in range(turns):
        await asyncio.sleep(0)
    if call.cancel():
        record.cancelled_at[place] = asyncio.get_running_loop().time()
