import numpy as np
import pytest
from matplotlib.figure import Figure

from llmlab.analysis import failure_rate, summary
from llmlab.plots import heatmap
from llmlab.plots.grid import readable_on
from llmlab.plots.labels import percent
from tests.analysis.synthetic import RETRIES, TIMEOUT
from tests.plots.reading import drawn, subtitle, texts, tick_labels, title


def test_a_cell_is_the_value_of_its_pair_and_says_it(calls):
    ax = drawn(heatmap(calls, x=RETRIES, y=TIMEOUT))
    expected = failure_rate(calls, [TIMEOUT, RETRIES])["failure_rate"]
    np.testing.assert_allclose(ax.images[0].get_array(), expected.to_numpy().reshape(3, 3))
    assert texts(ax, "llmlab-cell") == [percent(rate) for rate in summary(calls, by=[RETRIES, TIMEOUT])["failure_rate"]]
    assert len(texts(ax, "llmlab-interval")) == 9
    assert "95% Wilson interval" in subtitle(ax)


def test_axes_carry_the_values_and_names_of_both_parameters(calls):
    ax = drawn(heatmap(calls, x=RETRIES, y=TIMEOUT, value="latency_p95_s"))
    assert tick_labels(ax.xaxis) == ["0", "1", "3"]
    assert tick_labels(ax.yaxis) == ["0", "0.2", "0.4"]
    assert title(ax) == "Latency p95 by max_retries and timeout_probability"
    assert ax.figure.axes[1].get_ylabel() == "latency p95 (s)"
    assert all(text.endswith("s") for text in texts(ax, "llmlab-cell"))


def test_the_text_of_every_cell_contrasts_with_its_cell(calls):
    ax = drawn(heatmap(calls, x=RETRIES, y=TIMEOUT))
    image = ax.images[0]
    for text in ax.texts:
        if text.get_gid() == "llmlab-cell":
            column, row = (round(place) for place in text.get_position())
            assert text.get_color() == readable_on(image.cmap(image.norm(image.get_array()[row, column])))


@pytest.mark.parametrize(
    ("background", "text"), [("#ffffff", "#000000"), ("#08306b", "#ffffff"), ("#ffff00", "#000000")]
)
def test_text_is_dark_on_light_and_light_on_dark(background, text):
    assert readable_on(background) == text


def test_a_pair_without_calls_is_blank_and_counted(calls):
    holed = calls[~((calls[RETRIES] == 1) & (calls[TIMEOUT] == 0.2))]
    ax = drawn(heatmap(holed, x=RETRIES, y=TIMEOUT))
    assert texts(ax, "llmlab-blank") == ["–"]
    assert len(texts(ax, "llmlab-cell")) == 8
    assert "1 of 9 cells have no value" in subtitle(ax)


def test_too_many_cells_have_no_numbers_and_the_chart_says_so(calls):
    many = calls.assign(a=np.arange(len(calls)) % 40, b=np.arange(len(calls)) % 27)
    ax = drawn(heatmap(many, x="a", y="b"))
    assert texts(ax, "llmlab-cell") == []
    assert "too many cells for a number in each" in subtitle(ax)
    assert len(tick_labels(ax.xaxis)) <= 16


def test_one_cell_and_no_cell_make_a_chart(calls):
    one = calls[(calls[RETRIES] == 1) & (calls[TIMEOUT] == 0.2)]
    assert len(texts(drawn(heatmap(one, x=RETRIES, y=TIMEOUT)), "llmlab-cell")) == 1
    ax = drawn(heatmap(calls.head(0), x=RETRIES, y=TIMEOUT))
    assert "no calls to show" in [text.get_text() for text in ax.texts]


def test_a_value_that_is_no_column_of_the_summary_is_refused(calls):
    with pytest.raises(ValueError, match=r"value must be one of \[.*'attempts_per_call'.*got 'p95'"):
        heatmap(calls, x=RETRIES, y=TIMEOUT, value="p95")


def test_in_a_narrow_panel_the_small_print_is_left_out(calls):
    panel = Figure(figsize=(6, 3)).subplots(1, 2)[0]
    ax = drawn(heatmap(calls, x=RETRIES, y=TIMEOUT, ax=panel))
    assert len(texts(ax, "llmlab-cell")) == 9
    assert texts(ax, "llmlab-interval") == []
    assert "Wilson" not in subtitle(ax)
