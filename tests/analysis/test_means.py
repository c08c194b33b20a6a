import numpy as np
import pytest

from llmlab.analysis.clusters import clusters
from llmlab.analysis.estimates import mean_estimate
from llmlab.analysis.means import means
from tests.analysis.synthetic import RETRIES, TIMEOUT, frames_of_sweep


@pytest.fixture(scope="module")
def calls():
    return frames_of_sweep(timeouts=(0.0, 0.3), retries=(0, 2), count=90)[1]


@pytest.mark.parametrize("by", [None, RETRIES, [TIMEOUT, RETRIES]])
def test_every_group_has_the_interval_of_its_own_estimate(calls, by):
    table = means(calls, "attempts", by, confidence=0.9)
    labels = clusters(calls, by if isinstance(by, list) else [by] if by else [])
    keys = [name for name in (TIMEOUT, RETRIES) if name in table]
    for row in table.to_dict("records"):
        there = np.ones(len(calls), dtype=bool)
        for name in keys:
            there &= (calls[name] == row[name]).to_numpy()
        expected = mean_estimate(calls["attempts"].to_numpy()[there], labels[there], 0.9)
        assert row["calls"] == expected.calls
        np.testing.assert_allclose(
            [row["mean"], row["mean_low"], row["mean_high"]], [expected.value, expected.low, expected.high]
        )


def test_one_call_has_a_mean_and_no_interval(calls):
    row = means(calls.head(1), "latency_s").iloc[0]
    assert row["mean"] == calls["latency_s"].iloc[0]
    assert np.isnan(row["mean_low"])
    assert np.isnan(row["mean_high"])


def test_no_calls_make_no_groups(calls):
    assert means(calls.head(0), "latency_s", RETRIES).empty


def test_a_column_that_is_not_there_is_named(calls):
    with pytest.raises(KeyError, match="nowhere"):
        means(calls, "latency_s", "nowhere")
