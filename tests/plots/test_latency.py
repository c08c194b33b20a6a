import numpy as np
import pytest

from llmlab.analysis import latency_percentiles as percentiles_of
from llmlab.plots import latency_ecdf, latency_percentiles
from tests.analysis.synthetic import RETRIES, TIMEOUT
from tests.plots.reading import bars, drawn, legend_texts, legend_title, points, subtitle, title


def test_percentiles_are_drawn_with_their_intervals_one_line_each(calls):
    ax = drawn(latency_percentiles(calls, x=TIMEOUT, q=(0.5, 0.95)))
    expected = percentiles_of(calls, TIMEOUT, q=(0.5, 0.95))
    for container, q in zip(ax.containers, (0.5, 0.95), strict=True):
        rows = expected[expected["q"] == q]
        assert points(container) == (rows[TIMEOUT].tolist(), rows["latency_s"].tolist())
        np.testing.assert_allclose(bars(container), rows[["latency_low_s", "latency_high_s"]])
    assert legend_title(ax) == "percentile"
    assert legend_texts(ax) == ["p95", "p50"]  # in the order of the lines, from the top


@pytest.mark.parametrize("over", ["all", "answered", "failed"])
def test_the_axis_says_over_which_calls_and_in_which_unit(calls, over):
    ax = drawn(latency_percentiles(calls, x=TIMEOUT, over=over))
    assert ax.get_ylabel() == f"latency of {over} calls (s)"
    assert title(ax) == "Latency against timeout_probability"


def test_an_interval_that_few_calls_cannot_bound_is_left_open_and_the_chart_says_so(calls):
    few = calls.groupby(TIMEOUT).head(20)
    ax = drawn(latency_percentiles(few, x=TIMEOUT, q=(0.99,)))
    rates = points(ax.containers[0])[1]
    assert [high for _, high in bars(ax.containers[0])] == rates
    assert "3 of 3 intervals are open: too few calls" in subtitle(ax)


def test_beside_a_hue_each_percentile_has_its_dashes(calls):
    ax = drawn(latency_percentiles(calls, x=TIMEOUT, hue=RETRIES, q=(0.5, 0.95)))
    assert len(ax.containers) == 6
    assert legend_title(ax) == "max_retries"
    assert legend_texts(ax) == ["0", "1", "3", "p50", "p95"]
    assert {container.lines[0].get_linestyle() for container in ax.containers} == {"-", "--"}


def test_more_percentiles_than_dashes_are_refused(calls):
    with pytest.raises(ValueError, match="at most 4 quantiles"):
        latency_percentiles(calls, x=TIMEOUT, hue=RETRIES, q=(0.1, 0.2, 0.3, 0.4, 0.5))


def test_no_answered_call_makes_empty_axes_that_say_so(calls):
    failed = calls[~calls["answered"]]
    ax = drawn(latency_percentiles(failed, x=TIMEOUT, over="answered"))
    assert "no answered calls to show" in [text.get_text() for text in ax.texts]


def test_the_curves_rise_to_the_shares_that_were_answered_and_that_failed(calls):
    ax = drawn(latency_ecdf(calls))
    answered, failed = (line.get_ydata()[-1] for line in ax.lines)
    assert answered == calls["answered"].mean()
    assert answered + failed == pytest.approx(1)
    assert legend_texts(ax) == ["answered", "failed"]
    assert ax.get_xlabel() == "latency (s)"
    assert ax.get_ylabel() == "share of all calls within that time"


def test_a_curve_is_the_share_within_each_time(calls):
    ax = drawn(latency_ecdf(calls))
    line = ax.lines[0]
    answered = np.sort(calls.loc[calls["answered"], "latency_s"])
    for time, share in list(zip(line.get_xdata(), line.get_ydata(), strict=True))[1:-1:40]:
        assert share == pytest.approx(np.searchsorted(answered, time, side="right") / len(calls))


def test_each_value_of_the_hue_has_a_colour_and_failed_calls_are_dashed(calls):
    ax = drawn(latency_ecdf(calls, hue=RETRIES))
    assert len({line.get_color() for line in ax.lines}) == 3
    assert {line.get_linestyle() for line in ax.lines} == {"-", "--"}
    assert legend_texts(ax) == ["0", "1", "3", "answered", "failed"]
    assert title(ax) == "Distribution of latency by max_retries"


def test_up_to_four_series_have_bands_and_more_say_that_they_have_none(calls):
    assert len(latency_ecdf(calls).collections) == 2
    many = calls.assign(seed=np.arange(len(calls)) % 6)
    ax = drawn(latency_ecdf(many, hue="seed"))
    assert not ax.collections
    assert "up to 4 series" in subtitle(ax)


def test_calls_that_took_no_time_are_not_lost_on_a_logarithmic_axis(calls):
    spread = calls.assign(latency_s=np.geomspace(0.001, 100, len(calls)))
    spread.loc[: len(spread) // 4, "latency_s"] = 0.0
    ax = drawn(latency_ecdf(spread))
    assert ax.get_xscale() == "log"
    at_once = ((spread["latency_s"] == 0) & spread["answered"]).mean()
    assert ax.lines[0].get_ydata()[0] >= at_once
    assert ax.lines[0].get_ydata()[-1] == spread["answered"].mean()


def test_calls_that_all_took_no_time_have_an_axis(calls):
    ax = drawn(latency_ecdf(calls.assign(latency_s=0.0)))
    assert ax.get_xlim() == (0, 1)


def test_one_call_and_no_call_make_a_chart(calls):
    assert len(drawn(latency_ecdf(calls.head(1))).lines) == 1
    ax = drawn(latency_ecdf(calls.head(0), hue=RETRIES))
    assert "no calls to show" in [text.get_text() for text in ax.texts]
