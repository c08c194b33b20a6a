import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from llmlab import Experiment, MockBackend, OpenLoop, Outage, Window, plots
from llmlab.analysis import OVER_TIME_COLUMNS, attempts_frame, calls_frame, over_time
from llmlab.core.event_log import EventLog
from tests.analysis.synthetic import log_of_run
from tests.plots.reading import drawn, legend_texts, legend_title, subtitle, title


def bins_of(*, seed=0, step=1.0):
    log = log_of_run(60, seed=seed)
    return over_time(calls_frame(log), attempts_frame(log), step=step)


@pytest.fixture(scope="module")
def bins():
    return bins_of().assign(queue=3.0)


@pytest.fixture(scope="module")
def both(bins):
    return pd.concat([bins.assign(budget="none"), bins_of(seed=1).assign(queue=1.0, budget="10%")])


def panel(ax, label):
    return {panel.get_ylabel(): panel for panel in ax.child_axes}[label]


def line_of(panel):
    line = panel.get_lines()[0]
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata())


def test_each_quantity_has_a_panel_with_its_unit_over_the_same_seconds(bins):
    ax = drawn(plots.over_time(bins))
    assert [panel.get_ylabel() for panel in ax.child_axes] == [
        "goodput (calls/s)",
        "arrivals that fail (calls/s)",
        "server's queue (requests)",
        "attempts in flight",
        "attempts per call",
    ]
    assert [panel.get_xlabel() for panel in ax.child_axes] == [""] * 4 + ["time (s)"]
    assert {panel.get_xlim() for panel in ax.child_axes} == {(bins["time_s"].min(), bins["time_s"].max() + 1)}
    assert title(ax) == "A run over time"
    assert subtitle(ax) == "bins of 1 s"


def test_lines_are_the_bins_and_the_last_one_has_its_width(bins):
    times, values = line_of(panel(drawn(plots.over_time(bins)), "attempts in flight"))
    assert times.tolist() == [*bins["time_s"], bins["time_s"].iloc[-1] + 1]
    np.testing.assert_array_equal(values[:-1], bins["in_flight"])


def test_counts_are_drawn_per_second_whatever_the_bins_length():
    bins = bins_of(step=5.0)
    ax = drawn(plots.over_time(bins, show=["failed", "goodput_per_s"]))
    np.testing.assert_array_equal(
        line_of(panel(ax, "arrivals that fail (calls/s)"))[1][:-1], bins["failed"].to_numpy() / 5
    )
    np.testing.assert_array_equal(line_of(panel(ax, "goodput (calls/s)"))[1][:-1], bins["goodput_per_s"])
    assert subtitle(ax) == "bins of 5 s"


def test_every_column_can_be_shown_and_without_values_says_so(bins):
    names = [column.name for column in OVER_TIME_COLUMNS[1:]]
    ax = drawn(plots.over_time(bins, show=names))
    assert len({panel.get_ylabel() for panel in ax.child_axes}) == len(names)
    assert "no values" in [text.get_text() for text in panel(ax, "busy slots").texts]


def test_without_a_servers_view_there_is_no_queue():
    assert "server's queue (requests)" not in [panel.get_ylabel() for panel in plots.over_time(bins_of()).child_axes]


def test_runs_are_told_apart_by_colour_and_dashes_and_named(both):
    ax = drawn(plots.over_time(both, hue="budget"))
    lines = ax.child_axes[0].get_lines()
    assert len({line.get_color() for line in lines}) == len({line.get_linestyle() for line in lines}) == 2
    assert legend_texts(ax.child_axes[0]) == ["none", "10%"]
    assert legend_title(ax.child_axes[0]) == "budget"
    assert title(ax) == "Runs over time"


def test_no_line_leaves_its_panel(both):
    ax = drawn(plots.over_time(both, hue="budget"))
    for one in ax.child_axes:
        top = max(np.nanmax(line.get_ydata()) for line in one.get_lines())
        assert 0 == one.get_ylim()[0] <= top < one.get_ylim()[1]


def test_outages_and_faults_are_shaded_in_every_panel_and_named(bins):
    spans = [Outage(start=3, end=5), Window(kind="overload", start=8, end=9), Window(kind="overload", start=11, end=12)]
    ax = drawn(plots.over_time(bins, shaded=spans))
    for one in ax.child_axes:
        assert [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in one.patches] == [
            (3, 5),
            (8, 9),
            (11, 12),
        ]
    outage, *overloads = ax.child_axes[0].patches
    assert outage.get_hatch() != overloads[0].get_hatch() == overloads[1].get_hatch()
    assert legend_texts(ax.child_axes[0]) == ["outage", "overload"]


def test_a_pair_of_times_is_shaded_without_a_name(bins):
    ax = drawn(plots.over_time(bins, shaded=[(3.0, 5.0)]))
    assert len(ax.child_axes[0].patches) == 1
    one = drawn(plots.over_time(bins, shaded=Outage(start=3, end=5)))
    assert legend_texts(one.child_axes[0]) == ["outage"]
    assert ax.child_axes[0].get_legend() is None


def test_the_panels_stand_inside_the_axes_they_are_given(bins):
    left, right = Figure(figsize=(9, 5)).subplots(1, 2)
    assert drawn(plots.over_time(bins, ax=right)) is right
    assert not left.child_axes
    assert all(right.get_window_extent().contains(*one.get_window_extent().min) for one in right.child_axes)


def test_a_real_run_is_drawn_from_its_frames():
    result = Experiment(backend=MockBackend(), workload=OpenLoop(calls=20)).run()
    assert len(drawn(plots.over_time(over_time(result.calls, result.attempts, result.server))).child_axes) == 4


def test_no_calls_make_empty_axes_that_say_so():
    log = EventLog()
    ax = drawn(plots.over_time(over_time(calls_frame(log), attempts_frame(log))))
    assert "no calls to show" in [text.get_text() for text in ax.texts]


def test_what_is_no_quantity_is_an_error_that_lists_them(bins):
    with pytest.raises(ValueError, match=r"show must name some of \['offered'.*got \['latency'\]"):
        plots.over_time(bins, show=["queue", "latency"])


def test_a_frame_of_something_else_is_an_error(calls, bins):
    with pytest.raises(KeyError, match="no column"):
        plots.over_time(calls)
    with pytest.raises(KeyError, match="no column"):
        plots.over_time(bins, hue="budget")


def test_several_runs_in_one_line_are_an_error(both):
    with pytest.raises(ValueError, match="several rows are of the bin at 0 s; select one run"):
        plots.over_time(both)
