"""The agenda by itself: what comes when, and that a long sweep does not slow it."""

import tracemalloc

from llmlab.experiments.experiment import Experiment
from llmlab.experiments.running.agenda import Agenda
from llmlab.experiments.running.plan import PlannedRun

EXPERIMENT = Experiment()


def runs(*numbers: int) -> list[PlannedRun]:
    return [PlannedRun(number, {}, 0, EXPERIMENT) for number in numbers]


def handed_out(agenda: Agenda) -> list[int]:
    found = []
    while batch := agenda.batch(calls=1, runs=1):
        found += [run.number for run in batch]
    return found


def test_what_is_added_comes_after_all_others():
    agenda = Agenda(runs(1, 2))
    agenda.add(runs(3))
    assert handed_out(agenda) == [1, 2, 3]


def test_what_is_added_after_the_end_comes_all_the_same():
    agenda = Agenda(runs(1))
    assert handed_out(agenda) == [1]
    agenda.add(runs(2, 3))
    assert handed_out(agenda) == [2, 3]


def test_a_sweep_that_adds_nothing_after_each_run_leaves_no_trace_of_it():
    # Each of so many left an iterator behind once, through which every later run had to come.
    agenda = Agenda(runs(1))
    tracemalloc.start()
    try:
        for _ in range(1000):
            agenda.add([])
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 10_000
    assert handed_out(agenda) == [1]
