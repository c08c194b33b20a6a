from types import SimpleNamespace

import pytest

from llmlab import Experiment, MockBackend, OpenLoop, ServerModel, Sweep
from llmlab.analysis import SLO, recommend
from llmlab.plots import report
from llmlab.plots.page import HEADER
from llmlab.plots.selection import charts_of
from tests.analysis.synthetic import RETRIES, TIMEOUT
from tests.plots.reading import title


@pytest.fixture(scope="module")
def swept(attempts, calls):
    return SimpleNamespace(parameters=[RETRIES, TIMEOUT], calls=calls, attempts=attempts, server=calls.head(0))


@pytest.fixture(scope="module")
def single():
    backend = MockBackend(server=ServerModel(slots=2), timeout_probability=0.05)
    return Experiment(backend=backend, workload=OpenLoop(calls=80, rate=2.0)).run()


def titles(figure):
    return [title(ax).replace("\n", " ") for ax in figure.axes if title(ax)]


def header(figure):
    [top, *_] = figure.subfigs
    return " ".join(text.get_text() for text in top.texts if text.get_gid() == HEADER).replace("\n", " ")


def test_two_swept_parameters_make_an_axis_and_series(swept):
    figure = report(swept)
    figure.draw_without_rendering()
    assert titles(figure)[:3] == [
        "Failure rate against max_retries",
        "Latency against max_retries",
        "Failure rate by max_retries and timeout_probability",
    ]
    assert header(figure).startswith("What the calls met 1,080 calls")
    assert "swept: max_retries (3), timeout_probability (3)" in header(figure)


def test_one_swept_parameter_makes_an_axis(swept):
    one = SimpleNamespace(**vars(swept) | {"parameters": [TIMEOUT]})
    figure = report(one)
    assert len(titles(figure)) == 6
    assert all("timeout_probability" in name for name in titles(figure))


def test_a_single_run_is_shown_over_time_and_call_by_call(single):
    figure = report(single)
    figure.draw_without_rendering()
    assert titles(figure)[0] == "A run over time"
    assert titles(figure)[-1] == "Attempts over time, one call a row"


def test_of_a_single_run_of_which_calls_alone_were_kept_these_are_shown(tmp_path):
    kept = Sweep(Experiment(workload=OpenLoop(calls=20, rate=2.0))).run(store=tmp_path, keep="calls", progress=False)
    assert titles(report(kept)) == [
        "Distribution of latency",
        "Histogram of latency",
        "Failed calls by reason",
        "Where the time goes",
    ]


def test_of_several_replicates_of_one_setting_time_shows_the_first():
    base = Experiment(workload=OpenLoop(calls=30, rate=2.0))
    result = Sweep(base, replicates=2).run(progress=False)
    assert titles(report(result))[0] == "A run over time"


def test_a_recommendation_is_said_in_words_and_drawn_first(swept):
    found = recommend(swept, SLO(success_rate=0.5), settings=[RETRIES, TIMEOUT])
    figure = report(swept, found)
    assert titles(figure)[0] == "What each setting costs: failures, latency, load"
    assert " ".join(str(found).split()) in header(figure)


def test_further_parameters_are_averaged_over_and_the_page_says_so(swept):
    more = swept.calls.assign(seed=swept.calls["call"] % 2)
    many = SimpleNamespace(**vars(swept) | {"calls": more, "parameters": [RETRIES, TIMEOUT, "seed"]})
    assert charts_of(many).averaged == ["seed"]
    assert "averaged over: seed" in header(report(many))


def test_a_parameter_with_one_value_makes_no_axis(swept):
    one_value = swept.calls[swept.calls[RETRIES] == 1]
    result = SimpleNamespace(**vars(swept) | {"calls": one_value})
    assert titles(report(result))[0] == "Failure rate against timeout_probability"


def test_a_result_without_calls_makes_a_page_that_says_so(swept):
    nothing = SimpleNamespace(**vars(swept) | {"calls": swept.calls.head(0), "attempts": swept.attempts.head(0)})
    figure = report(nothing)
    figure.draw_without_rendering()
    assert "no calls to show" in [text.get_text() for ax in figure.axes for text in ax.texts]


def test_it_prints_on_a4(single):
    width, height = report(single).get_size_inches()
    assert height / width == pytest.approx(297 / 210)
