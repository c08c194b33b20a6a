"""A client that lives: asked, cancelled, read from, left in any order while the weather changes; looked at each step.

What fails is printed as the steps that lead there.
"""

import asyncio
import os

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from llmlab import AsyncClient, EventLog, Experiment
from llmlab.core.client import OUTERMOST
from llmlab.core.streams import streaming
from llmlab.virtual_time import VirtualLoop
from tests.laws import laws
from tests.laws.recording import Counts, Record, gauged, note_what_is_left
from tests.laws.worlds import FAULTY, POLICIES, World, quarters

HELD = (
    laws.nothing_is_left_over,
    laws.every_attempt_has_exactly_one_event,
    laws.every_call_has_exactly_one_event,
    laws.attempts_are_bounded,
    laws.times_conserve,
    laws.no_call_outlives_its_deadline,
    laws.every_wait_says_why,
    laws.in_flight_never_exceeds_the_limit,
    laws.no_window_holds_more_than_the_rate,
    laws.budgets_bound_amplification,
    laws.shared_counts_stay_within_their_bounds,
    laws.a_fate_has_its_reason,
)
"""The laws that need nothing but events and what is left; the others look at a world's own visitors."""


class Weather:
    """One of two servers answers, and which one may change at any time."""

    simulated = True

    def __init__(self, servers):
        self.servers, self.which = servers, 0

    async def attempt(self, request, *, timeouts, key):
        return await self.servers[self.which].attempt(request, timeouts=timeouts, key=key)

    def stream(self, request, *, timeouts, key):
        return streaming(self.servers[self.which])(request, timeouts=timeouts, key=key)


class LivingClient(RuleBasedStateMachine):
    """Steps a client by hand, on a virtual loop that runs only as far as a step says."""

    @initialize(servers=st.tuples(FAULTY, FAULTY), policy=POLICIES)
    def is_born(self, servers, policy):
        self.loop, self.policy, self.weather = VirtualLoop(), policy, Weather(servers)
        self.record = Record(World(Experiment(policy=policy)), Counts(foreseen=False), EventLog())
        self.complaints = self.record.left["complaints"] = []
        self.loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        backend = gauged(self.weather, OUTERMOST, self.record.counts)
        self.client = self.record.client = AsyncClient(backend, policy, observers=[self.record.log], seed=1)
        self.tasks, self.streams, self.readers = [], [], {}

    def passes(self, seconds):
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def does(self, what):
        task = self.loop.create_task(what)
        self.tasks.append(task)
        self.passes(0.0)
        return task

    @rule(seconds=st.just(0.0) | quarters)
    def time_passes(self, seconds):
        self.passes(seconds)

    @rule()
    def is_asked(self):
        self.does(self.client.generate("Hello"))

    @rule()
    def is_asked_for_many(self):
        async def all_of_them():
            return await self.client.generate_many(["one", "two", "three"], concurrency=2)

        self.does(all_of_them())

    @precondition(lambda self: self.tasks)
    @rule(which=st.integers(0, 100))
    def somebody_leaves(self, which):
        self.tasks[which % len(self.tasks)].cancel()
        self.passes(0.0)

    @rule()
    def a_stream_is_opened(self):
        self.streams.append(self.client.stream("Hello"))
        self.loop.run_until_complete(self.streams[-1].begin())

    @precondition(lambda self: self.streams)
    @rule(which=st.integers(0, 100))
    def a_piece_is_asked_for(self, which):
        stream = self.streams[which % len(self.streams)]
        if stream not in self.readers or self.readers[stream].done():
            self.readers[stream] = self.does(stream.next_piece())

    @precondition(lambda self: self.streams)
    @rule(which=st.integers(0, 100))
    def a_stream_is_closed(self, which):
        self.loop.run_until_complete(self.streams[which % len(self.streams)].aclose())

    @rule()
    def the_weather_changes(self):
        self.weather.which = 1 - self.weather.which

    @invariant()
    def limits_hold(self):
        state, policy, counts = self.client.state, self.policy, self.record.counts
        assert counts.inside <= laws.most_in_flight(policy)
        slots = state.slots
        if slots is not None:
            assert counts.inside <= slots.in_use <= laws.most_in_flight(policy)
            assert not slots.waiting or slots.in_use >= slots.limit
            assert policy.max_queue is None or len(slots.waiting) <= policy.max_queue
        assert policy.budget is None or 0 <= state.guard.budget.level <= policy.budget.capacity

    @invariant()
    def events_keep_up(self):
        log, counts = self.record.log, self.record.counts
        known = len(log.attempts) + counts.inside
        assert known <= counts.begun.total()
        # Of a client that hedges the last failure of a race is told when its race is over.
        assert self.policy.hedging is not None or known == counts.begun.total()

    def teardown(self):
        if not hasattr(self, "loop"):
            return
        for task in self.tasks:  # each of them could still wait for a reader, or for a rate limit for ever
            task.cancel()
        self.loop.run_until_complete(self.ends())
        assert [task.exception() for task in self.tasks if not task.cancelled() and task.exception()] == []
        for law in HELD:
            law(self.record)
        self.loop.close()

    async def ends(self):
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for stream in self.streams:
            await stream.aclose()
        await self.client.aclose()
        note_what_is_left(self.record, [self.client.state])


LivingClient.TestCase.settings = settings(
    max_examples=1000 if os.environ.get("HYPOTHESIS_PROFILE") == "explore" else 60, stateful_step_count=25
)
TestLivingClient = LivingClient.TestCase
