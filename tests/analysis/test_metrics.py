import time

import numpy as np
import pandas as pd
import pytest

from llmlab.analysis import (
    SUMMARY_ATTEMPT_COLUMNS,
    SUMMARY_COLUMNS,
    attempts_frame,
    calls_frame,
    concat_frames,
    dtype_of,
    failure_rate,
    latency_percentiles,
    rate_by_fate,
    rate_by_reason,
    summary,
    wilson,
)
from llmlab.core.event_log import EventLog
from llmlab.core.vocabulary import Fate
from tests.analysis.synthetic import RETRIES, TIMEOUT, frames_of_sweep, log_of_run


@pytest.fixture(scope="module")
def sweep():
    return frames_of_sweep(timeouts=(0.0, 0.2, 0.4), retries=(0, 2), count=120)


@pytest.fixture(scope="module")
def calls(sweep):
    return sweep[1]


@pytest.fixture(scope="module")
def attempts(sweep):
    return sweep[0]


def test_a_summary_holds_exactly_the_declared_columns_with_their_types(calls, attempts):
    table = summary(calls, attempts, by=[TIMEOUT, RETRIES])
    declared = SUMMARY_COLUMNS + SUMMARY_ATTEMPT_COLUMNS
    assert list(table.columns) == [TIMEOUT, RETRIES] + [column.name for column in declared]
    assert [table[column.name].dtype for column in declared] == [dtype_of(column) for column in declared]
    assert list(summary(calls).columns) == [column.name for column in SUMMARY_COLUMNS]


def test_a_summary_says_what_pandas_says(calls, attempts):
    table = summary(calls, attempts, by=TIMEOUT).set_index(TIMEOUT)
    grouped = calls.groupby(TIMEOUT)
    answered = calls[calls["answered"]].groupby(TIMEOUT)
    expected = {
        "calls": grouped.size(),
        "success_rate": grouped["answered"].mean(),
        "latency_p95_s": grouped["latency_s"].quantile(0.95),
        "answered_latency_p95_s": answered["latency_s"].quantile(0.95),
        "attempts_per_call": grouped["attempts"].mean(),
        "slot_wait_mean_s": grouped["slot_wait_s"].mean(),
        "server_mean_s": grouped["server_s"].mean(),
        "attempt_failure_rate": 1 - attempts.groupby(TIMEOUT)["answered"].mean(),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(table[name], values, err_msg=name)


def test_counts_conserve(calls, attempts):
    table = summary(calls, attempts, by=[TIMEOUT, RETRIES])
    assert table["calls"].sum() == len(calls)
    assert table["attempts"].sum() == len(attempts)
    assert (table[[f"fate_{fate}" for fate in Fate]].sum(axis=1) == table["calls"]).all()
    np.testing.assert_allclose(table["success_rate"] + table["failure_rate"], 1)


def test_rates_carry_wilson_intervals(calls):
    table = failure_rate(calls, RETRIES)
    interval = wilson(table["failures"], table["calls"])
    assert table["failure_rate_low"].tolist() == interval.low.tolist()
    assert table["failure_rate_high"].tolist() == interval.high.tolist()
    assert (failure_rate(calls, RETRIES, confidence=0.5)["failure_rate_low"] > interval.low).all()


def test_reasons_add_up_to_the_failure_rate_and_fates_to_one(calls):
    reasons = rate_by_reason(calls, RETRIES)
    fates = rate_by_fate(calls, RETRIES)
    np.testing.assert_allclose(
        reasons.groupby(RETRIES)["rate"].sum(), failure_rate(calls, RETRIES)["failure_rate"].to_numpy()
    )
    np.testing.assert_allclose(fates.groupby(RETRIES)["rate"].sum(), 1)
    assert reasons["reason"].dtype == calls["reason"].dtype


def test_a_reason_absent_from_one_group_stands_there_with_zero():
    frames = [calls_frame(log_of_run(50, timeout=rate, overload=0.0, max_retries=0)) for rate in (0.0, 0.9)]
    calls = concat_frames(frames, [{"p": 0.0}, {"p": 0.9}])
    timeouts = rate_by_reason(calls, "p").query("reason == 'attempt_timeout'")
    assert timeouts["failures"].tolist()[0] == 0
    assert timeouts["rate_high"].tolist()[0] > 0


@pytest.mark.parametrize("over", ["all", "answered", "failed"])
def test_percentiles_say_over_which_calls_they_are_taken(calls, over):
    masks = {"all": calls["answered"] | True, "answered": calls["answered"], "failed": ~calls["answered"]}
    kept = calls[masks[over]]
    table = latency_percentiles(calls, over=over)
    assert table["over"].unique().tolist() == [over]
    assert table["calls"].unique().tolist() == [len(kept)]
    np.testing.assert_allclose(table["latency_s"], kept["latency_s"].quantile([0.5, 0.95, 0.99]))


def test_a_percentile_of_few_calls_has_a_note_in_place_of_a_bound(calls):
    table = latency_percentiles(calls.head(20), q=(0.5, 0.99))
    assert table["note"].str.contains("needs 368").tolist() == [False, True]
    assert table["latency_high_s"].isna().tolist() == [False, True]


def test_a_group_without_an_answer_keeps_its_row():
    calls = calls_frame(log_of_run(20, timeout=1.0, overload=0.0, max_retries=0))
    table = latency_percentiles(calls, over="answered", q=(0.5,))
    assert table["calls"].tolist() == [0]
    assert table["note"].tolist() == ["no values"]
    assert summary(calls)["answered_latency_p95_s"].isna().all()


def test_an_unknown_choice_of_calls_is_refused(calls):
    with pytest.raises(ValueError, match=r"\['all', 'answered', 'failed'\], got 'some'"):
        latency_percentiles(calls, over="some")  # type: ignore[arg-type]


def test_durations_add_up_over_runs_because_each_has_its_own_clock():
    run = calls_frame(log_of_run(100, rate=2.0))
    replicates = concat_frames([run, run, run], [{"replicate": number} for number in range(3)])
    once, thrice = summary(run), summary(replicates)
    assert once["duration_s"].item() == run["ended_at_s"].max() - run["arrived_at_s"].min()
    np.testing.assert_allclose(thrice["duration_s"], 3 * once["duration_s"])
    np.testing.assert_allclose(thrice["throughput_per_s"], once["throughput_per_s"])
    assert summary(replicates, runs=[])["duration_s"].tolist() == once["duration_s"].tolist()


def test_a_setting_that_was_none_is_a_group_of_its_own():
    run = calls_frame(log_of_run(10))
    calls = concat_frames([run, run, run], [{"limit": 2}, {"limit": None}, {"limit": None}])
    table = summary(calls, by="limit")
    assert table["calls"].tolist() == [10, 20]
    assert np.isnan(table["limit"].iloc[1])


def test_attempts_find_their_group_even_where_it_has_none_of_them(calls, attempts):
    few = attempts[attempts[TIMEOUT] > 0]
    table = summary(calls, few, by=TIMEOUT)
    assert table["failed_attempts"].iloc[0] == 0
    assert np.isnan(table["attempt_failure_rate"].iloc[0])
    whole = summary(calls, attempts, by=TIMEOUT)
    assert table["failed_attempts"].tolist()[1:] == whole["failed_attempts"].tolist()[1:]


def test_no_calls_make_one_row_without_groups_and_none_with_them(calls, attempts):
    nothing = calls_frame(EventLog())
    assert summary(nothing, attempts_frame(EventLog()))["calls"].tolist() == [0]
    assert summary(nothing)["failure_rate"].isna().all()
    assert summary(calls.head(0), attempts.head(0), by=[TIMEOUT, RETRIES]).empty
    assert rate_by_reason(nothing).empty
    assert failure_rate(calls.head(0), TIMEOUT).empty
    assert latency_percentiles(calls.head(0), TIMEOUT).empty


def test_an_unknown_column_is_named_beside_those_there_are(calls):
    with pytest.raises(KeyError, match=r"no column \['max_retries'\]; did you mean 'policy.retry.max_retries'\?"):
        summary(calls, by="max_retries")


def test_grouping_by_a_column_of_the_result_is_refused(calls):
    with pytest.raises(ValueError, match=r"cannot group by \['attempts'\]"):
        summary(calls, by="attempts")


@pytest.mark.benchmark
def test_a_million_calls_are_summed_up_in_about_a_second(calls, attempts):
    many = pd.concat([calls] * (1_000_000 // len(calls)), ignore_index=True)
    start = time.perf_counter()
    summary(many, attempts, by=[TIMEOUT, RETRIES])
    assert time.perf_counter() - start < 1.5
