"""The dashboard without a front end: what it does when its widgets are moved, as messages of a browser move them."""

import asyncio
import gc
import html
import re
import resource
import sys
import threading
import time

import pytest
from comm import get_comm_manager
from ipywidgets import HTML, Button, Image, Widget
from matplotlib.artist import Artist

from llmlab import (
    SLO,
    ClosedLoop,
    Experiment,
    FailureReason,
    MockBackend,
    SettingsError,
    Sweep,
    Window,
    reading,
    recommend,
    sweep_reading,
)
from llmlab.core.backend import AttemptFailure
from llmlab.core.event_log import EventLog
from llmlab.experiments.sweep_result import SweepResult
from llmlab.widgets import SITUATIONS, SweepDashboard
from llmlab.widgets.views import image_of

PNG = b"\x89PNG"


@pytest.fixture
def dashboard(monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")  # nobody listens there
    made = SweepDashboard(Experiment(backend=MockBackend(timeout_probability=0.2), workload=ClosedLoop(calls=60)))
    made.wait()
    yield made
    made.close()


def page_of(dashboard):
    return dashboard._page


def below(widget):
    return [widget, *(each for child in getattr(widget, "children", ()) for each in below(child))]


def text(widget):
    return html.unescape(widget.value)


def test_it_begins_with_a_run_a_chart_a_sentence_and_the_code(dashboard):
    page = page_of(dashboard)
    assert len(dashboard.result.calls) == 60
    assert bytes(page.picture.value).startswith(PNG)
    assert str(reading(dashboard.experiment)) in text(page.reading)
    namespace = {}
    exec(compile(page.code.value, "copied", "exec"), namespace)
    assert namespace["experiment"] == dashboard.experiment
    assert namespace["result"].calls.equals(dashboard.result.calls)
    assert dashboard.error == ""


def test_a_move_runs_the_setting_anew_and_redraws(dashboard):
    page, before = page_of(dashboard), page_of(dashboard).picture.value
    dashboard.controls["max_retries"].value = 0
    dashboard.wait()
    assert dashboard.experiment.policy.retry.max_retries == 0
    assert dashboard.result.calls["attempts"].max() == 1
    assert page.picture.value != before
    assert "single attempts answer" in text(page.reading)


def test_moves_that_come_faster_than_charts_are_coalesced_and_the_last_is_shown(dashboard, monkeypatch):
    runs = []
    record = Experiment.record
    monkeypatch.setattr(Experiment, "record", lambda self, **how: runs.append(self) or record(self, **how))
    for step in range(40):
        dashboard.controls["timeout_probability"].value = 0.01 * (step + 1)
    dashboard.wait()
    assert dashboard.result.settings["backend.faults.timeout"] == 0.4
    assert len(runs) < 40


def test_a_chart_that_is_out_of_date_before_it_is_begun_is_never_drawn(dashboard, monkeypatch):
    drawn, begun, released = [], threading.Event(), threading.Event()

    def held_up(panel):
        drawn.append(dashboard.result.settings["policy.retry.max_retries"])
        begun.set()
        assert released.wait(30)
        return image_of(panel)

    monkeypatch.setattr("llmlab.widgets.instant.image_of", held_up)
    dashboard.controls["max_retries"].value = 0
    assert begun.wait(30)
    for retries in (1, 2, 3):  # runs go on meanwhile, each with a result of its own
        before = dashboard.result
        dashboard.controls["max_retries"].value = retries
        while dashboard.result is before:
            time.sleep(0.005)
    released.set()
    dashboard.wait()
    assert drawn == [0, 3]


def test_what_is_drawn_already_is_not_drawn_again(dashboard, monkeypatch):
    drawn = []
    monkeypatch.setattr("llmlab.widgets.instant.image_of", lambda panel: drawn.append(panel) or image_of(panel))
    page_of(dashboard).slo["success_rate"].value = 0.9
    dashboard.mode = "sweep"
    dashboard.wait()
    dashboard.mode = "instant"
    dashboard.wait()
    assert drawn == []
    dashboard.controls["max_retries"].value = 1
    dashboard.wait()
    assert len(drawn) == 1


def test_another_chart_is_drawn_of_the_same_result(dashboard):
    page, result, before = page_of(dashboard), dashboard.result, page_of(dashboard).picture.value
    for question in page.question.options[1:]:
        page.question.value = question
        dashboard.wait()
        assert page.picture.value != before, question
        before = page.picture.value
    assert dashboard.result is result


def test_what_is_pinned_is_compared_call_by_call_until_it_is_unpinned(dashboard):
    page = page_of(dashboard)
    dashboard.pin()
    dashboard.controls["max_retries"].value = 0
    dashboard.wait()
    assert "Against what is pinned:" in text(page.against)
    assert "60 pairs of calls" in text(page.against)
    assert not page.unpin.disabled
    dashboard.unpin()
    dashboard.wait()
    assert page.against.value == ""


def test_a_sweep_fills_in_and_ends_with_all_points(dashboard):
    page = page_of(dashboard)
    dashboard.sweep_over(("timeout_probability", "0, 0.3"), ("max_retries", "0, 1"), replicates=2)
    dashboard.run()
    dashboard.wait()
    assert text(page.status).count("done: 8 runs") == 1
    assert page.progress.value == page.progress.max == 8
    expected = dashboard.sweep.run(progress=False)
    assert dashboard.result.calls.equals(expected.calls)
    assert dashboard.sweep == Sweep(
        dashboard.experiment,
        {"backend.timeout_probability": [0.0, 0.3], "policy.retry.max_retries": [0, 1]},
        replicates=2,
    )
    assert "How often do calls fail?" in page.question.options


@pytest.mark.parametrize("mode", ["instant", "sweep"])
def test_another_slo_judges_what_is_shown_and_runs_nothing(dashboard, monkeypatch, mode):
    page = page_of(dashboard)
    if mode == "sweep":
        dashboard.sweep_over(("max_retries", "0, 1, 2"))
        dashboard.run()
        dashboard.wait()
    assert page.verdict.value == ""
    result = dashboard.result
    monkeypatch.setattr(Experiment, "record", lambda *_, **__: pytest.fail("it ran again"))
    for share in (0.9, 0.999):
        page.slo["success_rate"].value = share
        dashboard.wait()
        assert str(recommend(result, SLO(success_rate=share))) in text(page.verdict)
    page.slo["success_rate"].value = "none"
    dashboard.wait()
    assert page.verdict.value == ""
    assert dashboard.result is result
    assert dashboard.error == ""


def test_a_finished_sweep_is_shown_again_when_the_page_comes_back_to_it(dashboard):
    page = page_of(dashboard)
    dashboard.sweep_over(("max_retries", "0, 1"))
    dashboard.run()
    dashboard.wait()
    swept = dashboard.result
    dashboard.mode = "instant"
    dashboard.wait()
    assert dashboard.result.parameters == []
    assert page.status.value == ""
    assert page.progress.layout.display == "none"
    dashboard.mode = "sweep"
    dashboard.wait()
    assert dashboard.result.calls.equals(swept.calls)
    assert "done: 2 runs" in text(page.status)


def test_the_slo_of_the_page_is_what_the_recommendation_is_held_against(dashboard):
    page = page_of(dashboard)
    page.slo["success_rate"].value = 0.9
    dashboard.sweep_over(("max_retries", "0, 1, 2"))
    dashboard.run()
    dashboard.wait()
    assert dashboard.slo == SLO(success_rate=0.9)
    assert str(recommend(dashboard.result, dashboard.slo)) in text(page.verdict)


class SlowServer:
    """A real server, as far as the dashboard can tell: it answers at once, or never."""

    def __init__(self):
        self.release = threading.Event()

    async def attempt(self, request, *, timeouts, key):
        if not self.release.is_set():
            await asyncio.Event().wait()
        return AttemptFailure(FailureReason.OVERLOADED, "busy", 503, retryable=False)


def test_a_real_server_is_sent_calls_only_by_run_whatever_else_is_pressed():
    server = SlowServer()
    server.release.set()
    dashboard = SweepDashboard(Experiment(backend=server, workload=ClosedLoop(calls=2, users=1)))
    page = page_of(dashboard)
    dashboard.wait()
    assert dashboard.result is None
    assert "press Run" in text(page.status)
    dashboard.run()
    dashboard.wait()
    result = dashboard.result
    dashboard.controls["max_retries"].value = 0
    page.question.value = page.question.options[1]
    dashboard.pin()
    dashboard.unpin()
    dashboard.wait()
    assert dashboard.result is result
    assert dashboard.error == ""
    dashboard.close()


def test_a_stopped_run_leaves_what_is_shown_and_says_of_what_it_is():
    server = SlowServer()
    server.release.set()
    dashboard = SweepDashboard(Experiment(backend=server, workload=ClosedLoop(calls=2, users=1)))
    dashboard.run()
    dashboard.wait()
    result = dashboard.result
    server.release.clear()
    running = threading.Event()
    page_of(dashboard).cancel.observe(lambda change: change["new"] or running.set(), "disabled")
    dashboard.run()
    assert running.wait(30)
    dashboard.cancel()
    dashboard.wait()
    assert dashboard.result is result
    assert "stopped; what is shown is of an earlier setting" in text(page_of(dashboard).status)
    dashboard.close()


def test_cancel_keeps_what_is_finished_and_the_page_can_run_again():
    server = SlowServer()
    server.release.set()
    dashboard = SweepDashboard(Experiment(backend=server, workload=ClosedLoop(calls=2, users=1)))
    page = page_of(dashboard)
    dashboard.sweep_over(("max_retries", "0 to 9 in 10"))
    ended = threading.Event()

    def after_the_first_point():
        server.release.clear()  # the second never ends by itself
        ended.set()

    page.progress.observe(lambda change: change["new"] == 1 and not ended.is_set() and after_the_first_point(), "value")
    dashboard.run()
    assert ended.wait(30)
    dashboard.cancel()
    dashboard.wait()
    assert "cancelled after 1 of 10 runs, which are kept" in text(page.status)
    assert dashboard.result.calls["policy.retry.max_retries"].nunique() == 1
    assert not page.run.disabled
    server.release.set()
    dashboard.run()
    dashboard.wait()
    assert "done: 10 runs" in text(page.status)
    dashboard.close()


def test_a_long_run_that_is_out_of_date_is_stopped_and_never_drawn(dashboard):
    dashboard.controls["calls"].value = 10_000
    dashboard.controls["users"].value = 500
    dashboard.cancel()
    dashboard.controls["calls"].value = 50
    dashboard.wait()
    assert len(dashboard.result.calls) == 50


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (
            lambda d: d.controls["overload_probability"].__setattr__("value", 0.9),
            "the fault probabilities must add up to 1 or less, got 1.1",
        ),
        (lambda d: d.sweep_over(("max_retries", "many")), "max retries: 'many' is not a whole number; write them as"),
        (
            lambda d: d.sweep_over(("max_retries", "0"), ("max_retries", "1")),
            "both parameters are 'max retries'; choose another, or none, as the second",
        ),
    ],
)
def test_a_wrong_setting_is_told_on_the_page_and_goes_when_it_is_mended(dashboard, break_it, says):
    shown = dashboard.result
    break_it(dashboard)
    dashboard.wait()
    assert says in html.unescape(dashboard.error)
    assert dashboard.result is shown
    dashboard.mode = "instant"
    dashboard.controls["overload_probability"].value = 0.0
    dashboard.controls["max_retries"].value = 1
    dashboard.wait()
    assert dashboard.error == ""


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("max_retry", "there is no control 'max_retry'; did you mean 'max_retries'?"),
        ("seed", "'seed' cannot be swept over; valid: attempt_timeout, backoff,"),
    ],
)
def test_a_sweep_over_what_is_no_control_is_refused_and_changes_nothing(dashboard, name, says):
    with pytest.raises(SettingsError, match=re.escape(says)):
        dashboard.sweep_over(("max_retries", "0, 1"), (name, "1, 2"))
    assert dashboard.mode == "instant"


def test_a_sweep_is_put_into_words_when_it_is_over(dashboard):
    dashboard.sweep_over(("max_retries", "0, 2"))
    dashboard.run()
    dashboard.wait()
    assert html.unescape(dashboard.reading).count(str(sweep_reading(dashboard.result))) == 1


def test_an_slo_s_criteria_without_a_slider_count_as_well():
    slo = SLO(success_rate=0.5, p99_latency_s=1e-6, latency_over="answered")
    dashboard = SweepDashboard(Experiment(workload=ClosedLoop(calls=60)), slo=slo)
    dashboard.sweep_over(("max_retries", "0, 1"))
    dashboard.run()
    dashboard.wait()
    assert dashboard.slo == slo
    assert html.unescape(page_of(dashboard).verdict.value).count(str(recommend(dashboard.result, slo))) == 1
    dashboard.close()


def test_no_criterion_is_no_slo_whatever_else_was_given():
    dashboard = SweepDashboard(slo=SLO(success_rate=0.5, latency_over="answered"))
    page_of(dashboard).slo["success_rate"].value = "none"
    assert dashboard.slo is None
    dashboard.close()


class Broken:
    simulated = True

    async def attempt(self, request, *, timeouts, key):
        raise ZeroDivisionError("<b>my own bug</b>")


def test_a_bug_in_ones_own_backend_is_shown_escaped_and_the_page_lives_on():
    dashboard = SweepDashboard(Experiment(backend=Broken(), workload=ClosedLoop(calls=2)))
    dashboard.wait()
    assert "ZeroDivisionError: &lt;b&gt;my own bug&lt;/b&gt;" in dashboard.error
    page_of(dashboard).situation.value = "timeouts"
    dashboard.wait()
    assert dashboard.error == ""
    assert len(dashboard.result.calls) == 500
    dashboard.close()


def test_a_situation_and_a_client_set_many_controls_at_once(dashboard):
    page = page_of(dashboard)
    page.situation.value = "retry storm"
    dashboard.wait()
    assert dashboard.experiment == SITUATIONS["retry storm"]
    page.client.value = "openai"
    dashboard.wait()
    assert dashboard.experiment.policy.attempt_timeout is None
    assert dashboard.experiment.backend == SITUATIONS["retry storm"].backend
    assert dashboard.controls["attempt_timeout"].value == "none"


def test_settings_are_saved_and_loaded_and_are_a_sweep_of_everybody(dashboard, tmp_path):
    dashboard.sweep_over(("timeout_probability", "0, 0.3"), replicates=3)
    file = dashboard.save(tmp_path / "mine.toml")
    assert Sweep.load(file) == dashboard.sweep
    other = SweepDashboard("retry storm")
    other.load(file)
    other.wait()
    assert other.mode == "sweep"
    assert other.sweep == dashboard.sweep
    other.close()


def test_a_sweep_that_the_page_cannot_show_is_refused_with_another_way(dashboard, tmp_path):
    file = Sweep(Experiment(), {"backend.latency": [1.0, 2.0]}).save(tmp_path / "other.toml")
    with pytest.raises(SettingsError, match=r"does not sweep over 'backend.latency'; run it with `llmlab sweep"):
        dashboard.load(file)
    file = Sweep(Experiment(), zipped=[{"policy.max_concurrency": [1], "seed": [2]}]).save(tmp_path / "zipped.toml")
    with pytest.raises(SettingsError, match="the dashboard shows grids only"):
        dashboard.load(file)


def test_the_buttons_write_settings_chart_and_report_and_say_where(dashboard, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = page_of(dashboard)
    page.file.value = "kept"
    for name, begins in (("toml", b"[base"), ("png", PNG), ("svg", b"<?xml"), ("html", b"<!doctype html>")):
        page.files[name].click()
        dashboard.wait()
        file = tmp_path / f"kept.{name}"
        assert str(file) in text(page.saved)
        assert file.read_bytes().lower().startswith(begins.lower())
    page.situation.value = "retry storm"
    page.files["load"].click()
    dashboard.wait()
    assert dashboard.experiment.workload.calls == 60
    page.file.value = "nowhere/kept"
    page.files["png"].click()
    dashboard.wait()
    assert "there is no folder 'nowhere'" in html.unescape(dashboard.error)


def test_without_ollama_the_switch_is_greyed_and_says_why(dashboard):
    page = page_of(dashboard)
    assert page.backend.disabled
    assert "no Ollama server at http://127.0.0.1:9 (connection refused)" in text(page.backend_note)


@pytest.mark.slow
@pytest.mark.parametrize("redraws", [40, pytest.param(200, marks=pytest.mark.soak)])
def test_redraws_make_no_widgets_and_no_channels_and_keep_none_of_their_results(dashboard, redraws):
    dashboard.set(max_retries=10)  # so many that there is no reading of one more, which would double the runs

    def moved(times):
        for step in range(times):
            dashboard.controls["timeout_probability"].value = 0.1 + 0.01 * (step % 10)
            dashboard.wait()
        gc.collect()
        everything = gc.get_objects()
        kinds = (Widget, Artist, SweepResult, EventLog)
        kept = [sum(issubclass(type(each), kind) for each in everything) for kind in kinds]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return [*kept, len(get_comm_manager().comms)], peak

    counted, peak = moved(5)
    counted_later, peak_later = moved(redraws)
    # Fewer where an earlier test's are collected only now.
    assert all(later <= before for before, later in zip(counted, counted_later, strict=True)), (counted, counted_later)
    assert peak_later - peak < 1e6 * redraws  # pictures kept, at 2 MB each before they are pressed, would be twice that


def test_every_control_is_labelled_and_every_button_says_what_it_does(dashboard):
    page = page_of(dashboard)
    for widget in below(page.box):
        if isinstance(widget, Button):
            assert widget.description
            assert widget.tooltip, widget.description
        elif hasattr(widget, "value") and not isinstance(widget, HTML | Image):
            assert widget.description, widget
    labels = [widget.description for widget in (*page.controls.values(), *page.slo.values())]
    assert len(set(labels)) == len(labels)
    assert page.picture.tooltip is None  # with one, Voila's front end shows no picture at all (tests/browser)


def test_controls_are_set_off_their_scales_too_and_all_at_once(dashboard):
    dashboard.set(calls=70, timeout_probability=0.6, total_timeout=None, load="rate", rate=3.5)
    dashboard.wait()
    assert len(dashboard.result.calls) == 70
    assert dashboard.experiment.workload.rate == 3.5
    assert dashboard.controls["calls"].value == 70
    assert dashboard.controls["total_timeout"].value == "none"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"retries": 1}, "there is no control 'retries'; did you mean 'max_retries'"),
        ({"max_retries": -1}, "max_retries must be 0 or more, got -1"),
        ({"overload_probability": 0.9}, "must add up to 1 or less"),
    ],
)
def test_a_wrong_control_or_value_is_refused_and_nothing_changes(dashboard, values, says):
    before = dashboard.experiment
    with pytest.raises(SettingsError, match=says):
        dashboard.set(**values)
    assert dashboard.experiment == before


def test_a_slider_refuses_what_is_not_on_it_and_names_the_way_round(dashboard):
    with pytest.raises(SettingsError, match=r"calls: 300 is not on its slider, which has 50, 60, .*`dashboard.set`"):
        dashboard.controls["calls"].value = 300


def test_closing_stops_its_work_and_later_moves_do_nothing():
    server = SlowServer()
    dashboard = SweepDashboard(Experiment(backend=server, workload=ClosedLoop(calls=2)))
    dashboard.run()
    dashboard.close()
    dashboard.controls["max_retries"].value = 0
    assert dashboard.result is None


def test_it_may_be_awaited_on_any_loop(dashboard):
    async def move():
        dashboard.controls["max_retries"].value = 3
        await dashboard.idle()
        return dashboard.experiment.policy.retry.max_retries

    assert asyncio.run(move()) == 3


def test_waiting_too_long_is_an_error_with_a_way_out():
    server = SlowServer()
    dashboard = SweepDashboard(Experiment(backend=server, workload=ClosedLoop(calls=2)))
    dashboard.run()
    with pytest.raises(TimeoutError, match=r"still at work after 0.05 s; see dashboard.cancel\(\)"):
        dashboard.wait(0.05)
    dashboard.close()


def test_an_unknown_situation_and_mode_are_refused(dashboard):
    with pytest.raises(SettingsError, match="did you mean 'retry storm'"):
        SweepDashboard("retry storms")
    with pytest.raises(SettingsError, match="there is no mode 'fast'"):
        dashboard.mode = "fast"


def test_its_repr_says_what_it_shows(dashboard):
    assert repr(dashboard) == f"<SweepDashboard: instant, {dashboard.result!r}>"
    assert dashboard._repr_mimebundle_()["text/plain"] == repr(dashboard)


def test_schedules_that_no_control_shows_are_kept():
    schedule = [Window(kind="overload", start=1, end=2)]
    experiment = Experiment(backend=MockBackend(faults={"schedule": schedule}), workload=ClosedLoop(calls=50))
    dashboard = SweepDashboard(experiment)
    dashboard.controls["max_retries"].value = 0
    dashboard.wait()
    assert list(dashboard.experiment.backend.faults.schedule) == schedule
    dashboard.close()


def test_the_kernel_is_free_while_it_works(dashboard):
    dashboard.controls["calls"].value = 10_000
    began = time.monotonic()
    dashboard.controls["max_retries"].value = 1
    assert time.monotonic() - began < 5
    dashboard.cancel()
    dashboard.wait()
