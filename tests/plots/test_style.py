import threading
from concurrent.futures import ThreadPoolExecutor

import matplotlib as mpl
import pandas as pd
import pytest
from matplotlib.figure import Figure

from llmlab import plots
from llmlab.analysis import timeline
from tests.analysis.synthetic import RETRIES, TIMEOUT
from tests.plots.reading import drawn, legend_texts, legend_title, subtitle


def bins(attempts, calls):
    one = {TIMEOUT: 0.2, RETRIES: 1}
    frames = [frame[(frame[list(one)] == pd.Series(one)).all(axis="columns")] for frame in (calls, attempts)]
    return timeline.over_time(*frames, step=2.0)


def halves(calls):
    return {"simulation": calls[::2], "Ollama": calls[1::2]}


CHARTS = {
    "failure_rate": lambda attempts, calls, ax=None: plots.failure_rate(calls, x=TIMEOUT, hue=RETRIES, ax=ax),
    "latency_percentiles": lambda attempts, calls, ax=None: plots.latency_percentiles(calls, x=TIMEOUT, ax=ax),
    "latency_ecdf": lambda attempts, calls, ax=None: plots.latency_ecdf(calls, hue=RETRIES, ax=ax),
    "latency_histogram": lambda attempts, calls, ax=None: plots.latency_histogram(calls, ax=ax),
    "compare_qq": lambda attempts, calls, ax=None: plots.compare_qq(halves(calls), ax=ax),
    "compare_ecdf": lambda attempts, calls, ax=None: plots.compare_ecdf(halves(calls), ax=ax),
    "retry_amplification": lambda attempts, calls, ax=None: plots.retry_amplification(
        calls, x=TIMEOUT, hue=RETRIES, ax=ax
    ),
    "time_spent": lambda attempts, calls, ax=None: plots.time_spent(calls, x=TIMEOUT, ax=ax),
    "heatmap": lambda attempts, calls, ax=None: plots.heatmap(calls, x=RETRIES, y=TIMEOUT, ax=ax),
    "over_time": lambda attempts, calls, ax=None: plots.over_time(bins(attempts, calls), ax=ax),
    "outcomes": lambda attempts, calls, ax=None: plots.outcomes(calls, x=TIMEOUT, ax=ax),
    "attempts_timeline": lambda attempts, calls, ax=None: plots.attempts_timeline(attempts, calls, ax=ax),
}


@pytest.fixture(params=CHARTS)
def chart(request):
    return CHARTS[request.param]


def test_a_chart_draws_on_the_axes_it_is_given(chart, attempts, calls):
    given = Figure().add_subplot()
    assert chart(attempts, calls, given) is given
    given.figure.draw_without_rendering()


def test_a_chart_without_axes_makes_a_figure_as_wide_as_a_notebook(chart, attempts, calls):
    ax = chart(attempts, calls)
    assert ax.figure.get_size_inches()[0] == 8
    ax.figure.draw_without_rendering()


def test_the_style_leaves_no_trace(chart, attempts, calls):
    before = dict(mpl.rcParams)
    chart(attempts, calls)
    assert dict(mpl.rcParams) == before


def test_the_frames_are_left_as_they_were(chart, attempts, calls):
    before = attempts.copy(), calls.copy()
    chart(attempts, calls)
    pd.testing.assert_frame_equal(attempts, before[0])
    pd.testing.assert_frame_equal(calls, before[1])


def test_nothing_is_cut_off_at_the_edge_of_the_figure(chart, attempts, calls):
    figure = chart(attempts, calls).figure
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    assert box.x0 >= -0.02
    assert box.y0 >= -0.02
    assert box.x1 <= figure.get_size_inches()[0] + 0.02
    assert box.y1 <= figure.get_size_inches()[1] + 0.02


def test_one_call_makes_a_chart(chart, attempts, calls):
    drawn(chart(attempts.head(1), calls.head(1)))


def test_no_call_makes_axes_that_say_so(chart, attempts, calls):
    ax = drawn(chart(attempts.head(0), calls.head(0)))
    assert any(text.get_text().startswith("no ") for text in ax.texts)


def test_an_empty_group_is_no_reason_to_fail(chart, attempts, calls):
    words = pd.CategoricalDtype([0, 1, 2, 3], ordered=True)  # of a value that does not occur
    few, some = (frame.assign(**{RETRIES: frame[RETRIES].astype(words)}) for frame in (attempts, calls))
    drawn(chart(few, some[some["answered"] | (some[RETRIES] != 3)]))


def test_two_hundred_values_make_a_chart_and_what_is_left_out_is_said(chart, attempts, calls):
    many = calls.assign(**{RETRIES: calls["call"] % 200})
    tries = attempts.assign(**{RETRIES: attempts["call"] % 200})
    ax = drawn(chart(tries, many))
    shown = len(legend_texts(ax)) if ax.get_legend() else 0
    assert shown < 30
    if shown and legend_title(ax) == "max_retries":
        assert "are left out" in subtitle(ax)


def test_drawing_twice_on_the_same_axes_leaves_one_title(attempts, calls):
    ax = plots.failure_rate(calls, x=TIMEOUT)
    plots.failure_rate(calls, x=TIMEOUT, ax=ax)
    assert subtitle(ax).count("Wilson") == 1


def test_threads_draw_at_the_same_time_and_leave_no_trace(attempts, calls):
    before = dict(mpl.rcParams)
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(chart, attempts, calls) for chart in CHARTS.values()]
        axes = [future.result() for future in futures]
    assert all(isinstance(ax.figure, Figure) for ax in axes)
    assert dict(mpl.rcParams) == before
    assert threading.active_count() < 10


@pytest.mark.slow
def test_a_notebook_displays_the_chart_that_a_cell_ends_with():
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    cell = (
        "from llmlab import plots\n"
        "from tests.analysis.synthetic import TIMEOUT, frames_of_sweep\n"
        "plots.failure_rate(frames_of_sweep(count=20)[1], x=TIMEOUT)"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    outputs = notebook.cells[0].outputs
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 1


def test_in_a_narrow_panel_titles_and_notes_are_wrapped_to_its_width(chart, attempts, calls):
    panels = Figure(figsize=(8, 4), layout="constrained").subplots(1, 2)
    axes = [chart(attempts, calls, panel) for panel in panels]
    axes[0].figure.draw_without_rendering()
    edges = [text.get_window_extent() for text in (axes[0]._left_title, axes[1]._left_title)]
    assert edges[0].x1 < edges[1].x0
