import re
from html.parser import HTMLParser

import pytest

import llmlab
from llmlab import SLO, Experiment, LLMRequest, MockBackend, OpenLoop, ServerModel, SettingsError, Sweep, recommend
from llmlab.experiments.runs import FailedRun
from llmlab.experiments.sweep_result import SweepResult
from llmlab.reports import document, sections

SECRET = "the prompt that nobody else may read"
BASE = Experiment(
    backend=MockBackend(overload_probability=0.1, name="<b>mock</b>"),
    workload=OpenLoop(calls=60, rate=4.0, requests=[LLMRequest(prompt=SECRET)]),
)
RETRIES = "policy.retry.max_retries"


class Outline(HTMLParser):
    """What a page is made of: its elements with their attributes, its headings, its tables' rows."""

    def __init__(self, source):
        super().__init__()
        self.elements, self.open, self.headings, self.text = [], [], [], ""
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in {"meta", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in {"h1", "h2", "h3"}:
            self.headings.append(data)
        if "style" not in self.open:
            self.text += data


@pytest.fixture(scope="module")
def sweep():
    return Sweep(BASE, {RETRIES: [0, 2]})


@pytest.fixture(scope="module")
def result(sweep):
    return sweep.run(progress=False)


@pytest.fixture(scope="module")
def source(result, sweep, tmp_path_factory):
    recommendation = recommend(result, SLO(success_rate=0.5))
    path = tmp_path_factory.mktemp("report") / "out.html"
    assert llmlab.report(result, path, recommendation=recommendation) == path
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def outline(source):
    return Outline(source)


@pytest.fixture
def quick(monkeypatch):
    """Without charts, which take the time."""
    monkeypatch.setattr(sections, "charts", lambda result, recommendation: sections.text(""))


def test_it_holds_experiment_numbers_charts_and_recommendation(outline):
    assert outline.headings[0] == "How the client behaved"
    wanted = ["Recommendation", "What was run", "Charts", "Numbers", "Why calls failed"]
    assert [heading for heading in outline.headings if heading in wanted] == wanted
    assert not outline.open, "every element is closed"


def test_it_needs_no_other_file_and_runs_no_script(source, outline):
    links = [
        value for _, attributes in outline.elements for name, value in attributes.items() if name in {"src", "href"}
    ]
    assert links
    assert all(link.startswith("data:image/svg+xml;base64,") for link in links)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in outline.elements}
    assert not re.search(r"@import|url\(|https?:", source)


def test_every_chart_is_described_for_those_who_do_not_see_it(outline):
    images = [attributes for tag, attributes in outline.elements if tag == "img"]
    assert len(images) == 7
    assert images[1]["alt"] == "How often do calls fail? Failure rate against max_retries"


def test_texts_of_users_are_escaped(source):
    assert "&lt;b&gt;mock&lt;/b&gt;" in source
    assert "<b>mock" not in source


def test_it_shows_the_settings_and_counts_the_prompts(source, outline):
    assert "policy.retry.backoff.jitter" in outline.text
    assert "1 request" in outline.text
    assert SECRET not in source


def test_swept_settings_stand_with_their_values(outline):
    assert f"{RETRIES}0, 2 (swept)" in outline.text


def test_a_store_knows_the_experiment_as_well(sweep, result, tmp_path, quick):
    sweep.run(store=tmp_path / "store", progress=False)
    stored = SweepResult.load(tmp_path / "store")
    assert stored.settings == result.settings
    files = [llmlab.report(each, tmp_path / "out.html").read_bytes() for each in (stored, result)]
    assert files[0] == files[1]


def test_a_setting_below_one_that_was_swept_is_not_listed(tmp_path, quick):
    swept = Sweep(BASE, {"policy.retry": [{"max_retries": 0}, {"max_retries": 2}]}).run(progress=False)
    assert RETRIES not in Outline(llmlab.report(swept, tmp_path / "out.html").read_text("utf-8")).text


def test_the_same_result_is_the_same_file(result, tmp_path):
    files = [llmlab.report(result, tmp_path / name).read_bytes() for name in ("a.html", "b.html")]
    assert files[0] == files[1]


def test_without_a_recommendation_it_says_how_to_get_one(result, tmp_path, quick):
    text = Outline(llmlab.report(result, tmp_path / "out.html").read_text("utf-8")).text
    assert "Nothing is recommended, because no SLO was given" in text


def test_why_the_others_lost_stands_below_their_row(result, tmp_path, quick):
    found = recommend(result, SLO(success_rate=0.9))
    text = Outline(llmlab.report(result, tmp_path / "out.html", recommendation=found).read_text("utf-8")).text
    reasons = [reason for reason in found.points["reason"] if reason]
    assert reasons
    assert all(reason in text for reason in reasons)
    assert str(found) in text


def test_an_interrupted_sweep_says_so(result, tmp_path, quick):
    half = SweepResult(result.parameters, result.runs[:1], planned=2)
    text = Outline(llmlab.report(half, tmp_path / "out.html").read_text("utf-8")).text
    assert "1 of 2" in text
    assert "stopped before all runs were finished" in text


def test_runs_that_failed_are_named_with_the_reason(result, tmp_path, quick):
    failed = FailedRun({RETRIES: 2}, 0, 7, "ValueError: <no> answer")
    half = SweepResult(result.parameters, result.runs[:1], planned=2, failures=[failed])
    text = Outline(llmlab.report(half, tmp_path / "out.html").read_text("utf-8")).text
    assert "1 run could not be finished" in text
    assert "max_retries 2, seed 7" in text
    assert "ValueError: <no> answer" in text


def test_a_backend_of_ones_own_is_named_by_its_kind_only(tmp_path, quick):
    class Own:
        simulated = True

        def __repr__(self):
            return "a secret"

        async def attempt(self, request, *, timeouts, key):
            return llmlab.Answer("yes")

    experiment = Experiment(backend=Own(), workload=OpenLoop(calls=3))
    path = llmlab.report(experiment.run(), tmp_path / "out.html")
    text = Outline(path.read_text("utf-8")).text
    assert "a Own" in text
    assert "secret" not in text
    assert "No call failed." in text


def test_a_single_run_is_reported_too(tmp_path):
    experiment = Experiment(backend=MockBackend(server=ServerModel(slots=2)), workload=OpenLoop(calls=40))
    outline = Outline(llmlab.report(experiment.run(), tmp_path / "out.html", title="One").read_text("utf-8"))
    assert outline.headings[0] == "One"
    assert "What happened over time?" in outline.headings


def test_of_a_sweep_it_is_enough_to_have_kept_the_calls(sweep, tmp_path):
    sweep.run(store=tmp_path / "store", keep="calls", progress=False)
    stored = SweepResult.load(tmp_path / "store")
    text = Outline(llmlab.report(stored, tmp_path / "out.html").read_text("utf-8")).text
    assert f"{stored.calls['attempts'].sum():,}" in text


def test_long_tables_are_cut_and_say_so(result, tmp_path, quick, monkeypatch):
    monkeypatch.setattr(sections, "MOST_ROWS", 1)
    text = Outline(llmlab.report(result, tmp_path / "out.html").read_text("utf-8")).text
    assert "1 further row left out" in text


@pytest.mark.parametrize(("name", "what"), [("", "it is a folder"), ("none/out.html", "there is no folder")])
def test_a_path_that_cannot_be_written_is_refused_before_any_work(result, tmp_path, name, what, monkeypatch):
    monkeypatch.setattr(document.sections, "charts", lambda *_: pytest.fail("the charts were drawn for nothing"))
    with pytest.raises(SettingsError, match=what):
        llmlab.report(result, tmp_path / name)


def test_what_is_no_result_or_no_recommendation_is_refused_before_any_work(result, tmp_path):
    with pytest.raises(SettingsError, match="result must be what a sweep brought, a SweepResult, got a DataFrame"):
        llmlab.report(result.calls, tmp_path / "out.html")
    with pytest.raises(SettingsError, match="recommendation must be that of recommend\\(\\), got a SLO"):
        llmlab.report(result, tmp_path / "out.html", recommendation=SLO(success_rate=0.9))


def test_what_fails_leaves_the_earlier_file_as_it_was(result, tmp_path, monkeypatch, quick):
    path = tmp_path / "out.html"
    path.write_text("earlier")
    monkeypatch.setattr(sections, "numbers", lambda result: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        llmlab.report(result, path)
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("out.html", "earlier")]
