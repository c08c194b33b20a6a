"""Texts of models, servers and files stay texts on every page: reports, notebooks, widgets, the fault server's own."""

import base64
import contextlib
import json
import re
from html.parser import HTMLParser
from importlib import resources
from xml.etree import ElementTree as ET

import httpx
import ipywidgets
import pytest

import llmlab
from llmlab import (
    SLO,
    ClosedLoop,
    Experiment,
    FaultServer,
    LLMRequest,
    LocalLLM,
    MockBackend,
    MockLLM,
    OpenAILLM,
    SettingsError,
    Sweep,
    calibrate,
    counterfactual,
    recommend,
)
from llmlab.backends.ollama_description import InstalledModel, LoadedModel, ServerDescription
from llmlab.conduct.judge import judge
from llmlab.conduct.recording import Header, Recording, Request
from llmlab.experiments.runs import FailedRun
from llmlab.server.replay import ReplayServer
from llmlab.widgets import SweepDashboard
from tests.ollama_replay import answer, line

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;$\\frac{a$"
MODEL = "workload.requests.0.model"
BASE = Experiment(
    backend=MockBackend(name=HOSTILE, model=HOSTILE, overload_probability=0.3),
    workload=ClosedLoop(calls=40, users=2, requests=[LLMRequest(prompt="Hello", model="m")]),
)


class Parsed(HTMLParser):
    """A page as a browser takes it: its elements, their attributes, and what is text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data):
        self.text += data


def assert_harmless(source: str, *, shows: bool = True) -> None:
    page = Parsed(source)
    assert not page.tags & {"script", "iframe", "object", "embed", "link", "base", "form", "svg"}
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    links = [value for name, value in page.attributes if name in {"src", "href", "action", "formaction"}]
    assert all(link.startswith(("data:image/svg+xml;base64,", "data:image/png;base64,", "#")) for link in links), links
    for svg in re.findall(r"data:image/svg\+xml;base64,([^\"']+)", source):
        elements = list(ET.fromstring(base64.b64decode(svg)).iter())
        assert not {element.tag.rpartition("}")[2] for element in elements} & {"script", "foreignObject", "a"}
        named = [(name, value) for element in elements for name, value in element.attrib.items()]
        assert all(value.startswith(("#", "data:image/png")) for name, value in named if name.endswith("}href"))
    assert HOSTILE in page.text or not shows, "the text is there, as a text"


@pytest.fixture(scope="module")
def result():
    swept = Sweep(BASE, {MODEL: [HOSTILE, "b"], "policy.retry.max_retries": [0, 1]}).run(progress=False)
    swept.failures.append(FailedRun({MODEL: HOSTILE}, 0, 0, f"RuntimeError: {HOSTILE}"))
    return swept


@pytest.fixture(scope="module")
def advice(result):
    return recommend(result, SLO(success_rate=0.5), settings=["policy.retry.max_retries"])


def test_a_report_shows_names_of_models_settings_and_failures_as_texts(result, advice, tmp_path):
    path = llmlab.report(result, tmp_path / "out.html", recommendation=advice, title=HOSTILE)
    source = path.read_text(encoding="utf-8")
    assert_harmless(source)
    assert f"<title>{HOSTILE[:8]}" not in source
    assert "default-src 'none'" in source


def test_results_recommendations_and_calibrations_are_harmless_in_a_notebook(result, advice):
    events = BASE.run()
    assert_harmless(result._repr_html_())
    assert_harmless(advice._repr_html_())
    assert_harmless(calibrate(events)._repr_html_(), shows=False)
    assert_harmless(counterfactual(events, BASE.policy)._repr_html_(), shows=False)


def test_an_answer_and_a_failure_are_harmless_in_a_notebook():
    assert_harmless(MockLLM(text=HOSTILE, model=HOSTILE).generate("Hello")._repr_html_())
    lines = [answer(line(), json.dumps({"error": HOSTILE}).encode())]
    with ReplayServer(lines) as server:
        for llm in (LocalLLM(base_url=server.url, model=HOSTILE, max_retries=0),):
            assert_harmless(llm.generate("Hello")._repr_html_())
        assert_harmless(OpenAILLM(base_url=server.url, model=HOSTILE).generate("Hello")._repr_html_(), shows=False)


def test_what_a_server_says_of_itself_is_harmless_in_a_notebook():
    described = ServerDescription(
        base_url="http://127.0.0.1:1",
        version=HOSTILE,
        models=(InstalledModel(HOSTILE, family=HOSTILE, parameters=HOSTILE, quantisation=HOSTILE),),
        loaded=(LoadedModel(HOSTILE),),
        slots=None,
        problems=(HOSTILE,),
    )
    assert_harmless(described._repr_html_())


def test_a_verdict_shows_what_a_client_calls_itself_as_a_text():
    request = Request(
        request=0,
        connection=0,
        reused=False,
        arrived_at_s=0.0,
        call=0,
        client=HOSTILE[:90],
        endpoint=f"/{HOSTILE[:40]}",
    )
    verdict = judge(Recording.of([Header(server=HOSTILE[:90]), request], notices=[HOSTILE]))
    assert_harmless(verdict._repr_html_())


@pytest.fixture
def widgets(monkeypatch):
    """Every widget that is made."""
    made = []
    first = ipywidgets.Widget.__init__

    def noted(self, *given, **named):
        made.append(self)
        first(self, *given, **named)

    monkeypatch.setattr(ipywidgets.Widget, "__init__", noted)
    return made


def test_the_dashboard_shows_names_and_errors_as_texts(widgets, tmp_path):
    (tmp_path / "hostile.toml").write_text(f"[backend]\nkind = {json.dumps(HOSTILE)}\n")
    board = SweepDashboard(BASE)
    try:
        board.wait()
        board.sweep_over(("max_retries", HOSTILE))
        board.mode = "sweep"
        board.run()
        board.wait()
        shown = [board.error]
        with contextlib.suppress(SettingsError):
            board.load(tmp_path / "hostile.toml")
        shown += [board.error, *(widget.value for widget in widgets if isinstance(widget, ipywidgets.HTML))]
        assert any("&lt;script&gt;" in page for page in shown), "what was typed is quoted in the error"
        for page in shown:
            assert_harmless(page, shows=False)
        assert not any(getattr(widget, "description_allow_html", False) for widget in widgets)
    finally:
        board.close()


def test_the_fault_servers_page_never_makes_html_of_what_it_is_told():
    page = (resources.files("llmlab.server") / "page.html").read_text(encoding="utf-8")
    script = page.partition("<script>")[2]
    assert "textContent" in script
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|\beval\b", script
    )


def test_the_fault_servers_pages_say_what_they_are_and_forbid_the_rest():
    with FaultServer(MockBackend(model=HOSTILE, name=HOSTILE)) as server, httpx.Client(trust_env=False) as http:
        http.get(f"{server.url}/{HOSTILE}")
        page = http.get(server.url, headers={"accept": "text/html"})
        state = http.get(f"{server.url}/__llmlab__/state")
        nothing = http.get(f"{server.url}/__llmlab__/{HOSTILE}")
    assert "script" not in page.text.partition("<script>")[0], "what it shows, it asks for as JSON"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for told in (state, nothing):
        assert told.headers["content-type"].startswith("application/json")
        assert told.headers["x-content-type-options"] == "nosniff"
    assert state.json()["weather_in_short"]["model"].startswith(HOSTILE[:50])
