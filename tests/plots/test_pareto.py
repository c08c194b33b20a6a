from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from llmlab.analysis import SLO, recommend
from llmlab.plots import pareto
from llmlab.plots.pareto import LABEL
from tests.analysis.synthetic import RETRIES, TIMEOUT
from tests.plots.reading import drawn, legend_texts, subtitle, texts, title

ASKED = SLO(success_rate=0.8, p90_latency_s=15.0, max_amplification=2.0)


@pytest.fixture(scope="module")
def recommendation(calls):
    swept = SimpleNamespace(parameters=[RETRIES, TIMEOUT], calls=calls)
    return recommend(swept, ASKED, minimise="p90_latency_s", settings=[RETRIES, TIMEOUT])


def scattered(ax):
    return [c for c in ax.collections if c.get_array() is not None]


def test_every_setting_is_a_point_by_latency_and_failure_rate(recommendation):
    ax = drawn(pareto(recommendation.points))
    drawn_points = np.concatenate([c.get_offsets() for c in scattered(ax)])
    expected = recommendation.points[["latency_p90_s", "success_rate"]].to_numpy()
    expected[:, 1] = 1 - expected[:, 1]
    np.testing.assert_allclose(np.sort(drawn_points, axis=0), np.sort(expected, axis=0))
    assert ax.get_xlabel() == "p90 latency (s)"
    assert ax.get_ylabel() == "failure rate (share of calls)"
    assert title(ax) == "What each setting costs: failures, latency, load"
    assert "9 settings" in subtitle(ax)


def test_colour_is_load(recommendation):
    ax = pareto(recommendation.points)
    loads = np.concatenate([c.get_array() for c in scattered(ax)])
    np.testing.assert_allclose(np.sort(loads), np.sort(recommendation.points["attempts_per_call"]))
    bars = [other for other in ax.figure.axes if other is not ax]
    assert [bar.get_ylabel() for bar in bars] == ["attempts per call"]


def test_the_recommended_one_is_a_star_labelled_with_its_settings(recommendation):
    assert recommendation.status == "kept"
    ax = drawn(pareto(recommendation.points))
    chosen = recommendation.points.iloc[recommendation.place]
    assert "recommended" in legend_texts(ax)
    assert f"{chosen[RETRIES]:g}, {chosen[TIMEOUT]:g}" in texts(ax, LABEL)
    assert "labels: max_retries, timeout_probability" in subtitle(ax)


def test_points_of_the_front_have_a_thick_rim(recommendation):
    rims = np.concatenate(
        [np.broadcast_to(c.get_linewidths(), len(c.get_offsets())) for c in scattered(pareto(recommendation.points))]
    )
    assert (rims > 1).sum() == recommendation.points["on_front"].sum()


def test_what_was_asked_for_is_drawn_where_it_can_be_read_off(recommendation):
    ax = drawn(pareto(recommendation.points, slo=ASKED))
    upright = [line.get_xdata()[0] for line in ax.lines if line.get_xdata()[0] == line.get_xdata()[1] == 15.0]
    flat = [line.get_ydata()[0] for line in ax.lines if list(line.get_xdata()) == [0, 1]]
    assert upright == [15.0]
    assert flat == [pytest.approx(0.2)]
    assert legend_texts(ax)[-1] == "asked for"


def test_with_many_on_the_front_only_the_recommended_one_is_labelled(recommendation):
    [star] = recommendation.points[recommendation.points["verdict"] == "chosen"].to_dict("records")
    many = pd.DataFrame([star | {"verdict": "meets"} for _ in range(200)] + [star])
    ax = drawn(pareto(many.assign(on_front=True)))
    assert len(texts(ax, LABEL)) == 1
    assert "intervals are drawn for up to 60 settings" in subtitle(ax)


def test_rates_that_differ_a_lot_are_drawn_by_their_logarithm_and_zero_has_a_place(recommendation):
    points = recommendation.points.copy()
    points["success_rate"] = 1 - np.array([0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4])
    ax = drawn(pareto(points))
    assert ax.get_yscale() == "symlog"
    assert ax.get_ylim()[0] < 0


def test_one_setting_and_none_make_a_chart(recommendation):
    drawn(pareto(recommendation.points.head(1)))
    ax = drawn(pareto(recommendation.points.head(0)))
    assert "no settings to show" in [text.get_text() for text in ax.texts]


def test_settings_without_a_latency_are_left_out_and_it_says_so(recommendation):
    points = recommendation.points.assign(latency_p90_s=lambda frame: frame["latency_p90_s"].where(frame.index > 1))
    assert "2 settings without such calls left out" in subtitle(drawn(pareto(points)))


def test_a_frame_of_another_kind_is_refused_by_what_it_lacks(calls):
    with pytest.raises(KeyError, match="attempts_per_call"):
        pareto(calls)
    with pytest.raises(KeyError, match="latency_p12_s"):
        pareto(calls, latency="latency_p12_s")
