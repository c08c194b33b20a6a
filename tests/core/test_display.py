"""How values look: HTML that is well formed and escaped, text that fits a terminal, and no prompt in either."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

import llmlab
from llmlab import (
    SLO,
    AdaptiveConcurrency,
    AdaptiveThrottle,
    AsyncMockLLM,
    Backoff,
    CircuitBreaker,
    ClientPolicy,
    ClosedLoop,
    EventLog,
    Experiment,
    Fallback,
    Faults,
    Hedging,
    Layer,
    LLMRequest,
    MockBackend,
    MockLLM,
    OpenLoop,
    RateLimit,
    RetryBudget,
    RetryPolicy,
    ServerModel,
    Sweep,
    Timeouts,
    calibrate,
    counterfactual,
    export_policy,
    preset,
    reading,
    recommend,
)
from llmlab.analysis.compare import compare
from llmlab.core.display import as_text, card, grid, laid_out
from llmlab.experiments.tune import Tuned

EVIL = "<script>alert('&')</script>"
SECRET = "my-secret-prompt"
BASE = Experiment(
    backend=MockBackend(timeout_probability=0.3, server=ServerModel(slots=4)),
    policy=ClientPolicy(retry=RetryPolicy(max_retries=1, backoff=Backoff(base=2.0)), max_concurrency=8),
    workload=ClosedLoop(calls=40, requests=[LLMRequest(prompt=SECRET, system=SECRET)]),
)
SWEEP = Sweep(BASE, {"policy.retry.max_retries": [0, 1, 2]})
SETTINGS = [
    BASE,
    SWEEP,
    BASE.policy,
    preset("openai"),
    RetryPolicy(),
    Backoff(maximum=3.0),
    RateLimit(requests=3),
    Timeouts(),
    RetryBudget(),
    CircuitBreaker(),
    AdaptiveThrottle(),
    AdaptiveConcurrency(),
    Hedging(delay=1.0),
    SLO(success_rate=0.9),
    LLMRequest(prompt=SECRET, stop=(SECRET,), metadata={"who": SECRET}),
    MockBackend(script=["overload", llmlab.Answer(SECRET)]),
    ServerModel(slots=2),
    Faults(timeout=0.1),
    OpenLoop(rate=3.0),
    BASE.workload,
    Layer(MockBackend(), name=EVIL),
    Fallback([MockBackend(), MockBackend()]),
]


@pytest.fixture(scope="module")
def results():
    log = EventLog()
    with MockLLM(overload_probability=0.5, max_retries=1, observers=[log]) as llm:
        batch = llm.generate_many([SECRET] * 60)
    swept = SWEEP.run(progress=False)
    recommended = recommend(swept, SLO(success_rate=0.5))
    few = swept.calls[swept.calls["policy.retry.max_retries"] == 0]
    many = swept.calls[swept.calls["policy.retry.max_retries"] == 2]
    return {
        "batch": batch,
        "response": next(result for result in batch if result.ok),
        "failure": next(result for result in batch if not result.ok),
        "log": log,
        "sweep result": swept,
        "recommendation": recommended,
        "tuned": Tuned(swept, recommended),
        "comparison": compare(few, many, "answered"),
        "counterfactual": counterfactual(log, ClientPolicy()),
        "calibration": calibrate(log),
        "reading": reading(BASE),
        "estimate": reading(BASE).success,
        "runner up": recommended.runner_up,
        "export": export_policy(BASE.policy, "openai"),
        "client": MockLLM(max_retries=5),
        "async client": AsyncMockLLM(),
    }


NAMES = ["batch", "response", "failure", "log", "sweep result", "recommendation", "tuned", "comparison"]
NAMES += ["counterfactual", "calibration", "reading", "estimate", "runner up", "export", "client", "async client"]


def check(value):
    page = value._repr_html_()
    ET.fromstring(page)
    assert "<script" not in page
    said = [repr(value), str(value)]
    for text in (page, *said):
        assert SECRET not in text
    return page, said


@pytest.mark.parametrize("value", SETTINGS, ids=lambda value: type(value).__name__)
def test_settings_show_themselves_in_a_cell_and_in_a_terminal(value):
    _, said = check(value)
    assert max(len(line) for text in said for line in text.splitlines()) <= 120


@pytest.mark.parametrize("name", NAMES)
def test_results_show_themselves_in_a_cell_and_in_a_terminal(name, results):
    page, said = check(results[name])
    assert "var(--jp-" in page
    assert said[0] != object.__repr__(results[name])


def test_a_policy_says_first_what_differs_from_the_defaults_and_folds_the_rest_away():
    policy = ClientPolicy(retry=RetryPolicy(max_retries=7))
    assert repr(policy) == str(policy) == "ClientPolicy(retry=RetryPolicy(max_retries=7))"
    before, after = policy._repr_html_().split("<details>")
    assert "retry.max_retries" in before
    assert "attempt_timeout" not in before
    assert "attempt_timeout" in after
    assert repr(ClientPolicy()) == "ClientPolicy()"
    assert "all settings at their defaults" in ClientPolicy()._repr_html_()


def test_what_differs_is_enough_to_make_the_value_again():
    policy = BASE.policy
    assert eval(repr(policy), vars(llmlab)) == policy


def test_a_long_value_is_broken_into_one_line_for_each_part():
    assert laid_out("Name", [("a", 1), (None, "b")]) == "Name(a=1, 'b')"
    assert laid_out("Name", [("a", "x" * 60), ("b", "y" * 60)]).splitlines() == [
        "Name(",
        f"    a={'x' * 60!r},",
        f"    b={'y' * 60!r},",
        ")",
    ]
    grid = {"a" * 40: (1, 2), "b" * 40: (3, 4)}
    assert laid_out("Name", [("grid", grid)]).splitlines()[1:3] == [
        f"    grid={{'{'a' * 40}': (1, 2),",
        f"          '{'b' * 40}': (3, 4)}},",
    ]
    assert as_text(list(range(1000))) == "<1,000 values>"
    assert as_text(frozenset({llmlab.FailureReason.OVERLOADED})) == "{'overloaded'}"


def test_every_text_of_a_card_and_of_a_table_is_escaped():
    for page in (
        card(EVIL, [(EVIL, EVIL)], folded=[(EVIL, EVIL)]),
        grid(EVIL, [EVIL], [[EVIL]], note=EVIL),
    ):
        ET.fromstring(page)
        assert "<script" not in page
        assert page.count("&lt;script&gt;") >= 4


def test_a_table_shows_numbers_with_four_figures_nan_as_nothing_and_cuts_what_is_long():
    page = grid("t", ["a", "b"], [[1.23456, np.float64("nan")]] * 50)
    assert page.count(">1.235<") == 40
    assert "nan" not in page
    assert "10 more rows" in page


def test_the_results_of_a_batch_are_a_list_that_counts(results):
    batch = results["batch"]
    assert isinstance(batch, list)
    answered = sum(result.ok for result in batch)
    assert repr(batch) == f"<60 results: {answered} answered, {60 - answered} overloaded>"
    assert f"{answered} of 60" in batch._repr_html_()
