import numpy as np
import pytest

from llmlab.analysis import calls_frame, concat_frames
from llmlab.analysis import failure_rate as rates_of
from llmlab.plots import MAX_SERIES, failure_rate
from tests.analysis.synthetic import RETRIES, TIMEOUT, log_of_run
from tests.plots.reading import bars, drawn, legend_texts, legend_title, points, subtitle, tick_labels, title


def test_points_and_error_bars_are_the_rates_and_their_wilson_intervals(calls):
    ax = drawn(failure_rate(calls, x=TIMEOUT))
    expected = rates_of(calls, TIMEOUT)
    places, values = points(ax.containers[0])
    assert places == expected[TIMEOUT].tolist()
    assert values == expected["failure_rate"].tolist()
    np.testing.assert_allclose(bars(ax.containers[0]), expected[["failure_rate_low", "failure_rate_high"]])


def test_labels_name_the_parameter_the_unit_and_the_subject(calls):
    ax = drawn(failure_rate(calls, x=TIMEOUT, hue=RETRIES))
    assert ax.get_xlabel() == "timeout_probability"
    assert ax.get_ylabel() == "failure rate (share of calls)"
    assert title(ax) == "Failure rate against timeout_probability"
    assert legend_title(ax) == "max_retries"
    assert legend_texts(ax) == ["0", "1", "3"]
    assert subtitle(ax) == "95% Wilson intervals, 120 calls a point"


def test_ticks_stand_at_the_measured_values_and_rates_are_percentages(calls):
    ax = drawn(failure_rate(calls, x=TIMEOUT))
    assert tick_labels(ax.xaxis) == ["0", "0.2", "0.4"]
    assert all(label.endswith("%") for label in tick_labels(ax.yaxis))


def test_all_points_and_bars_lie_within_the_axes(calls):
    ax = drawn(failure_rate(calls, x=TIMEOUT, hue=RETRIES))
    left, right = ax.get_xlim()
    assert left < 0
    assert right > 0.4
    assert ax.get_ylim()[0] == 0
    assert ax.get_ylim()[1] > rates_of(calls, [TIMEOUT, RETRIES])["failure_rate_high"].max()


def test_series_differ_in_marker_and_dashes_as_well_as_in_colour(calls):
    ax = drawn(failure_rate(calls, x=TIMEOUT, hue=RETRIES))
    lines = [container.lines[0] for container in ax.containers]
    for look in ("get_color", "get_marker", "get_linestyle"):
        assert len({getattr(line, look)() for line in lines}) == 3


def test_one_point_is_drawn_with_its_interval(calls):
    ax = drawn(failure_rate(calls[calls[TIMEOUT] == 0.2], x=TIMEOUT))
    assert len(points(ax.containers[0])[0]) == 1
    assert len(bars(ax.containers[0])) == 1


def test_many_points_get_a_band(calls):
    seeds = calls.assign(seed=np.arange(len(calls)) % 50)
    ax = drawn(failure_rate(seeds, x="seed"))
    assert not ax.containers
    assert len(ax.collections) == 1
    assert len(ax.lines[0].get_xdata()) == 50


def test_of_many_series_it_shows_a_spread_and_says_how_many_are_left_out(calls):
    seeds = calls.assign(seed=np.arange(len(calls)) % 200)
    ax = drawn(failure_rate(seeds, x=TIMEOUT, hue="seed"))
    assert len(ax.containers) == MAX_SERIES
    assert legend_texts(ax)[0] == "0"
    assert legend_texts(ax)[-1] == "199"
    assert "192 of 200 values of seed are left out" in subtitle(ax)


def test_words_stand_side_by_side_in_the_order_they_were_swept_and_are_not_joined():
    runs = [calls_frame(log_of_run(30, seed=seed)) for seed in range(3)]
    calls = concat_frames(runs, [{"policy.retry.jitter": word} for word in ("none", "full", "equal")])
    ax = drawn(failure_rate(calls, x="policy.retry.jitter"))
    assert tick_labels(ax.xaxis) == ["none", "full", "equal"]
    assert ax.containers[0].lines[0].get_linestyle() == "None"


def test_a_setting_that_was_none_stands_last():
    runs = [calls_frame(log_of_run(30, seed=seed)) for seed in range(3)]
    calls = concat_frames(runs, [{"limit": value} for value in (None, 8, 2)])
    ax = drawn(failure_rate(calls, x="limit", hue="limit"))
    assert tick_labels(ax.xaxis) == ["2", "8", "none"]
    assert legend_texts(ax) == ["2", "8", "none"]


def test_values_over_decades_get_a_logarithmic_axis():
    runs = [calls_frame(log_of_run(30, seed=seed)) for seed in range(3)]
    calls = concat_frames(runs, [{"policy.timeout_s": value} for value in (0.1, 1, 10)])
    ax = drawn(failure_rate(calls, x="policy.timeout_s"))
    assert ax.get_xscale() == "log"
    assert ax.get_xlabel() == "timeout (s)"
    assert tick_labels(ax.xaxis) == ["0.1", "1", "10"]


def test_no_calls_make_empty_axes_that_say_so(calls):
    ax = drawn(failure_rate(calls.head(0), x=TIMEOUT, hue=RETRIES))
    assert "no calls to show" in [text.get_text() for text in ax.texts]


def test_an_unknown_column_is_an_error(calls):
    with pytest.raises(KeyError, match="no column"):
        failure_rate(calls, x="max_retries")


def test_attempts_are_refused_for_they_are_no_share_of_calls(attempts):
    with pytest.raises(ValueError, match="needs calls, one a row, and got attempts; give it the result's calls"):
        failure_rate(attempts, x=TIMEOUT)
