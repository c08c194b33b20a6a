import numpy as np
import pytest
from scipy import stats

from llmlab.analysis import percentile_interval
from llmlab.plots import compare_ecdf, compare_qq
from tests.analysis.synthetic import TIMEOUT
from tests.plots.reading import drawn, legend_texts, points, subtitle, title


@pytest.fixture
def sources(calls):
    return {"simulation": calls[calls[TIMEOUT] == 0.0], "Ollama": calls[calls[TIMEOUT] == 0.2]}


def answered(calls):
    return calls.loc[calls["answered"], "latency_s"]


def test_the_marks_are_percentiles_of_both_sources_with_their_intervals(sources):
    ax = drawn(compare_qq(sources))
    for container, q in zip(ax.containers, (0.5, 0.9, 0.95, 0.99), strict=True):
        x, y = (percentile_interval(answered(frame), q) for frame in sources.values())
        assert points(container) == ([x.estimate], [y.estimate])
        horizontal = container.lines[2][0].get_segments()[0]
        assert horizontal[0][0] == (x.estimate if np.isnan(x.low) else x.low)
        assert horizontal[1][0] == (x.estimate if np.isnan(x.high) else x.high)
    assert legend_texts(ax) == ["equally long", "percentiles", "p50", "p90", "p95", "p99"]
    assert ax.get_xlabel() == "simulation: latency of answered calls (s)"
    assert ax.get_ylabel() == "Ollama: latency of answered calls (s)"


def test_a_source_against_itself_lies_on_the_diagonal(sources):
    same = sources["simulation"]
    ax = drawn(compare_qq({"a": same, "b": same}))
    _, percentiles, *_ = ax.lines
    np.testing.assert_allclose(percentiles.get_xdata(), percentiles.get_ydata())
    assert ax.get_xlim() == ax.get_ylim()


def test_an_interval_that_few_calls_cannot_bound_is_open(sources):
    ax = drawn(compare_qq({name: frame.head(30) for name, frame in sources.items()}))
    p99 = ax.containers[-1]
    vertical = p99.lines[2][1].get_segments()[0]
    assert vertical[1][1] == points(p99)[1][0]


def test_the_curves_are_distribution_functions_and_the_largest_gap_is_marked(sources):
    ax = drawn(compare_ecdf(sources))
    gap = stats.ks_2samp(*(answered(frame) for frame in sources.values()))
    first, second, mark = ax.lines
    assert first.get_ydata()[-1] == second.get_ydata()[-1] == 1
    assert mark.get_xdata()[0] == pytest.approx(gap.statistic_location)
    assert f"furthest apart ({100 * gap.statistic:.0f}%) at" in subtitle(ax)
    assert len(ax.collections) == 2
    assert title(ax) == "Distribution of latency: Ollama against simulation"


def test_the_legend_says_which_share_of_its_calls_a_curve_is_drawn_of(sources):
    shares = [f"{name}: {100 * frame['answered'].mean():.0f}% answered" for name, frame in sources.items()]
    assert legend_texts(compare_ecdf(sources))[:2] == shares
    assert legend_texts(compare_ecdf(sources, over="all"))[:2] == ["simulation", "Ollama"]


@pytest.mark.parametrize("compare", [compare_qq, compare_ecdf])
def test_a_source_without_such_calls_is_named(compare, sources):
    ax = drawn(compare(sources | {"Ollama": sources["Ollama"].head(0)}))
    said = subtitle(ax) + " ".join(text.get_text() for text in ax.texts)
    assert "no answered calls of Ollama" in said


@pytest.mark.parametrize("compare", [compare_qq, compare_ecdf])
def test_no_calls_at_all_make_empty_axes_that_say_so(compare, calls):
    ax = drawn(compare({"a": calls.head(0), "b": calls.head(0)}))
    assert any(text.get_text().startswith("no answered calls") for text in ax.texts)


@pytest.mark.parametrize("compare", [compare_qq, compare_ecdf])
def test_one_call_each_makes_a_chart(compare, sources):
    drawn(compare({name: frame.head(1) for name, frame in sources.items()}, over="all"))


@pytest.mark.parametrize("compare", [compare_qq, compare_ecdf])
def test_any_number_of_sources_but_two_is_refused(compare, calls):
    with pytest.raises(ValueError, match=r"two sources are compared, got 1: \['a'\]"):
        compare({"a": calls})
