"""No key, prompt or answer stands in anything that is written or shown, but where the user asks for it."""

import socket

import httpx
import pytest

import llmlab
from llmlab import (
    SLO,
    Answer,
    ClosedLoop,
    Condition,
    Experiment,
    Fallback,
    FaultKind,
    FaultServer,
    Layer,
    LLMRequest,
    LocalLLM,
    MockBackend,
    OllamaBackend,
    OpenAIBackend,
    OpenAILLM,
    Sweep,
    SweepResult,
    WithFaults,
    as_code,
    calibrate,
    counterfactual,
    export_policy,
    reading,
    recommend,
)
from llmlab.core.vocabulary import FailureReason
from tests.security import meetings
from tests.security.canaries import CANARIES, KEY, OUTPUT, PASSWORD, PRIVATE, PROMPT, Witness
from tests.security.meetings import ALONE, CONVERSATION, POLICY

R = FailureReason


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("written")


@pytest.fixture(scope="module")
def met(folder):
    """Everything that calls write and show, and their results."""
    witness, results = Witness(), []
    observed = meetings.Observed(folder)
    with pytest.MonkeyPatch.context() as environment, witness.listening():
        environment.setenv("OPENAI_API_KEY", KEY)
        results += meetings.simulated(witness, observed)
        results += meetings.on_loopback(witness, observed, folder)
        results += meetings.with_hostile_servers(witness, observed)
        observed.told(witness)
    witness.was_stored(folder)
    return witness, results


@pytest.mark.parametrize("canary", PRIVATE)
def test_calls_leave_no_private_text_anywhere(met, canary):
    witness, _ = met
    below = {"the log of httpcore.http11", "the log of httpcore.connection"} if canary == "header" else set()
    assert witness.found(canary) <= below, "httpcore, asked to say everything, says the headers of answers"


def test_the_words_of_a_server_stand_in_the_failure_that_they_caused_and_nowhere_else(met):
    witness, _ = met
    shown = {where for where in witness.found("error") if not where.startswith(("a LLMFailure", "a LLMError"))}
    assert shown == set()
    assert witness.found("error"), "and there they do"


def test_the_calls_met_what_they_should(met):
    witness, results = met
    assert {result.reason for result in results if not result.ok} >= {
        *(R.ATTEMPT_TIMEOUT, R.CONNECTION_LOST, R.RATE_LIMITED, R.OVERLOADED, R.SERVER_ERROR, R.EMPTY_OUTPUT),
        *(R.MALFORMED_OUTPUT, R.MALFORMED_RESPONSE, R.REFUSED, R.INVALID_REQUEST, R.NOT_AUTHORISED),
    }
    assert {result.text for result in results if result.ok} >= {OUTPUT}, "where it was asked for, the text is there"
    places = {where for where, _ in witness.texts}
    assert places >= {
        *("the file events.jsonl", "the file conduct.jsonl", "a span", "metrics", "the fault server's own pages"),
        *("the log of llmlab", "the log of httpx", "the log of httpcore.http11", "the log of asyncio"),
        *("a LLMResponse in a notebook", "a LLMFailure in a notebook", "a LLMError that was raised"),
    }
    recorded = (text for where, text in witness.texts if where == "the file conduct.jsonl")
    assert all(f'"{kind}"' in text for text in recorded for kind in FaultKind if kind is not FaultKind.CONNECTION_ERROR)


def test_the_witness_finds_what_is_there(tmp_path):
    witness = Witness()
    Sweep(Experiment(backend=MockBackend(text=OUTPUT), workload=ClosedLoop(requests=ALONE))).save(tmp_path / "a.toml")
    witness.was_stored(tmp_path)
    assert witness.found("prompt") == witness.found("output") == {"the file a.toml"}, "saving is asking for it"
    witness.saw("code", as_code(Experiment(workload=ClosedLoop(requests=ALONE))))
    assert witness.found("system") == {"the file a.toml", "code"}


@pytest.fixture(scope="module")
def experimented(tmp_path_factory):
    """Everything that experiments with private texts write and show."""
    witness, folder = Witness(), tmp_path_factory.mktemp("experiments")
    backend = MockBackend(text=OUTPUT, script=("overload", Answer(OUTPUT)), name="mock")
    base = Experiment(backend=backend, policy=POLICY, workload=ClosedLoop(calls=30, users=3, requests=[ALONE, PROMPT]))
    layered = base.replace(backend=Fallback([Layer(WithFaults(backend, timeout_probability=0.1)), backend]))
    retries = "policy.retry.max_retries"
    grid = {retries: [0, 1], "workload.requests": [[CONVERSATION], PROMPT], "backend.text": [OUTPUT, f"no {OUTPUT}"]}
    sweep = Sweep(base, grid, where=Condition("workload.requests", "!=", PROMPT + "!"))
    with witness.listening():
        result = sweep.run(store=folder / "store", progress=False)
        stored, alone = SweepResult.load(folder / "store"), layered.run()
        advice = recommend(result, SLO(success_rate=0.5), settings=[retries])
        calibrated = calibrate(alone.layer("mock") if "mock" in alone.layers else base.run())
        values = [base, layered, layered.backend, sweep, result, stored, alone, advice, calibrated, reading(base)]
        values += [
            counterfactual(base.run(), POLICY),
            export_policy(POLICY, "openai"),
            FaultServer(backend),
            *sweep.runs(),
        ]
        for value in values:
            witness.was_shown(value)
        for one in (result, stored, alone):
            for frame in (one.calls, one.attempts, one.server, one.summary()):
                witness.saw("a data frame", frame.to_csv() + str(frame.attrs))
            witness.saw("the settings of a result", str(one.settings))
        llmlab.report(stored, folder / "report.html", recommendation=advice)
        calibrated.save(folder / "calibration.json")
    witness.was_stored(folder)
    return witness


@pytest.mark.parametrize("canary", PRIVATE)
def test_experiments_leave_no_private_text_in_stores_reports_and_notebooks(experimented, canary):
    assert experimented.found(canary) == set()


def test_the_experiments_wrote_what_they_should(experimented):
    places = {where for where, _ in experimented.texts}
    assert {"the file report.html", "the file report.html, packed", "the file calibration.json"} <= places
    assert any(place.startswith("the table calls-") for place in places)


WRONG = [
    lambda: LLMRequest(prompt=[PROMPT]),
    lambda: LLMRequest(prompt={PROMPT: 1}),
    lambda: LLMRequest(prompt=PROMPT, messages=[PROMPT]),
    lambda: LLMRequest(messages=PROMPT),
    lambda: LLMRequest(messages=[PROMPT]),
    lambda: LLMRequest(messages=[{"role": "user", "content": [PROMPT]}]),
    lambda: LLMRequest(messages=[{"role": "user", "content": PROMPT, "name": PROMPT}]),
    lambda: LLMRequest(prompt=PROMPT, metadata=PROMPT),
    lambda: LLMRequest(prompt="a", stop=[5, PROMPT]),
    lambda: ClosedLoop(requests=[5, PROMPT]),
    lambda: MockBackend(text=[OUTPUT]),
    lambda: MockBackend(script=OUTPUT),
    lambda: MockBackend(script=(OUTPUT,)),
    lambda: MockBackend(script=({"kind": "answer", "text": [OUTPUT], "model": 5},)),
    lambda: Sweep(Experiment(), {"workload.requests": [[5, PROMPT]]}),
    lambda: Sweep(Experiment(), {"backend.script": [[OUTPUT]]}),
    lambda: Sweep(Experiment(), {"workload.requests": [PROMPT, PROMPT]}),
    lambda: OllamaBackend(base_url=f"http://me:{PASSWORD}@127.0.0.1:1"),
    lambda: OllamaBackend(base_url=f"me:/{PASSWORD}@127.0.0.1"),
    lambda: OpenAIBackend(base_url=f"https://127.0.0.1/v1?key={PASSWORD}"),
    lambda: OpenAIBackend(base_url=f"http:/me:{PASSWORD}@127.0.0.1"),
    lambda: OpenAIBackend(api_key_env=KEY),
    lambda: FaultServer(upstream=f"http://me:{PASSWORD}@127.0.0.1:1"),
    lambda: FaultServer(upstream=f"http://127.0.0.1:1/?key={PASSWORD}"),
]


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_refused_is_not_quoted_where_it_may_be_private(wrong):
    witness = Witness()
    with pytest.raises((ValueError, TypeError)) as caught:
        wrong()
    witness.was_raised(caught.value)
    assert [name for name in CANARIES if witness.found(name)] == []


@pytest.mark.parametrize("variable", ["OLLAMA_HOST", "OPENAI_BASE_URL"])
def test_a_password_in_the_environment_is_refused_and_not_quoted(monkeypatch, variable):
    witness = Witness()
    monkeypatch.setenv(variable, f"http://me:{PASSWORD}@127.0.0.1:1")
    llm = LocalLLM() if variable == "OLLAMA_HOST" else OpenAILLM()
    with pytest.raises(ValueError, match=variable) as caught:
        llm.generate("Hello")
    witness.was_raised(caught.value)
    assert witness.found("password") == set()


def test_the_password_of_a_proxy_and_that_of_a_users_own_client_are_shown_by_nothing(monkeypatch):
    witness = Witness()
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    monkeypatch.setenv("http_proxy", f"http://me:{PASSWORD}@127.0.0.1:{port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with witness.listening():
        for own in (None, httpx.AsyncClient(auth=("me", PASSWORD), trust_env=False)):
            host = (
                "far.example.test" if own is None else f"127.0.0.1:{port}"
            )  # the first by the proxy; neither is there
            llm = LocalLLM(base_url=f"http://{host}", model="m", max_retries=0, http_client=own)
            result = llm.generate("Hello")
            assert result.reason is R.CONNECTION_FAILED
            witness.was_shown(llm)
            meetings.show_result(witness, result)
    assert witness.found("password") == set()
