import numpy as np
import pytest
from matplotlib.container import BarContainer

from llmlab.analysis.means import means
from llmlab.plots import time_spent
from tests.analysis.synthetic import TIMEOUT
from tests.plots.reading import drawn, legend_texts, subtitle, tick_labels, title


def stacks(ax):
    return {
        c.get_label(): np.array([bar.get_height() for bar in c]) for c in ax.containers if isinstance(c, BarContainer)
    }


def test_the_parts_add_up_to_the_mean_latency(calls):
    heights = stacks(drawn(time_spent(calls, x=TIMEOUT)))
    assert list(heights) == ["in attempts", "backoff", "wait for the rate limit", "wait for a slot"]
    np.testing.assert_allclose(sum(heights.values()), calls.groupby(TIMEOUT)["latency_s"].mean())
    np.testing.assert_allclose(heights["backoff"], calls.groupby(TIMEOUT)["backoff_s"].mean())


def test_labels_say_what_and_in_which_unit(calls):
    ax = drawn(time_spent(calls, x=TIMEOUT))
    assert title(ax) == "Where the time goes, against timeout_probability"
    assert ax.get_ylabel() == "mean time of a call (s)"
    assert legend_texts(ax) == list(reversed(stacks(ax)))  # as they are stacked
    assert tick_labels(ax.xaxis) == ["0", "0.2", "0.4"]
    assert "95% interval of the mean latency" in subtitle(ax)


@pytest.mark.parametrize(("over", "label"), [("answered", "an answered call"), ("failed", "a failed call")])
def test_of_some_calls_the_axis_says_which(calls, over, label):
    ax = drawn(time_spent(calls, x=TIMEOUT, over=over))
    assert ax.get_ylabel() == f"mean time of {label} (s)"
    some = calls[calls["answered"] == (over == "answered")]
    np.testing.assert_allclose(sum(stacks(ax).values()), some.groupby(TIMEOUT)["latency_s"].mean())


def test_the_error_bars_are_the_interval_of_the_mean(calls):
    ax = drawn(time_spent(calls, x=TIMEOUT))
    [errors] = [c for c in ax.containers if not isinstance(c, BarContainer)]
    table = means(calls, "latency_s", TIMEOUT)
    ends = [(segment[0][1], segment[1][1]) for segment in errors.lines[2][0].get_segments()]
    np.testing.assert_allclose(ends, table[["mean_low", "mean_high"]])


def test_a_late_start_is_a_part_of_its_own(calls):
    late = calls.assign(started_at_s=calls["started_at_s"] + 1, latency_s=calls["latency_s"] + 1)
    np.testing.assert_allclose(stacks(time_spent(late, x=TIMEOUT))["late start"], 1)


def test_one_call_has_no_interval_and_no_call_says_so(calls):
    assert "where there are enough calls" in subtitle(drawn(time_spent(calls.head(1), x=TIMEOUT)))
    ax = drawn(time_spent(calls[calls["answered"]], x=TIMEOUT, over="failed"))
    assert "no failed calls to show" in [text.get_text() for text in ax.texts]


def test_without_a_parameter_all_calls_make_one_bar(calls):
    ax = drawn(time_spent(calls))
    assert title(ax) == "Where the time goes"
    assert ax.get_xlabel() == ""
    assert sum(stacks(ax).values()) == pytest.approx(calls["latency_s"].mean())


def test_two_hundred_bars_touch_and_have_no_intervals(calls):
    ax = drawn(time_spent(calls.assign(seed=np.arange(len(calls)) % 200), x="seed"))
    assert len(stacks(ax)["in attempts"]) == 200
    assert "intervals are drawn for up to 40 bars" in subtitle(ax)


def test_a_column_that_is_not_there_is_named(calls):
    with pytest.raises(KeyError, match="nowhere"):
        time_spent(calls, x="nowhere")
