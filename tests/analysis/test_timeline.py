import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab import Experiment, MockBackend, OpenLoop, Outage, ServerModel
from llmlab.analysis import OVER_TIME_COLUMNS, attempts_frame, calls_frame, over_time
from llmlab.core.event_log import EventLog
from tests.analysis.synthetic import log_of_run

seconds = st.floats(0, 100)
spans = st.lists(st.tuples(seconds, seconds).map(sorted), min_size=1, max_size=20)


def calls_of(*rows):
    """Return calls of (arrived, ended, answered, attempts)."""
    return pd.DataFrame(rows, columns=["arrived_at_s", "ended_at_s", "answered", "attempts"])


def attempts_of(*spans):
    return pd.DataFrame(spans, columns=["started_at_s", "ended_at_s"], dtype=np.float64)


def server_of(*rows):
    return pd.DataFrame(rows, columns=["time_s", "queue", "busy", "done_s", "wasted_s"])


def test_calls_count_where_they_arrive_and_goodput_where_it_is_answered():
    calls = calls_of((0.2, 2.5, True, 3), (0.9, 1.0, False, 1), (2.0, 2.1, True, 1))
    frame = over_time(calls, attempts_of((0.2, 0.4)))
    assert frame["time_s"].tolist() == [0, 1, 2]
    assert frame["offered"].tolist() == [2, 0, 1]
    assert frame["answered"].tolist() == [1, 0, 1]
    assert frame["failed"].tolist() == [1, 0, 0]
    assert frame["goodput_per_s"].tolist() == [0, 0, 2]


def test_attempts_per_call_belong_to_the_calls_that_arrived_and_are_nothing_where_none_did():
    calls = calls_of((0.2, 2.5, True, 3), (0.9, 1.0, False, 1), (2.0, 2.1, True, 1))
    frame = over_time(calls, attempts_of((0.2, 0.4), (0.9, 1.0), (1.1, 1.2), (2.2, 2.5), (2.0, 2.1)))
    np.testing.assert_array_equal(frame["attempts_per_call"], [2, np.nan, 1])
    assert frame["attempts"].tolist() == [2, 1, 2]


def test_an_attempt_is_in_flight_for_the_share_of_the_bin_that_it_was_open():
    frame = over_time(calls_of((0.0, 3.9, True, 1)), attempts_of((0.5, 2.25), (1.0, 1.5)))
    np.testing.assert_allclose(frame["in_flight"], [0.5, 1.5, 0.25, 0])


def test_the_servers_levels_are_averages_over_time_and_its_work_is_per_second():
    view = server_of((0.0, 0, 0, 0.0, 0.0), (0.5, 4, 1, 0.0, 0.0), (1.5, 2, 1, 0.25, 0.0), (2.0, 0, 0, 0.25, 1.5))
    frame = over_time(calls_of((0.0, 3.5, True, 1)), attempts_of((0.0, 3.5)), view)
    np.testing.assert_allclose(frame["queue"], [2, 3, 0, 0])
    np.testing.assert_allclose(frame["busy"], [0.5, 1, 0, 0])
    np.testing.assert_allclose(frame["useful"], [0, 0.25, 0, 0])
    np.testing.assert_allclose(frame["wasted"], [0, 1.5, 0, 0])


@pytest.mark.parametrize("server", [None, server_of()])
def test_without_a_servers_view_its_columns_are_empty(server):
    frame = over_time(calls_of((0.0, 1.5, True, 1)), attempts_of((0.0, 1.5)), server)
    assert frame[["queue", "busy", "useful", "wasted"]].isna().all(axis=None)


def test_bins_are_whole_multiples_of_the_step_from_the_first_arrival_on():
    calls = calls_of((1001.3, 1002.2, True, 1))
    frame = over_time(calls, attempts_of((1001.3, 1002.2)), step=0.5)
    assert frame["time_s"].tolist() == [1001.0, 1001.5, 1002.0]


@given(spans, st.sampled_from([0.5, 1.0, 7.0]))
def test_nothing_is_lost_or_counted_twice(spans, step):
    calls = calls_of(*((begin, end, number % 2 == 0, 1) for number, (begin, end) in enumerate(spans)))
    frame = over_time(calls, attempts_of(*spans), step=step)
    assert frame["offered"].sum() == len(spans) == frame["attempts"].sum()
    assert frame["goodput_per_s"].sum() * step == pytest.approx(calls["answered"].sum())
    assert (frame["answered"] + frame["failed"]).tolist() == frame["offered"].tolist()
    assert frame["in_flight"].sum() * step == pytest.approx(sum(end - begin for begin, end in spans), abs=1e-9)


def test_of_a_real_run_work_and_queue_agree_with_the_server():
    model = ServerModel(service_time=0.1, outages=Outage(start=2, end=4))
    result = Experiment(backend=MockBackend(server=model), workload=OpenLoop(rate=5, duration=20)).run()
    frame = over_time(result.calls, result.attempts, result.server)
    assert list(frame.columns) == [column.name for column in OVER_TIME_COLUMNS]
    assert frame["useful"].sum() == pytest.approx(result.server["done_s"].iloc[-1])
    assert frame["goodput_per_s"][2:4].tolist() == [0, 0], "the server stood still"
    assert frame["in_flight"][3] == pytest.approx(frame["queue"][3] + frame["busy"][3], abs=0.2)


def test_frames_of_several_runs_are_refused():
    log = log_of_run(10)
    calls = pd.concat([calls_frame(log).assign(load=load) for load in (1, 2)])
    with pytest.raises(ValueError, match=r"calls holds 2 runs, told apart by \['load'\]; select"):
        over_time(calls, attempts_frame(log))


@pytest.mark.parametrize("step", [0, -1, float("inf"), float("nan")])
def test_a_step_is_positive(step):
    with pytest.raises(ValueError, match="step must be more than 0 seconds and finite"):
        over_time(calls_of(), attempts_of(), step=step)


def test_a_run_without_calls_has_no_bins():
    frame = over_time(calls_frame(EventLog()), attempts_frame(EventLog()))
    assert frame.empty
    assert list(frame.columns) == [column.name for column in OVER_TIME_COLUMNS]


def test_a_million_attempts_take_a_fraction_of_a_second():
    random = np.random.default_rng(0)
    starts = np.sort(random.uniform(0, 300, 1_000_000))
    ends = starts + random.exponential(1, len(starts))
    attempts = pd.DataFrame({"started_at_s": starts, "ended_at_s": ends})
    calls = pd.DataFrame({"arrived_at_s": starts, "ended_at_s": ends, "answered": True, "attempts": 1})
    began = time.process_time()
    over_time(calls, attempts)
    assert time.process_time() - began < 2
