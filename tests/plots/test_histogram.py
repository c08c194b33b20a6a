import numpy as np
import pytest
from matplotlib.container import BarContainer

from llmlab.plots import MAX_SERIES, latency_histogram
from tests.analysis.synthetic import RETRIES
from tests.plots.reading import drawn, legend_texts, legend_title, subtitle, title


def stacks(ax):
    return {c.get_label(): c for c in ax.containers if isinstance(c, BarContainer)}


def heights(container):
    return np.array([bar.get_height() for bar in container])


def test_bars_are_shares_of_all_calls_and_miss_none(calls):
    ax = drawn(latency_histogram(calls))
    shares = {name: heights(bars).sum() for name, bars in stacks(ax).items()}
    answered = calls["answered"].mean()
    assert shares == {"answered": pytest.approx(answered), "failed": pytest.approx(1 - answered)}
    assert legend_texts(ax) == ["failed", "answered"]  # as they stand, from the top
    assert title(ax) == "Histogram of latency"
    assert ax.get_xlabel() == "latency (s)"
    assert ax.get_ylabel() == "share of all calls in the bin"


def test_a_bar_counts_the_calls_between_its_edges(calls):
    ax = drawn(latency_histogram(calls, over="answered", bins=10))
    [bars] = stacks(ax).values()
    edges = [bar.get_x() for bar in bars] + [bars[-1].get_x() + bars[-1].get_width()]
    values = calls.loc[calls["answered"], "latency_s"].clip(lower=edges[0])
    expected, _ = np.histogram(values, edges)
    np.testing.assert_allclose(heights(bars) * len(values), expected, atol=1.0)  # a value on an edge may change sides
    assert ax.get_ylabel() == "share of answered calls in the bin"


def test_error_bars_are_wilson_intervals_and_say_so(calls):
    ax = drawn(latency_histogram(calls))
    [segments] = [c.get_segments() for c in ax.collections]
    assert all(low[1] >= 0 and high[1] > low[1] for low, high in segments)
    assert "95% Wilson intervals" in subtitle(ax)


def test_latencies_that_differ_a_lot_get_bins_that_are_equally_wide_in_the_logarithm(calls):
    spread = calls.assign(latency_s=np.geomspace(0.01, 100, len(calls)))
    ax = drawn(latency_histogram(spread, bins=20))
    assert ax.get_xscale() == "log"
    edges = [bar.get_x() for bar in stacks(ax)["answered"]]
    np.testing.assert_allclose(np.diff(np.log(edges)), np.diff(np.log(edges))[0])


def test_each_value_of_the_hue_is_an_outline_over_its_own_calls(calls):
    ax = drawn(latency_histogram(calls, hue=RETRIES))
    assert legend_title(ax) == "max_retries"
    assert legend_texts(ax) == ["0", "1", "3"]
    for line in ax.lines:
        assert sum(line.get_ydata()[:-1]) == pytest.approx(1)
    assert len(ax.collections) == 3


def test_a_value_of_the_hue_without_such_calls_is_named(calls):
    none_failed = calls[calls["answered"] | (calls[RETRIES] != 3)]
    ax = drawn(latency_histogram(none_failed, hue=RETRIES, over="failed"))
    assert legend_texts(ax) == ["0", "1"]
    assert "no such calls at max_retries 3" in subtitle(ax)


def test_of_many_series_some_are_drawn_without_bands_and_it_says_so(calls):
    many = calls.assign(seed=np.arange(len(calls)) % 200)
    ax = drawn(latency_histogram(many, hue="seed"))
    assert len(ax.lines) == MAX_SERIES
    assert not ax.collections
    assert f"{200 - MAX_SERIES} of 200 values of seed are left out" in subtitle(ax)


def test_calls_that_all_took_no_time_stand_in_the_first_bin(calls):
    ax = drawn(latency_histogram(calls.assign(latency_s=0.0), over="all"))
    assert sum(bars[0].get_height() for bars in stacks(ax).values()) == pytest.approx(1)


def test_less_than_one_bin_and_unknown_calls_are_refused(calls):
    with pytest.raises(ValueError, match="bins must be 1 or more, got 0"):
        latency_histogram(calls, bins=0)
    with pytest.raises(ValueError, match="over must be one of"):
        latency_histogram(calls, over="some")
