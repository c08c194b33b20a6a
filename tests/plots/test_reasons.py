import numpy as np
import pandas as pd
import pytest

from llmlab.analysis import failure_rate, rate_by_reason
from llmlab.plots import failure_reasons
from tests.analysis.synthetic import TIMEOUT
from tests.plots.reading import drawn, legend_texts, subtitle, tick_labels, title
from tests.plots.test_breakdown import calls_with_every_reason


def widths(ax):
    return [[bar.get_width() for bar in container] for container in ax.containers if hasattr(container, "patches")]


def test_bars_are_the_shares_of_all_calls_that_each_reason_ended_the_most_frequent_first(calls):
    ax = drawn(failure_reasons(calls))
    rates = rate_by_reason(calls).sort_values("rate", ascending=False)
    assert tick_labels(ax.yaxis) == ["all failures", *map(str, rates["reason"])]
    [bars] = widths(ax)
    np.testing.assert_allclose(bars, [*failure_rate(calls)["failure_rate"], *rates["rate"]])
    np.testing.assert_allclose(bars[0], sum(bars[1:]))
    assert title(ax) == "Failed calls by reason"
    assert subtitle(ax) == f"95% Wilson intervals, {len(calls):,} calls"
    assert ax.get_xlabel() == "share of calls"


def test_error_bars_are_the_wilson_intervals(calls):
    ax = failure_reasons(calls)
    [total] = failure_rate(calls).itertuples()
    [lines] = [container.lines[2][0].get_segments() for container in ax.containers if hasattr(container, "has_xerr")]
    np.testing.assert_allclose(lines[0][:, 0], [total.failure_rate_low, total.failure_rate_high])


def test_a_hue_draws_one_bar_of_each_reason_for_each_value(calls):
    ax = drawn(failure_reasons(calls, hue=TIMEOUT))
    rates = failure_rate(calls, TIMEOUT)
    np.testing.assert_allclose([bars[0] for bars in widths(ax)], rates["failure_rate"])
    assert legend_texts(ax) == ["0", "0.2", "0.4"]


def test_of_many_reasons_the_rarest_are_named_and_not_drawn():
    ax = drawn(failure_reasons(calls_with_every_reason()))
    assert len(tick_labels(ax.yaxis)) == 10
    assert "rarer reasons not shown" in subtitle(ax)


def test_without_failures_there_is_one_bar_of_no_width_with_its_interval(calls):
    ax = drawn(failure_reasons(calls[calls["answered"]]))
    assert tick_labels(ax.yaxis) == ["all failures"]
    assert widths(ax) == [[0.0]]
    assert ax.get_xlim()[1] > 0


def test_a_frame_without_the_column_is_refused_and_one_without_calls_says_so(calls):
    with pytest.raises(KeyError, match="hardness"):
        failure_reasons(calls, hue="hardness")
    empty = drawn(failure_reasons(pd.DataFrame(calls.iloc[:0])))
    assert "no calls to show" in [text.get_text() for text in empty.texts]
