import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from llmlab import plots
from llmlab.experiments.storm_map import RATE, RETRIES, STORM_COLUMNS
from llmlab.plots.storms import BETWEEN
from tests.plots.reading import drawn, legend_texts, subtitle, texts, tick_labels, title


def points_of(defence="none", *, rates=(25, 50, 75, 100), retries=(0, 1, 3), capacity=100.0):
    rows = [(defence, rate, count, capacity, rate * (1 + count) < 100) for count in retries for rate in rates]
    points = pd.DataFrame(rows, columns=["defence", RATE, RETRIES, "capacity_per_s", "recovered"])
    return points.assign(answered_share=points["recovered"].astype(float))


def cells(panel):
    """Return for each look (recovered, not recovered) the middles of its cells."""
    return [
        sorted(tuple(np.round(path.get_extents().get_points().mean(axis=0), 6)) for path in some.get_paths())
        for some in panel.collections
    ]


def test_cells_stand_at_their_load_and_retries_by_whether_they_recovered():
    [panel] = drawn(plots.storm_map(points_of())).child_axes
    well, ill = cells(panel)
    assert {(25, 0), (50, 0), (75, 0), (25, 1)} == set(well)
    assert len(ill) == 12 - 4
    assert tick_labels(panel.yaxis) == ["r=0", "r=1", "r=3"]


def test_the_two_outcomes_differ_in_colour_and_in_grey():
    [panel] = drawn(plots.storm_map(points_of())).child_axes
    well, ill = panel.collections
    assert to_hex(well.get_facecolor()[0]) != to_hex(ill.get_facecolor()[0])
    assert not well.get_hatch()
    assert ill.get_hatch()


def test_the_line_stands_where_load_times_attempts_is_the_capacity():
    [panel] = drawn(plots.storm_map(points_of())).child_axes
    [line] = panel.get_lines()
    assert list(line.get_xdata()) == [100, 100, 50, 50, 25, 25]
    assert list(line.get_ydata()) == [-0.5, 0.5, 0.5, 1.5, 1.5, 2.5]


def test_without_a_known_capacity_there_is_no_line():
    ax = drawn(plots.storm_map(points_of(capacity=np.nan)))
    assert not ax.child_axes[0].get_lines()
    assert legend_texts(ax.child_axes[0]) == ["recovers", "does not"]


def test_each_defence_has_a_panel_in_the_frames_order():
    ax = drawn(plots.storm_map(pd.concat([points_of("none"), points_of("budget")])))
    assert [panel.get_ylabel() for panel in ax.child_axes] == ["none", "budget"]
    assert [panel.get_xlabel() for panel in ax.child_axes] == ["", "load (calls/s)"]
    assert legend_texts(ax.child_axes[0]) == ["recovers", "does not", "λ (1 + r) = μ"]
    assert title(ax) == "Storm map: load and retries per call (r)"
    assert subtitle(ax) == "recovers: in the end at least 90% of the calls are answered"


def test_a_share_between_nothing_and_all_is_written_into_its_cell():
    points = points_of()
    points.loc[3, "answered_share"] = 0.42
    ax = drawn(plots.storm_map(points))
    assert texts(ax.child_axes[0], BETWEEN) == ["42"]
    assert "small print: how many in a hundred" in subtitle(ax).replace("\n", " ")


def test_where_cells_are_too_narrow_nothing_is_written_into_them():
    points = points_of(rates=range(1, 101)).assign(answered_share=0.5)
    assert texts(drawn(plots.storm_map(points)).child_axes[0], BETWEEN) == []


def test_a_point_that_was_not_run_is_blank():
    [panel] = drawn(plots.storm_map(points_of().drop(index=[0]))).child_axes
    assert (25, 0) not in set(cells(panel)[0])
    assert len(cells(panel)[0]) == 3


def test_one_point_is_a_map():
    [panel] = drawn(plots.storm_map(points_of(rates=[25], retries=[0]))).child_axes
    assert cells(panel)[0] == [(25, 0)]


def test_it_stands_inside_the_axes_it_is_given():
    left, right = Figure(figsize=(10, 4)).subplots(1, 2)
    assert drawn(plots.storm_map(points_of(), ax=right)) is right
    assert len(right.child_axes) == 1
    assert not left.child_axes


def test_no_points_make_empty_axes_that_say_so():
    ax = drawn(plots.storm_map(points_of().head(0)))
    assert "no points to show" in [text.get_text() for text in ax.texts]


def test_another_frame_is_an_error(calls):
    with pytest.raises(KeyError, match="no column"):
        plots.storm_map(calls)


def test_points_that_are_there_twice_are_an_error():
    with pytest.raises(ValueError, match="1 points are there twice, the first with"):
        plots.storm_map(pd.concat([points_of(), points_of().tail(1)]))


def test_the_frame_that_storm_map_returns_has_all_that_is_drawn():
    assert set(points_of().columns) <= {column.name for column in STORM_COLUMNS}
