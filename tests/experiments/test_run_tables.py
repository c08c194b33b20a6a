"""Reading a result's events as Arrow tables; what is read is tested in `test_sweep_result.py`."""

import weakref

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmlab.experiments.run_tables import EventsInMemory


class Made(EventsInMemory):
    def _table(self, name):
        numbers = np.arange(1000)
        self.numbers_alive = weakref.ref(numbers)
        return pa.table({"run": numbers})


def test_no_thread_of_arrows_holds_what_was_read_which_would_abort_a_program_that_ends_then():
    held = 0
    for _ in range(300):  # it was one in 30
        events = Made([])
        assert len(events.rows("calls", [], ["run"], pc.field("run") > 5)) == 994
        held += events.numbers_alive() is not None
    assert held == 0
