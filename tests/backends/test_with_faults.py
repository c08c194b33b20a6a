import pickle

import pytest

from llmlab import (
    Answer,
    AsyncClient,
    Client,
    ClientPolicy,
    FailureReason,
    Faults,
    MockBackend,
    RetryPolicy,
    SettingsError,
    WithFaults,
)
from llmlab.backends.faults import SPOILS_THE_ANSWER, FaultKind
from llmlab.virtual_time import run

ONCE = ClientPolicy(retry=RetryPolicy(max_retries=0), attempt_timeout=0.03)


class Counted:
    name = "counted"

    def __init__(self):
        self.attempts = 0
        self.closed = 0

    async def attempt(self, request, *, timeouts, key):
        self.attempts += 1
        return Answer("a real answer")

    async def aclose(self):
        self.closed += 1


@pytest.mark.parametrize(
    "fault",
    [
        *(FaultKind.TIMEOUT, FaultKind.CONNECTION_ERROR, FaultKind.RATE_LIMIT, FaultKind.OVERLOAD),
        *(FaultKind.SERVER_ERROR, FaultKind.EMPTY, FaultKind.MALFORMED, FaultKind.TRUNCATED),
    ],
)
def test_a_faulty_attempt_is_not_sent_unless_the_fault_is_in_the_text(fault):
    backend = Counted()
    result = Client(WithFaults(backend, Faults(**{fault: 1.0})), ONCE).generate("Hello")
    assert backend.attempts == (fault in SPOILS_THE_ANSWER)
    assert result.ok is (fault is FaultKind.TRUNCATED)


def test_without_faults_everything_goes_through():
    backend = Counted()
    with Client(WithFaults(backend)) as client:
        assert client.generate("Hello").text == "a real answer"
    assert (backend.attempts, backend.closed) == (1, 1)


def test_it_is_simulated_where_the_backend_behind_is():
    assert not WithFaults(Counted()).simulated
    assert WithFaults(WithFaults(MockBackend())).simulated


def test_it_is_named_after_the_backend_behind():
    assert WithFaults(Counted()).name == "counted+faults"
    assert WithFaults(MockBackend(), name="mine").name == "mine"


def test_its_faults_are_drawn_apart_from_those_of_the_backend_behind():
    async def main(backend):
        results = await AsyncClient(backend, ONCE.replace(attempt_timeout=None), seed=0).generate_many(["a"] * 400)
        return [not result.ok for result in results]

    inner = run(main(MockBackend(overload_probability=0.5)))
    outer = run(main(WithFaults(MockBackend(), overload_probability=0.5)))
    both = sum(one and other for one, other in zip(inner, outer, strict=True))
    assert both / 400 == pytest.approx(0.25, abs=0.07)


def test_it_can_be_replaced_and_pickled_like_any_setting():
    faulty = WithFaults(MockBackend(), timeout_probability=0.1, seed=4)
    changed = faulty.replace(overload_probability=0.2)
    assert changed.faults == Faults(timeout=0.1, overload=0.2)
    assert (changed.backend, changed.seed) == (faulty.backend, 4)
    assert pickle.loads(pickle.dumps(faulty)) == faulty


def test_what_comes_with_it_is_what_a_server_would_send():
    result = Client(WithFaults(Counted(), rate_limit_probability=1.0, faults=Faults(retry_after=500.0))).generate("a")
    assert (result.last_reason, result.retry_after, result.status_code) == (FailureReason.RATE_LIMITED, 500, 429)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WithFaults("ollama"), "backend: needs a method `async def attempt(...)`; a str has none"),
        (WithFaults, "backend: needs a method"),
        (lambda: WithFaults(Counted(), timeout_probability=2), "timeout_probability must be 1 or less, got 2"),
        (lambda: WithFaults(Counted(), timeouts=1), "WithFaults has no setting 'timeouts'"),
        (lambda: WithFaults(Counted(), 0.2), "faults must be"),
    ],
)
def test_wrong_settings_are_refused_in_words(make, message):
    with pytest.raises(SettingsError) as caught:
        make()
    assert message in str(caught.value)
