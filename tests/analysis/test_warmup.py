import numpy as np
import pandas as pd
import pytest

from llmlab import ClientPolicy, Experiment, Exponential, MockBackend, OpenLoop, ServerModel
from llmlab.analysis import mser5, warm_up, without_warm_up


def series(cold, n=1000, level=5.0, seed=0):
    """Return noise around 1, with a beginning that is higher."""
    values = np.random.default_rng(seed).normal(1.0, 0.5, n)
    values[:cold] += level
    return values


@pytest.mark.parametrize("cold", [0, 50, 200])
def test_it_finds_the_end_of_the_warm_up(cold):
    found = [mser5(series(cold, seed=seed)) for seed in range(20)]
    assert all(each.settled for each in found)
    assert min(each.values for each in found) >= cold
    assert np.median([each.values for each in found]) <= cold + 50


def test_the_cut_has_the_smallest_standard_error_of_the_rest():
    values = series(100)
    means = values.reshape(-1, 5).mean(axis=1)
    errors = [means[cut:].var() / len(means[cut:]) for cut in range(len(means) - 5 + 1)]
    assert mser5(values).values == 5 * int(np.argmin(errors))


def test_a_series_that_never_settles_says_so():
    assert not mser5(np.linspace(0, 10, 1000)).settled
    assert mser5(np.linspace(0, 10, 1000)).values == 500
    assert mser5(series(0, n=49)) == (0, False)


def test_nan_is_refused():
    with pytest.raises(ValueError, match="hold NaN"):
        mser5([np.nan] * 100)


def frame(latencies, replicate):
    count = len(latencies)
    table = {"replicate": replicate, "call": np.arange(count), "arrived_at_s": np.arange(count) / 10.0}
    return pd.DataFrame({**table, "latency_s": latencies}).sample(frac=1, random_state=1)


def test_each_run_is_cut_by_itself_in_order_of_arrival():
    calls = pd.concat([frame(series(0), 0), frame(series(200), 1)], ignore_index=True)
    table = warm_up(calls)
    assert table["replicate"].tolist() == [0, 1]
    assert table["warm_up_calls"].iloc[1] >= 200 > table["warm_up_calls"].iloc[0]
    assert table["warm_up_s"].iloc[1] == table["warm_up_calls"].iloc[1] / 10
    kept = without_warm_up(calls)
    assert len(kept) == (table["calls"] - table["warm_up_calls"]).sum()
    assert kept[kept["replicate"] == 1]["latency_s"].mean() == pytest.approx(1.0, abs=0.05)
    assert kept.index.is_monotonic_increasing


def test_a_server_that_starts_empty_is_faster_at_first():
    server = ServerModel(slots=20, service_time=Exponential(mean=1.0))
    policy = ClientPolicy(attempt_timeout=None, total_timeout=None)
    busy = Experiment(
        backend=MockBackend(server=server), policy=policy, workload=OpenLoop(rate=19.6, calls=8000), seed=5
    )
    calls = busy.run().calls
    assert without_warm_up(calls)["latency_s"].mean() > calls.head(500)["latency_s"].mean()
