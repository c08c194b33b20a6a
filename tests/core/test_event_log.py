import math
import pickle
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab import EventLog
from llmlab.core.events import ATTEMPT_COLUMNS, CALL_COLUMNS, NAN, AttemptEvent, CallEvent, Column, columns_table
from llmlab.core.vocabulary import BackoffSource, FailureReason, Fate, FinishReason

FLOAT = st.floats(allow_nan=False, width=64)
MAYBE = FLOAT | st.just(NAN)
COUNT = st.integers(0, 2**63 - 1)
ATTEMPTS = st.builds(
    AttemptEvent,
    *(st.sampled_from(["client", "outer", "ä"]), COUNT, COUNT, st.text(max_size=3), st.booleans(), FLOAT, FLOAT, FLOAT),
    *(FLOAT, FLOAT, MAYBE, st.none() | st.sampled_from(FailureReason), st.integers(0, 599), MAYBE, MAYBE, MAYBE),
    *(st.none() | st.sampled_from(FinishReason), MAYBE, st.none() | st.sampled_from(BackoffSource)),
)
CALLS = st.builds(
    CallEvent,
    *(st.just("client"), COUNT, st.integers(-1, 9), COUNT, FLOAT, FLOAT, FLOAT, st.sampled_from(Fate)),
    *(st.none() | st.sampled_from(FailureReason), st.none() | st.sampled_from(FailureReason), COUNT, FLOAT, FLOAT),
    *(FLOAT, FLOAT, MAYBE, MAYBE, MAYBE, st.none() | st.sampled_from(FinishReason)),
)


def test_the_catalogue_names_every_field_of_the_events_in_order():
    assert tuple(column.name for column in ATTEMPT_COLUMNS) == AttemptEvent._fields
    assert tuple(column.name for column in CALL_COLUMNS) == CallEvent._fields


def test_every_number_has_a_unit_and_every_column_a_meaning():
    for column in ATTEMPT_COLUMNS + CALL_COLUMNS:
        assert column.meaning
        assert column.unit or column.kind != "float"
        assert column.name.endswith("_s") is (column.unit == "s")


def test_the_documentations_table_has_a_line_for_each_column():
    assert len(columns_table(ATTEMPT_COLUMNS).splitlines()) == 2 + len(ATTEMPT_COLUMNS)
    assert "| `a` | s | b | `c` |" in columns_table((Column("a", "float", "s", "b", "c"),))


@given(st.lists(ATTEMPTS, max_size=20), st.lists(CALLS, max_size=20), st.integers(1, 60))
def test_what_goes_in_comes_out_in_order_however_often_it_is_flushed(attempts, calls, copies):
    log = EventLog()
    for _ in range(copies):
        for attempt in attempts:
            log.on_attempt(attempt)
        for call in calls:
            log.on_call(call)
    assert repr(log.attempts) == repr(attempts * copies)  # so words are of their vocabulary, and booleans true or false
    assert repr(log.calls) == repr(calls * copies)
    assert len(log) == len(attempts) * copies


def test_a_cleared_log_is_empty_and_goes_on():
    log = EventLog()
    event = AttemptEvent("c", 0, 1, "b", False, 0, 0, 0, 0, 1, math.nan, None, 0, NAN, NAN, NAN, None, NAN, None)
    log.on_attempt(event)
    log.clear()
    assert (len(log), log.attempts, log.calls) == (0, [], [])
    log.on_attempt(event)
    assert len(log) == 1
    assert repr(log) == "<EventLog: 0 calls, 1 attempts>"


def test_a_log_survives_pickling_and_goes_on():
    log = EventLog()
    event = AttemptEvent("c", 0, 1, "b", False, 0, 0, 0, 0, 1, math.nan, None, 0, NAN, NAN, NAN, None, NAN, None)
    log.on_attempt(event)
    again = pickle.loads(pickle.dumps(log))
    again.on_attempt(event)
    assert (len(log), len(again), len(again.attempts)) == (1, 2, 2)


@pytest.mark.parametrize(("number", "started"), [(2**63, 0.0), (1, "soon")])
def test_a_number_that_fits_no_column_is_an_error_and_not_another_number(number, started):
    log = EventLog()
    log.on_call(
        CallEvent(
            "client", number, -1, 0, 0.0, started, 1.0, Fate.ANSWERED, None, None, 1, *[0.0] * 5, *[NAN] * 2, None
        )
    )
    with pytest.raises(struct.error):
        log.call_table.flush()
