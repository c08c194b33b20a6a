import math

import numpy as np
import pandas as pd
import pytest

from llmlab import SettingsError
from llmlab.analysis import (
    COST_COLUMNS,
    GOODPUT_COLUMNS,
    OVER_TIME_COLUMNS,
    RECOVERY_COLUMNS,
    STATE_COLUMNS,
    SUMMARY_ATTEMPT_COLUMNS,
    SUMMARY_COLUMNS,
    TokenPrice,
    costs,
    dtype_of,
    goodput,
    recovery_time,
    summary,
    time_in_states,
)
from tests.analysis.synthetic import RETRIES, TIMEOUT, frames_of_sweep

PRICE = TokenPrice(input_per_million=2.0, output_per_million=10.0)


@pytest.fixture(scope="module")
def frames():
    return frames_of_sweep(timeouts=(0.0, 0.4), retries=(0, 2), count=120)


def arrivals(good, *, rate=2.0, **run):
    """Return calls that arrive evenly; `good` says of each time whether a call that arrives then is answered."""
    times = np.arange(0, 200, 1 / rate)
    answered = np.array([good(time) for time in times])
    table = {"arrived_at_s": times, "answered": answered, "latency_s": np.where(times < 100, 1.0, 2.0)}
    return pd.DataFrame({name: [value] * len(times) for name, value in run.items()} | table)


@pytest.mark.parametrize(
    "columns",
    [SUMMARY_COLUMNS, SUMMARY_ATTEMPT_COLUMNS, STATE_COLUMNS, GOODPUT_COLUMNS, COST_COLUMNS, RECOVERY_COLUMNS],
)
def test_every_metric_declares_over_which_rows_it_is_taken(columns):
    assert [column.name for column in columns if not column.over] == []
    assert [column.name for column in columns if column.name.endswith("_s") and not column.unit] == []


def test_every_frame_of_metrics_has_its_declared_columns_and_types(frames):
    attempts, calls = frames
    tables = [
        (time_in_states(calls, TIMEOUT), STATE_COLUMNS),
        (goodput(calls, TIMEOUT, within_s=2), GOODPUT_COLUMNS),
        (costs(calls, attempts, TIMEOUT, price=PRICE), COST_COLUMNS),
    ]
    for table, declared in tables:
        assert list(table.columns) == [TIMEOUT, *(column.name for column in declared)]
        assert [table[column.name].dtype for column in declared] == [dtype_of(column) for column in declared]
    table = recovery_time(calls, outage=(20, 30))
    assert [table[column.name].dtype for column in RECOVERY_COLUMNS] == [
        dtype_of(column) for column in RECOVERY_COLUMNS
    ]
    assert OVER_TIME_COLUMNS[0].over == ""  # bins of time, not groups of calls


def test_goodput_counts_only_answers_in_time(frames):
    calls = frames[1]
    table = goodput(calls, RETRIES, within_s=2.0)
    expected = (calls["answered"] & (calls["latency_s"] <= 2.0)).groupby(calls[RETRIES]).sum()
    assert table["good"].tolist() == expected.tolist()
    seconds = summary(calls, by=RETRIES)["duration_s"]
    np.testing.assert_allclose(table["goodput_per_s"], table["good"] / seconds)
    everything = goodput(calls, RETRIES, within_s=math.inf)
    np.testing.assert_allclose(everything["goodput_per_s"], summary(calls, by=RETRIES)["throughput_per_s"])
    assert table["good_share"].between(table["good_share_low"], table["good_share_high"]).all()


def test_the_states_of_calls_add_up_to_their_latency(frames):
    calls = frames[1]
    table = time_in_states(calls, RETRIES)
    np.testing.assert_allclose(table.groupby(RETRIES)["total_s"].sum(), calls.groupby(RETRIES)["latency_s"].sum())
    np.testing.assert_allclose(table.groupby(RETRIES)["share"].sum(), 1)
    server = table[table["state"] == "server"].set_index(RETRIES)["mean_s"]
    np.testing.assert_allclose(server, calls.groupby(RETRIES)["server_s"].mean())
    late = calls.assign(started_at_s=calls["started_at_s"] + 1.0)
    assert time_in_states(late)["mean_s"].iloc[0] == pytest.approx(1.0)
    assert time_in_states(calls.head(0), RETRIES).empty


def test_money_is_tokens_times_price(frames):
    attempts, calls = frames
    table = costs(calls, attempts, RETRIES, price=PRICE)
    answered = attempts[attempts["answered"]].groupby(RETRIES).size()
    np.testing.assert_allclose(table["cost"], answered * (20 * 2.0 + 50 * 10.0) / 1e6)  # 20 tokens read, 50 written
    np.testing.assert_allclose(table["cost_per_answer"], (20 * 2.0 + 50 * 10.0) / 1e6)
    assert table["attempts"].sum() == len(attempts)
    assert table["uncounted"].sum() == (~attempts["answered"]).sum()
    assert table["wasted_cost"].tolist() == [0.0, 0.0]


def test_tokens_of_failed_attempts_are_wasted_money(frames):
    attempts, calls = frames
    counted = attempts.assign(input_tokens=20.0, output_tokens=50.0)
    table = costs(calls, counted, price=PRICE)
    assert table["wasted_cost"].item() / table["cost"].item() == pytest.approx((~attempts["answered"]).mean())
    assert table["uncounted"].item() == 0
    row = summary(calls, counted).iloc[0]
    assert row["wasted_tokens"] == 70 * (~attempts["answered"]).sum()
    assert row["input_tokens"] + row["output_tokens"] == 70 * len(attempts)


def test_a_price_is_never_negative():
    with pytest.raises(SettingsError, match="input_per_million must be 0 or more"):
        TokenPrice(input_per_million=-1, output_per_million=1)


def test_waste_is_what_answered_no_call(frames):
    attempts, calls = frames
    row = summary(calls, attempts).iloc[0]
    assert row["wasted_attempts"] == len(attempts) - calls["answered"].sum()
    lost = attempts[~attempts["answered"]]
    assert row["wasted_server_s"] == pytest.approx(lost["latency_s"].sum())
    assert row["server_s"] == pytest.approx(attempts["latency_s"].sum())


def test_token_speeds(frames):
    attempts, calls = frames
    row = summary(calls, attempts).iloc[0]
    good = attempts[attempts["answered"]]
    # The made-up first token comes after a third of the latency.
    assert row["generation_tokens_per_s"] == pytest.approx((50 / (good["latency_s"] * 2 / 3)).median())
    assert row["output_tokens_per_s"] == pytest.approx(50 * row["answered"] / row["duration_s"])
    first = calls[calls["answered"]]["time_to_first_token_s"]
    assert row["time_to_first_token_p95_s"] == pytest.approx(first.quantile(0.95))


def test_failed_calls_have_latencies_of_their_own(frames):
    calls = frames[1]
    failed = calls[~calls["answered"]]["latency_s"]
    row = summary(calls).iloc[0]
    for q in (0.5, 0.9, 0.95, 0.99, 0.999):
        name = f"failed_latency_p{100 * q:g}_s".replace(".", "_")
        assert row[name] == pytest.approx(failed.quantile(q))


def test_recovery_counts_from_the_outages_end():
    calls = arrivals(lambda time: not 50 <= time < 83)
    row = recovery_time(calls, outage=(50, 70)).iloc[0]
    assert row["before"] == 1.0
    assert row["recovery_s"] == 15.0  # the bin from 80 still holds failures
    assert recovery_time(calls, outage=(50, 70), step=1).iloc[0]["recovery_s"] == 13.0
    assert recovery_time(calls, outage=(50, 90)).iloc[0]["recovery_s"] == 0.0


def test_a_short_good_spell_is_no_recovery():
    calls = arrivals(lambda time: not (50 <= time < 80 or 85 <= time < 120))
    assert recovery_time(calls, outage=(50, 80)).iloc[0]["recovery_s"] == 40.0
    assert recovery_time(calls, outage=(50, 80), hold=1).iloc[0]["recovery_s"] == 0.0


def test_a_run_that_never_recovers_says_so_and_each_run_is_judged_by_itself():
    calls = pd.concat(
        [
            arrivals(lambda time: time < 50, replicate=0),
            arrivals(lambda time: not 50 <= time < 60, replicate=1),
            arrivals(lambda time: time < 50, replicate=2).query("arrived_at_s > 55"),
        ]
    )
    table = recovery_time(calls, outage=(50, 60))
    assert table["replicate"].tolist() == [0, 1, 2]
    assert table["recovery_s"].fillna(-1).tolist() == [-1, 0, -1]
    assert table["note"].iloc[0] == "not recovered by the end of the run"
    assert table["note"].isna().tolist() == [False, True, False]
    assert table["note"].iloc[2] == "no call arrived before the outage"


def test_answers_that_come_too_late_are_no_service():
    calls = arrivals(lambda _time: True)  # after 100 s each takes 2 s
    assert recovery_time(calls, outage=(50, 100)).iloc[0]["recovery_s"] == 0.0
    assert np.isnan(recovery_time(calls, outage=(50, 100), within_s=1.5).iloc[0]["recovery_s"])


def test_bins_without_calls_say_nothing():
    calls = arrivals(lambda _time: True, rate=0.1)
    assert recovery_time(calls, outage=(50, 60), step=1).iloc[0]["recovery_s"] == 0.0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"outage": (60, 50)}, "the beginning first"),
        ({"level": 1.5}, r"level must lie in \(0, 1\]"),
        ({"step": 0}, "step be positive"),
        ({"hold": 0}, "hold 1 or more"),
        ({"within_s": 0}, "more than 0 seconds"),
    ],
)
def test_recovery_refuses_what_makes_no_sense(wrong, message):
    with pytest.raises(ValueError, match=message):
        recovery_time(arrivals(lambda _: True), **{"outage": (50, 60), **wrong})
