"""Prompts are counted and told apart, and stand in nothing that llmlab writes or shows."""

import json

import pytest
from typer.testing import CliRunner

import llmlab
from llmlab import (
    Answer,
    ClosedLoop,
    Condition,
    Experiment,
    Fallback,
    LLMRequest,
    Message,
    MockBackend,
    OpenLoop,
    Samples,
    SettingsError,
    Sweep,
    TraceArrivals,
)
from llmlab.cli import app
from llmlab.experiments.readable import readable, settings_by_path
from llmlab.experiments.sweep_result import SweepResult

CANARY = "canary"
PRIVATE = LLMRequest(
    prompt=f"{CANARY} prompt", system=f"{CANARY} system", stop=f"{CANARY} stop", metadata={"a": f"{CANARY} metadata"}
)
REQUESTS = "workload.requests"
RETRIES = "policy.retry.max_retries"
BASE = Experiment(workload=ClosedLoop(calls=3, users=1, requests=PRIVATE))


@pytest.fixture(scope="module")
def sweep():
    return Sweep(
        BASE,
        {
            REQUESTS: [f"{CANARY} one", [f"{CANARY} two", PRIVATE], [{"prompt": f"{CANARY} three"}]],
            "workload.users": [1, 2],
        },
        samples=Samples("random", 2, {"workload.requests.0.system": [f"{CANARY} four", f"{CANARY} five"]}),
        where=Condition(REQUESTS, "!=", f"{CANARY} six"),
    )


def test_swept_prompts_become_their_number_and_a_digest():
    settings = [swept for swept, _, _ in Sweep(BASE, {REQUESTS: ["one", ["one", "two"], ["one", "six"]]}).runs()]
    labels = [swept[REQUESTS] for swept in settings]
    assert [label.partition(" (")[0] for label in labels] == ["1 request", "2 requests", "2 requests"]
    assert len(set(labels)) == 3, "prompts of the same length are told apart"


def test_the_same_prompt_has_the_same_digest_in_another_sweep():
    grids = [{REQUESTS: ["one", "two"]}, {REQUESTS: ["zero", "one"]}]
    first, second = ([swept[REQUESTS] for swept, _, _ in Sweep(BASE, grid).runs()] for grid in grids)
    assert first[0] == second[1]


@pytest.mark.parametrize(
    ("path", "value", "shown"),
    [
        ("policy.retry.max_retries", 2, 2),
        ("workload.users", 3, 3),
        ("workload.requests.0.model", "small", "small"),
        ("workload.requests.0.max_tokens", 5, 5),
        ("workload.requests.0.system", None, None),
    ],
)
def test_what_holds_no_prompt_is_shown_as_it_is(path, value, shown):
    assert readable(path, value) == shown


@pytest.mark.parametrize(
    ("path", "value", "begins"),
    [
        ("workload.requests.0.prompt", CANARY, "prompt ("),
        ("workload.requests.0.messages", (Message(role="user", content=CANARY),), "messages ("),
        ("workload.requests.1", PRIVATE, "request ("),
        ("workload", BASE.workload, "ClosedLoop(calls=3, users=1, requests=1 request ("),
        ("workload", {"kind": "closed", "requests": [CANARY]}, "dict(kind=closed, requests=1 request ("),
    ],
)
def test_what_holds_one_is_named_and_digested(path, value, begins):
    assert readable(path, value).startswith(begins)
    assert CANARY not in readable(path, value)


@pytest.mark.parametrize(
    "grid",
    [
        {REQUESTS: [f"{CANARY} one"], "workload.users": [0]},
        {REQUESTS: [{"prompt": CANARY}]},
        {"workload": [{"kind": "closed", "requests": CANARY, "users": 0}]},
    ],
)
def test_an_error_quotes_no_prompt(grid):
    with pytest.raises(SettingsError) as caught:
        Sweep(BASE, grid)
    assert CANARY not in str(caught.value)


def test_nothing_that_is_written_holds_a_prompt(sweep, tmp_path):
    result = sweep.run(store=tmp_path / "runs", progress=False)
    assert result.calls[REQUESTS].nunique() == 3
    assert SweepResult.load(tmp_path / "runs").calls[REQUESTS].nunique() == 3
    llmlab.report(
        result,
        tmp_path / "report.html",
        recommendation=llmlab.recommend(result, llmlab.SLO(success_rate=0.9), settings=[REQUESTS]),
    )
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".parquet", ".json", ".jsonl", ".html"}
    assert [path.name for path in files if CANARY.encode() in path.read_bytes()] == []


def test_nothing_that_is_shown_holds_a_prompt(sweep, tmp_path):
    result = sweep.run(store=tmp_path / "runs", progress=False)
    found = llmlab.recommend(result, llmlab.SLO(success_rate=0.9), settings=[REQUESTS])
    said = [repr(sweep), str(sweep), repr(BASE), str(BASE), repr(result), result._repr_html_(), str(found), repr(found)]
    said += [repr(result.runs), repr(result.failures), result.calls.to_string(), result.summary().to_csv()]
    for arguments in ([], ["--json"]):
        outcome = CliRunner().invoke(app, ["show", str(tmp_path / "runs"), *arguments])
        assert outcome.exit_code == 0
        said.append(outcome.output)
    assert json.loads(said[-1])["finished"] == 12
    assert [text[:100] for text in said if CANARY in text] == []


def test_settings_by_path_count_prompts_and_answers_and_number_entries():
    script = [Answer(f"{CANARY} answer")]
    targets = Fallback([MockBackend(script=script), MockBackend()])
    found = settings_by_path(BASE.replace(backend=targets))
    assert found["backend.targets.0.backend.script"].startswith("1 scripted (")
    assert found[REQUESTS].startswith("1 request (")
    assert CANARY not in json.dumps(found)


def test_a_long_list_is_counted_too():
    recorded = TraceArrivals(recorded=[float(second) for second in range(1000)])
    found = settings_by_path(Experiment(workload=OpenLoop(arrivals=recorded)))
    assert found["workload.arrivals.recorded"].startswith("1,000 values (")


def test_a_store_keeps_the_settings_of_each_sweep_in_it(tmp_path):
    slow = BASE.replace(workload=ClosedLoop(calls=3, users=2))
    for base in (slow, BASE, BASE):
        Sweep(base, {RETRIES: [0]}).run(store=tmp_path, progress=False)
    assert SweepResult.load(tmp_path).settings == settings_by_path(BASE)
    assert len(list((tmp_path / "sweeps").iterdir())) == 2
