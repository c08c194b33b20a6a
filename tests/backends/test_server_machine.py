"""The pure machine: orders, paces, departures and loads, step by step, and laws that hold in every run."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab import Outage, ServerModel
from llmlab.backends.server_job import GONE, Job
from llmlab.backends.server_machine import ServerMachine


class Driven:
    """A machine with a driver that notes when who ends."""

    def __init__(self, **settings):
        self.machine = ServerMachine(ServerModel(**settings))
        self.ends = {}
        self.refused = []
        self.jobs = {}

    def until(self, time):
        machine = self.machine
        while machine.next_at <= time:
            at = machine.next_at
            machine.advance(at)
            self._collect(at)

    def _collect(self, at):
        for job in self.machine.ended:
            self.ends[job.waiter] = at
        self.machine.ended.clear()

    def arrive(self, time, name, work, *, model="m", first=0.0, load=0.0):
        self.until(time)
        job = self.jobs[name] = Job(model, first, work, load=load)
        job.waiter = name
        if not self.machine.arrive(time, job):
            self.refused.append(name)

    def leave(self, time, name):
        self.until(time)
        self.machine.abandon(time, self.jobs[name])

    def finish(self):
        self.until(1e9)
        return self.ends

    @property
    def rows(self):
        return list(self.machine.view.table().rows())


def test_first_come_first_served():
    server = Driven()
    for name in "abcd":
        server.arrive(0.0, name, 1.0)
    assert server.finish() == {"a": 1, "b": 2, "c": 3, "d": 4}


def test_last_come_first_served_does_not_interrupt():
    server = Driven(discipline="lifo")
    for name in "abcd":
        server.arrive(0.0, name, 1.0)
    assert server.finish() == {"a": 1, "d": 2, "c": 3, "b": 4}


def test_slots_are_independent_without_a_slowdown():
    server = Driven(slots=2)
    for name, work in [("a", 5.0), ("b", 1.0), ("c", 1.0)]:
        server.arrive(0.0, name, work)
    assert server.finish() == {"b": 1, "c": 2, "a": 5}


def test_a_bounded_queue_refuses_who_comes_too_many():
    server = Driven(slots=2, queue=1)
    for name in "abcd":
        server.arrive(0.0, name, 1.0)
    server.arrive(1.0, "e", 1.0)  # the slots are given away before it arrives
    assert server.refused == ["d"]
    assert server.finish() == {"a": 1, "b": 1, "c": 2, "e": 2}


def test_a_queue_of_nothing_serves_whom_it_has_a_slot_for():
    server = Driven(queue=0)
    for time, name in ((0.0, "a"), (0.5, "b"), (1.0, "c")):
        server.arrive(time, name, 1.0)
    assert server.refused == ["b"]
    assert server.finish() == {"a": 1, "c": 2}


@pytest.mark.parametrize(("slowdown", "count", "takes"), [(0, 4, 2.0), (1, 4, 8.0), (0.5, 3, 4.0), (0.25, 1, 2.0)])
def test_a_full_batch_slows_everybody_by_the_stated_law(slowdown, count, takes):
    server = Driven(slots=8, batch_slowdown=slowdown)
    for name in range(count):
        server.arrive(0.0, name, 2.0)
    assert set(server.finish().values()) == {takes}


def test_processor_sharing_reschedules_all_remaining_work_at_every_change():
    # Alone until 1; two until a has its 3 s: 2 s of it left at half the pace, so until 5; b has had 2 of 4 s by then.
    server = Driven(slots=10, batch_slowdown=1.0)
    server.arrive(0.0, "a", 3.0, first=2.0)
    server.arrive(1.0, "b", 4.0)
    assert server.finish() == {"a": 5, "b": 7}
    assert server.jobs["a"].first_at == 3, "half of the pace from 1 on"


def test_an_outage_stops_all_work_and_nobody_is_refused():
    server = Driven(slots=2, outages=[Outage(start=1, end=11)])
    server.arrive(0.0, "a", 2.0, first=0.5)
    server.arrive(0.0, "b", 1.0)
    server.arrive(5.0, "c", 1.0, first=0.25)
    assert server.finish() == {"b": 1, "a": 12, "c": 12}, "what is complete when it begins is not held up"
    assert (server.jobs["a"].first_at, server.jobs["c"].first_at) == (0.5, 11.25)


def test_outages_may_follow_each_other_at_once():
    server = Driven(outages=[Outage(start=2, end=3), Outage(start=1, end=2)])
    server.arrive(0.0, "a", 2.0)
    assert server.finish() == {"a": 4}


def test_a_server_that_stops_gives_the_slot_of_the_departed_to_the_next_and_forgets_who_waited():
    server = Driven()
    for name in "abc":
        server.arrive(0.0, name, 10.0)
    server.leave(4.0, "b")
    server.leave(5.0, "a")
    assert server.finish() == {"c": 15}
    assert server.rows[-1][3:5] == (10.0, 5.0), "done and wasted"


def test_a_server_that_works_on_serves_the_departed_to_the_end():
    server = Driven(on_disconnect="work_on")
    for name in "abc":
        server.arrive(0.0, name, 10.0)
    server.leave(4.0, "b")
    server.leave(5.0, "a")
    assert server.finish() == {"c": 30}
    assert server.rows[-1][3:5] == (10.0, 20.0)


def test_who_leaves_a_batch_speeds_up_the_others():
    server = Driven(slots=2, batch_slowdown=1.0)
    server.arrive(0.0, "a", 4.0)
    server.arrive(0.0, "b", 4.0)
    server.leave(4.0, "b")
    assert server.finish() == {"a": 6}
    assert server.rows[-1][4] == 2.0, "half of the pace for 4 s"


def test_who_leaves_after_the_end_changes_nothing():
    server = Driven()
    server.arrive(0.0, "a", 1.0)
    server.leave(1.0, "a")
    assert server.ends == {"a": 1}
    assert server.rows[-1][3:5] == (1.0, 0.0)


def test_a_place_in_the_queue_is_free_again_when_its_holder_has_left():
    server = Driven(queue=1)
    server.arrive(0.0, "a", 1.0)
    server.arrive(0.0, "b", 1.0)
    server.leave(0.5, "b")
    server.arrive(0.5, "c", 1.0)
    assert (server.refused, server.finish()) == ([], {"a": 1, "c": 2})


def test_a_queue_does_not_fill_up_with_the_departed():
    server = Driven(discipline="lifo")
    server.arrive(0.0, "a", 1e6)
    for number in range(10_000):
        server.arrive(1.0, number, 1.0)
        server.leave(1.0, number)
    assert len(server.machine._line) < 100
    assert all(server.jobs[number].state == GONE for number in range(10_000))


# ---- loading


def test_the_first_request_waits_for_the_model_and_the_others_with_it():
    server = Driven(load_time=0, slots=2)
    server.arrive(0.0, "a", 1.0, load=5.0)
    server.arrive(3.0, "b", 1.0, load=7.0)
    server.arrive(9.0, "c", 1.0, load=7.0)
    assert server.finish() == {"a": 6, "b": 6, "c": 10}


def test_another_model_waits_until_the_loaded_one_is_idle_and_is_overtaken():
    server = Driven(load_time=0)
    server.arrive(0.0, "a", 2.0, model="A", load=1.0)
    server.arrive(1.5, "b", 2.0, model="B", load=1.0)
    server.arrive(2.0, "a2", 2.0, model="A", load=1.0)
    server.arrive(2.5, "b2", 2.0, model="B", load=1.0)
    assert server.finish() == {"a": 3, "a2": 5, "b": 8, "b2": 10}


def test_a_model_is_unloaded_after_its_keep_alive():
    server = Driven(load_time=0, keep_alive=10)
    for time, name in ((0.0, "cold"), (15.0, "warm"), (26.0, "cold again")):
        server.arrive(time, name, 1.0, load=5.0)
    assert server.finish() == {"cold": 6, "warm": 16, "cold again": 32}


def test_of_those_who_need_a_load_one_is_at_the_head_and_few_may_wait():
    server = Driven(load_time=0, load_queue=1)
    for name in "abcd":
        server.arrive(0.0, name, 1.0, load=5.0)
    assert server.refused == ["c", "d"]
    assert server.finish() == {"a": 6, "b": 7}


def test_a_load_goes_on_when_the_one_it_is_for_has_left():
    server = Driven(load_time=0)
    server.arrive(0.0, "a", 1.0, load=5.0)
    server.arrive(1.0, "b", 1.0, load=5.0)
    server.leave(2.0, "a")
    assert server.finish() == {"b": 6}


def test_who_leaves_before_the_load_begins_is_not_loaded_for():
    server = Driven(load_time=0)
    server.arrive(0.0, "a", 3.0, model="A", load=1.0)
    server.arrive(1.5, "b", 1.0, model="B", load=1.0)
    server.arrive(1.5, "c", 1.0, model="C", load=1.0)
    server.leave(2.0, "b")
    assert server.finish() == {"a": 4, "c": 6}


def test_a_load_stands_still_in_an_outage_too():
    server = Driven(load_time=0, outages=Outage(start=2, end=12))
    server.arrive(0.0, "a", 1.0, load=5.0)
    assert server.finish() == {"a": 16}


# ---- laws

quarters = st.integers(0, 40).map(lambda n: n / 4)  # exact sums, and many things at one instant, where the bugs are
REQUESTS = st.lists(st.tuples(quarters, quarters, st.none() | quarters, st.sampled_from("AB")), max_size=25)
MODELS = st.fixed_dictionaries(
    {
        "slots": st.integers(1, 4),
        "queue": st.none() | st.integers(0, 5),
        "discipline": st.sampled_from(["fifo", "lifo"]),
        "on_disconnect": st.sampled_from(["stop", "work_on"]),
        "batch_slowdown": st.sampled_from([0.0, 0.5, 1.0]),
        "outages": st.sampled_from([(), (Outage(start=3, end=7),)]),
    }
)
LOADING = st.sampled_from([{}, {"load_time": 0.0}, {"load_time": 0.0, "load_queue": 1, "keep_alive": 2.0}])


@settings(max_examples=150)
@given(REQUESTS, MODELS, LOADING)
def test_the_laws_of_a_queue_hold_in_every_run(requests, model, loading):
    server = Driven(**model, **loading)
    arrived, left = {}, {}
    steps = [(at, 1, number) for number, (at, _, _, _) in enumerate(requests)]
    steps += [(at + after, 0, number) for number, (at, _, after, _) in enumerate(requests) if after is not None]
    for time, arriving, number in sorted(steps):
        if arriving:
            server.arrive(time, number, requests[number][1], model=requests[number][3], load=1.25)
            arrived[number] = time
        elif number in arrived and number not in server.refused:
            server.leave(time, number)
            left[number] = time
    ends = server.finish()
    rows = server.rows

    # Everybody is refused, answered, or has left; nobody is left behind.
    accepted = set(arrived) - set(server.refused)
    assert set(ends) | (accepted & set(left)) == accepted
    assert rows[-1][1:3] == (0, 0)
    assert rows[-1][5] == len(server.refused)
    assert all(row[2] <= model["slots"] for row in rows)
    # Times never run back, and counters never count down.
    for one, other in itertools.pairwise(rows):
        assert one[0] <= other[0]
        assert one[3] <= other[3] + 1e-9
        assert one[4] <= other[4] + 1e-9

    # A slot idles only while nobody waits who could have it (with models to load, somebody may wait for his).
    if not loading and not model["batch_slowdown"]:
        assert all(row[1] == 0 for row in rows if row[2] < model["slots"])

    # Little's law: the integral of those in the system is the sum of their times in it.
    if model["on_disconnect"] == "stop":
        stays = sum(ends.get(number, left.get(number, math.inf)) - arrived[number] for number in accepted)
        assert integral(rows, 1) + integral(rows, 2) == pytest.approx(stays, abs=1e-6)

    # Work is conserved: what slots have done is done or wasted.
    if not model["batch_slowdown"] and not model["outages"]:
        assert integral(rows, 2) == pytest.approx(rows[-1][3] + rows[-1][4], abs=1e-6)


def integral(rows, column):
    return sum(one[column] * (other[0] - one[0]) for one, other in itertools.pairwise(rows))


@settings(max_examples=50)
@given(st.lists(st.tuples(quarters, quarters), max_size=20), st.sampled_from([0.0, 1.0]))
def test_a_late_driver_finds_the_same_ends(requests, slowdown):
    """What is due happens at its own time, however late the machine is asked to advance (a busy real loop)."""
    prompt = Driven(slots=2, batch_slowdown=slowdown)
    late = ServerMachine(ServerModel(slots=2, batch_slowdown=slowdown))
    for number, (at, work) in enumerate(sorted(requests)):
        prompt.arrive(at, number, work)
        late.arrive(at, Job("m", 0.0, work))
    prompt.finish()
    late.advance(1e9)
    assert len(late.ended) == len(prompt.ends)
    assert list(late.view.table().rows())[-1] == prompt.rows[-1]
