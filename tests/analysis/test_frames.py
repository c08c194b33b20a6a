import time

import numpy as np
import pandas as pd
import pytest

from llmlab.analysis.frames import (
    DERIVED_ATTEMPT_COLUMNS,
    DERIVED_CALL_COLUMNS,
    attempts_frame,
    calls_frame,
    concat_frames,
    dtype_of,
    parameter_columns,
)
from llmlab.core.event_log import EventLog
from llmlab.core.events import ATTEMPT_COLUMNS, CALL_COLUMNS, NAN, AttemptEvent, CallEvent
from llmlab.core.vocabulary import BackoffSource, FailureReason, Fate, FinishReason

FAILED = AttemptEvent(
    layer="client",
    call=0,
    attempt=1,
    backend="mock",
    hedge=False,
    queued_at_s=0.0,
    slot_wait_s=0.5,
    rate_wait_s=0.25,
    started_at_s=0.75,
    ended_at_s=2.75,
    time_to_first_token_s=NAN,
    reason=FailureReason.OVERLOADED,
    status_code=503,
    retry_after_s=NAN,
    input_tokens=NAN,
    output_tokens=NAN,
    finish_reason=None,
    backoff_s=1.0,
    backoff_source=BackoffSource.BACKOFF,
)
ANSWERED = FAILED._replace(
    attempt=2, hedge=True, reason=None, status_code=200, finish_reason=FinishReason.STOP, backoff_source=None
)
CALL = CallEvent(
    layer="client",
    call=0,
    parent_call=-1,
    parent_attempt=0,
    arrived_at_s=1.0,
    started_at_s=1.5,
    ended_at_s=4.0,
    fate=Fate.ANSWERED,
    reason=None,
    last_reason=None,
    attempts=2,
    slot_wait_s=0.5,
    rate_wait_s=0.25,
    server_s=1.0,
    backoff_s=0.75,
    time_to_first_token_s=NAN,
    input_tokens=3.0,
    output_tokens=5.0,
    finish_reason=FinishReason.STOP,
)


def log_of(*events):
    log = EventLog()
    for event in events:
        if isinstance(event, AttemptEvent):
            log.on_attempt(event)
        else:
            log.on_call(event)
    return log


@pytest.mark.parametrize("events", [(), (FAILED, ANSWERED, CALL)], ids=["empty", "filled"])
@pytest.mark.parametrize(
    ("frame_of", "declared"),
    [
        (attempts_frame, ATTEMPT_COLUMNS + DERIVED_ATTEMPT_COLUMNS),
        (calls_frame, CALL_COLUMNS + DERIVED_CALL_COLUMNS),
    ],
)
def test_a_frame_holds_exactly_the_declared_columns_with_their_types(frame_of, declared, events):
    frame = frame_of(log_of(*events))
    assert list(frame.columns) == [column.name for column in declared]
    for column in declared:
        dtype = frame[column.name].dtype
        if column.kind == "word" and not column.words:
            assert isinstance(dtype, pd.CategoricalDtype)
        else:
            assert dtype == dtype_of(column), column.name


def test_the_categories_of_a_closed_vocabulary_are_all_its_words_in_order():
    assert list(calls_frame(EventLog())["fate"].cat.categories) == [str(fate) for fate in Fate]
    assert list(attempts_frame(log_of(FAILED))["reason"].cat.categories) == [str(reason) for reason in FailureReason]


def test_a_row_holds_the_values_of_its_event():
    frame = attempts_frame(log_of(FAILED, ANSWERED))
    for event, (_, row) in zip((FAILED, ANSWERED), frame.iterrows(), strict=True):
        expected = pd.Series(event._asdict())
        present = expected.notna()
        assert row[expected.index].notna().equals(present)
        assert row[expected.index][present].tolist() == expected[present].tolist()


def test_latency_of_an_attempt_counts_from_its_start_and_of_a_call_from_its_arrival():
    log = log_of(FAILED, ANSWERED, CALL)
    assert attempts_frame(log)["latency_s"].tolist() == [2.0, 2.0]
    assert calls_frame(log)["latency_s"].tolist() == [3.0]


def test_answered_is_having_no_reason_for_an_attempt_and_the_fate_for_a_call():
    lost = CALL._replace(call=1, fate=Fate.DEADLINE, reason=FailureReason.TOTAL_DEADLINE_EXCEEDED)
    log = log_of(FAILED, ANSWERED, CALL, lost)
    assert attempts_frame(log)["answered"].tolist() == [False, True]
    assert calls_frame(log)["answered"].tolist() == [True, False]


def test_a_frame_is_a_copy_and_the_log_goes_on_growing():
    log = log_of(FAILED)
    frame = attempts_frame(log)
    frame["latency_s"] = 99.0
    log.on_attempt(ANSWERED)
    assert len(frame) == 1
    assert attempts_frame(log)["latency_s"].tolist() == [2.0, 2.0]


def test_joined_frames_keep_their_categories_even_where_backends_differ():
    parts = [attempts_frame(log_of(FAILED._replace(backend=name))) for name in ("mock", "ollama", "mock")]
    parts.append(attempts_frame(EventLog()))
    whole = concat_frames(parts)
    assert whole["backend"].tolist() == ["mock", "ollama", "mock"]
    assert list(whole["backend"].cat.categories) == ["mock", "ollama"]
    assert whole["reason"].dtype == parts[0]["reason"].dtype
    assert whole.index.tolist() == [0, 1, 2]


def test_parameters_become_columns_in_front():
    parts = [calls_frame(log_of(*[CALL] * count)) for count in (1, 0, 2)]
    parameters: list[dict[str, object]] = [
        {"policy.retry.max_retries": 0, "policy.retry.jitter": "full", "policy.max_concurrency": 8, "stream": True},
        {"policy.retry.max_retries": 1, "policy.retry.jitter": "none", "policy.max_concurrency": 8, "stream": True},
        {"policy.retry.max_retries": 3, "policy.retry.jitter": None, "policy.max_concurrency": None, "stream": False},
    ]
    whole = concat_frames(parts, parameters)
    assert list(whole.columns[:4]) == list(parameters[0])
    assert parameter_columns(whole) == list(parameters[0])
    assert whole["policy.retry.max_retries"].tolist() == [0, 3, 3]
    assert whole["policy.retry.max_retries"].dtype == np.int64
    assert list(whole["policy.retry.jitter"].cat.categories) == ["full", "none"]
    assert whole["policy.retry.jitter"].isna().tolist() == [False, True, True]
    assert whole["policy.max_concurrency"].dtype == np.float64
    assert whole["policy.max_concurrency"].isna().tolist() == [False, True, True]
    assert whole["stream"].tolist() == [True, False, False]
    assert whole["fate"].dtype == parts[0]["fate"].dtype


def test_frames_that_do_not_fit_together_are_refused():
    calls, attempts = calls_frame(log_of(CALL)), attempts_frame(log_of(FAILED))
    with pytest.raises(ValueError, match="at least one frame"):
        concat_frames([])
    with pytest.raises(ValueError, match=r"frame 1 and frame 0 differ in .*'attempt'"):
        concat_frames([calls, attempts])
    with pytest.raises(ValueError, match="got 1 for 2 frames"):
        concat_frames([calls, calls], [{"a": 1}])
    with pytest.raises(ValueError, match=r"frame 1 has the parameters \['b'\], but frame 0 has \['a'\]"):
        concat_frames([calls, calls], [{"a": 1}, {"b": 1}])
    with pytest.raises(ValueError, match=r"already have the columns \['fate'\]"):
        concat_frames([calls], [{"fate": 1}])


@pytest.mark.benchmark
def test_a_row_takes_less_than_half_a_microsecond():
    log = EventLog()
    for _ in range(300_000):
        log.on_attempt(FAILED)
    len(log.attempt_table.arrays()["call"])
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        attempts_frame(log)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) / 300_000 < 0.5e-6
