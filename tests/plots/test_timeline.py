import numpy as np
import pytest

from llmlab.analysis import attempts_frame, calls_frame
from llmlab.core.event_log import EventLog
from llmlab.plots import attempts_timeline
from tests.analysis.synthetic import log_of_run
from tests.plots.reading import drawn, legend_texts, subtitle, tick_labels, title


@pytest.fixture(scope="module")
def log():
    return log_of_run(50, timeout=0.4, max_retries=2)


def test_each_attempt_is_a_bar_in_the_row_of_its_call(log):
    attempts, calls = attempts_frame(log), calls_frame(log)
    ax = drawn(attempts_timeline(attempts, calls, first=10))
    first = calls.sort_values("arrived_at_s").head(10)["call"].tolist()
    expected = attempts[attempts["call"].isin(first)]
    bars = [bar for bar in ax.patches if bar.get_height() > 0.5]
    assert sorted(bar.get_x() for bar in bars) == pytest.approx(sorted(expected["started_at_s"]))
    rows = {first[round(bar.get_y() + bar.get_height() / 2)] for bar in bars}
    assert rows == set(expected["call"])
    assert tick_labels(ax.yaxis) == [str(call) for call in first]


def test_waits_and_backoff_are_visible_and_in_the_legend(log):
    ax = drawn(attempts_timeline(attempts_frame(log), calls_frame(log)))
    assert {"answered", "attempt_timeout", "wait for a slot", "wait for the rate limit", "backoff"} < set(
        legend_texts(ax)
    )
    assert {"call arrives", "call failed"} < set(legend_texts(ax))
    first = attempts_frame(log).query("call < 30")
    segments = ax.collections[0].get_segments()
    assert len(segments) == (first["backoff_s"] > 0).sum()
    assert sum(end[0] - start[0] for start, end in segments) == pytest.approx(first["backoff_s"].sum())


def test_it_says_how_many_calls_it_left_out(log):
    ax = drawn(attempts_timeline(attempts_frame(log), first=30))
    assert subtitle(ax) == "20 later calls left out"
    assert subtitle(attempts_timeline(attempts_frame(log), first=50)) == ""
    assert title(ax) == "Attempts over time, one call a row"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time (s)", "call")


def test_of_several_runs_it_shows_the_first_and_says_which(attempts, calls):
    ax = drawn(attempts_timeline(attempts, calls, first=5))
    assert "run 1 of 9 (timeout_probability 0, max_retries 0)" in subtitle(ax)
    assert "115 later calls left out" in subtitle(ax)


def test_an_attempt_refused_at_once_can_still_be_seen(log):
    attempts = attempts_frame(log).head(20)
    attempts["ended_at_s"] = np.where(attempts["answered"], attempts["ended_at_s"], attempts["started_at_s"])
    ax = drawn(attempts_timeline(attempts))
    left, right = ax.get_xlim()
    assert min(bar.get_width() for bar in ax.patches if bar.get_height() > 0.5) > 0.005 * (right - left)


def test_hedges_share_the_row_with_the_attempt_they_run_beside(log):
    event = log.attempts[0]
    both = EventLog()
    both.on_attempt(event)
    both.on_attempt(event._replace(attempt=2, hedge=True))
    first, hedge = drawn(attempts_timeline(attempts_frame(both))).patches[:2]
    assert first.get_y() + first.get_height() == pytest.approx(hedge.get_y())


def test_a_call_without_attempts_has_its_row_and_its_mark(log):
    call = log.calls[0]._replace(call=99, arrived_at_s=0.0, attempts=0)
    log_with = EventLog()
    log_with.on_call(call)
    ax = drawn(attempts_timeline(attempts_frame(log_with), calls_frame(log_with)))
    assert tick_labels(ax.yaxis) == ["99"]


def test_stacked_clients_name_their_layer(log):
    event = log.attempts[0]
    both = EventLog()
    both.on_attempt(event._replace(layer="outer"))
    both.on_attempt(event._replace(layer="inner"))
    assert set(tick_labels(attempts_timeline(attempts_frame(both)).yaxis)) == {"outer 0", "inner 0"}


def test_no_attempts_make_empty_axes_that_say_so():
    ax = drawn(attempts_timeline(attempts_frame(EventLog()), calls_frame(EventLog())))
    assert "no calls to show" in [text.get_text() for text in ax.texts]


def test_at_least_one_call_is_shown(log):
    with pytest.raises(ValueError, match="first must be 1 or more, got 0"):
        attempts_timeline(attempts_frame(log), first=0)
