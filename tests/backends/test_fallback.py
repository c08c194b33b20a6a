"""Fallback: the decision as a table, and the targets at work under the real client."""

import asyncio
import pickle

import pytest

from llmlab import (
    Answer,
    AsyncClient,
    AttemptFailure,
    Client,
    ClientPolicy,
    ClosedLoop,
    EventLog,
    Experiment,
    FailureReason,
    Fallback,
    Fate,
    Layer,
    LLMRequest,
    MockBackend,
    RetryPolicy,
    ServerModel,
    SettingsError,
    Sweep,
    Window,
    WithFaults,
)
from llmlab.backends.fallback import MOVES_ON, ONE_TRY, falls_back, of_all
from llmlab.core.breaker import CircuitBreaker
from llmlab.experiments.experiment import seeded
from llmlab.virtual_time import run

R = FailureReason
ONCE = ClientPolicy(retry=RetryPolicy(max_retries=0))


class Says:
    """Answers with its word, or fails as it is told; keeps what it was asked."""

    simulated = True

    def __init__(self, outcome, seconds=1.0):
        self.outcome = Answer(outcome, time_to_first_token=seconds / 2) if isinstance(outcome, str) else outcome
        self.seconds, self.asked, self.closed = seconds, [], 0

    async def attempt(self, request, *, timeouts, key):
        self.asked.append(request)
        await asyncio.sleep(self.seconds)
        return self.outcome

    async def aclose(self):
        self.closed += 1


def failing(reason, **fields):
    return Says(AttemptFailure(reason, f"met {reason}", **fields))


def ask(backend, policy=ONCE, observers=(), request="Hi"):
    return run(AsyncClient(backend, policy, observers=observers, seed=0).generate(request))


# ---- the decision


@pytest.mark.parametrize("reason", FailureReason)
def test_which_reasons_move_on_to_the_next_target(reason):
    stays = {R.INVALID_REQUEST, R.EMPTY_PROMPT, R.TRUNCATED_OUTPUT, R.REFUSED, R.CANCELLED, R.CRASHED}
    assert falls_back(AttemptFailure(reason, "..."), MOVES_ON) is (reason not in stays)
    assert not falls_back(AttemptFailure(reason, "..."), frozenset())
    assert not falls_back(Answer("text"), MOVES_ON)


BUSY = AttemptFailure(R.OVERLOADED, "busy", 503)
LATER = AttemptFailure(R.RATE_LIMITED, "later", 429, retry_after=9.0)
SOON = AttemptFailure(R.RATE_LIMITED, "soon", 429, retry_after=2.0)
NO_KEY = AttemptFailure(R.NOT_AUTHORISED, "no key", 401)
NO_MODEL = AttemptFailure(R.MODEL_NOT_FOUND, "no model", 404)
ASKED_BACK = NO_MODEL._replace(retryable=True)


@pytest.mark.parametrize(
    ("failures", "chosen"),
    [
        ([BUSY], BUSY),
        ([NO_KEY, NO_MODEL], NO_MODEL),
        ([BUSY, NO_KEY], BUSY),
        ([LATER, SOON, NO_KEY], SOON),
        ([SOON, LATER], SOON),
        ([LATER, BUSY], BUSY),
        ([BUSY, LATER], BUSY),
        ([BUSY, BUSY._replace(status_code=529)], BUSY._replace(status_code=529)),
        ([NO_KEY, ASKED_BACK, NO_MODEL], ASKED_BACK),
    ],
)
def test_an_attempt_can_be_tried_again_as_soon_as_one_of_its_targets_can(failures, chosen):
    failure = of_all([(f"t{place}", one) for place, one in enumerate(failures)])
    assert failure._replace(message="") == chosen._replace(message="")
    assert all(f"t{place}: {one.reason}: {one.message}" in failure.message for place, one in enumerate(failures[1:], 1))


# ---- at work


def test_the_first_that_answers_wins_and_later_ones_are_not_asked():
    first, second, third = failing(R.OVERLOADED), Says("second"), Says("third")
    log = EventLog()
    result = ask(Fallback([first, second, third]), observers=[log])
    assert (result.text, result.attempts, result.latency) == ("second", 1, 2.0)
    assert result.time_to_first_token == 1.5
    assert [len(target.asked) for target in (first, second, third)] == [1, 1, 0]
    assert [(call.layer, call.fate) for call in log.calls] == [
        ("target1", Fate.RETRIES_EXHAUSTED),
        ("target2", Fate.ANSWERED),
        ("client", Fate.ANSWERED),
    ]
    assert {(call.parent_call, call.parent_attempt) for call in log.calls[:2]} == {(0, 1)}
    assert log.calls[0].call != log.calls[1].call
    assert log.attempts[-1].backend == "fallback"


def test_a_request_that_is_wrong_everywhere_is_asked_once():
    second = Says("second")
    result = ask(Fallback([failing(R.INVALID_REQUEST), second]))
    assert (result.reason, result.fate, second.asked) == (R.INVALID_REQUEST, Fate.NOT_RETRYABLE, [])
    assert result.message == "met invalid_request"


def test_what_moves_on_is_ones_own_choice():
    assert ask(Fallback([failing(R.REFUSED), Says("second")], on=MOVES_ON | {R.REFUSED})).text == "second"
    assert ask(Fallback([failing(R.OVERLOADED), Says("second")], on={R.CIRCUIT_OPEN})).reason is R.OVERLOADED


def test_an_answer_that_is_of_no_use_moves_on_too():
    question = LLMRequest(prompt="Hi", response_format="json")
    assert ask(Fallback([Says("no JSON"), Says("{}")]), request=question).text == "{}"
    assert ask(Fallback([Says(" "), Says("text")])).text == "text"


def test_another_model_of_the_same_server():
    server = MockBackend(text=lambda request: f"from {request.model}", script=["overload"])
    targets = [Layer(server, ONCE, model="large", name="large"), Layer(Says("small"), ONCE, model="s", name="small")]
    assert ask(Fallback(targets)).text == "small"
    assert targets[1].backend.asked[0].model == "s"


def test_where_all_fail_the_outer_client_tries_all_again_and_the_failure_names_each():
    first, second = failing(R.OVERLOADED), failing(R.NOT_AUTHORISED)
    result = ask(Fallback([first, second]), ClientPolicy(retry=RetryPolicy(max_retries=2)))
    assert (result.reason, result.attempts, len(first.asked), len(second.asked)) == (R.OVERLOADED, 3, 3, 3)
    assert "none of 2 targets answered: target1: overloaded: met overloaded" in result.message
    assert "target2: not_authorised: met not_authorised" in result.message


def test_a_targets_own_retries_come_before_the_next_target():
    first = failing(R.SERVER_ERROR)
    patient = Layer(first, ClientPolicy(retry=RetryPolicy(max_retries=3)), name="patient")
    assert ask(Fallback([patient, Says("second")])).text == "second"
    assert len(first.asked) == 4


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (ClientPolicy(attempt_timeout=5.0), R.ATTEMPT_TIMEOUT),
        (ClientPolicy(attempt_timeout=None, total_timeout=5.0), R.TOTAL_DEADLINE_EXCEEDED),
    ],
)
def test_the_outer_clients_timeouts_bound_all_targets_together(policy, reason):
    log = EventLog()
    slow = [Layer(Says("late", seconds=4.0), ONCE.replace(attempt_timeout=3.0), name=f"slow{n}") for n in range(3)]
    result = ask(Fallback(slow), policy.replace(retry=RetryPolicy(max_retries=0)), observers=[log])
    assert (result.reason, result.latency) == (reason, 5.0)
    assert [(call.layer, call.fate) for call in log.calls[:-1]] == [
        ("slow0", Fate.RETRIES_EXHAUSTED),
        ("slow1", Fate.CANCELLED),
    ]


def test_a_plain_target_that_hangs_leaves_the_others_their_turn_within_the_default_timeout():
    hanging = [MockBackend(timeout_probability=1.0), MockBackend(timeout_probability=1.0)]
    result = ask(Fallback([*hanging, Says("third")]), ClientPolicy(retry=RetryPolicy(max_retries=0)))
    assert (result.text, result.latency) == ("third", 21.0)
    assert 3 * ONE_TRY.attempt_timeout <= ClientPolicy().attempt_timeout


def test_a_target_whose_circuit_is_open_is_passed_over_at_once():
    outage = MockBackend(latency=1.0, faults={"schedule": [Window(kind="timeout", start=0, end=60)]})
    breaker = CircuitBreaker(minimum_attempts=2, open_for=20.0)
    first = Layer(outage, ONE_TRY.replace(breaker=breaker), name="first")
    backend = Fallback([first, Layer(MockBackend(latency=1.0), name="second")])
    result = Experiment(backend=backend, workload=ClosedLoop(calls=60, users=1)).run()
    assert result.calls["answered"].all()
    fates = result.layer("first").calls["fate"].value_counts()
    assert fates[Fate.CIRCUIT_OPEN] > 30  # at once, where a timeout takes 10 s
    assert fates[Fate.ANSWERED] > 0  # it is back after the outage
    passed_over = result.layer("first").calls.query("fate == 'circuit_open'")["parent_call"]
    assert (result.calls.set_index("call").loc[passed_over, "latency_s"] == 1.0).all()


def test_existing_clients_are_targets_with_their_own_limits_and_observers():
    log, own = EventLog(), EventLog()
    client = AsyncClient(MockBackend(script=["overload"]), ONCE, observers=[own], layer="mine", seed=0)
    assert ask(Fallback([client, Says("second")]), observers=[log]).text == "second"
    assert [call.layer for call in own.calls] == ["mine"]
    assert [call.layer for call in log.calls] == ["mine", "target2", "client"]


def test_targets_fail_independently():
    targets = [MockBackend(overload_probability=0.3), MockBackend(overload_probability=0.3)]  # of the same seed
    calls = Experiment(backend=Fallback(targets), policy=ONCE, workload=ClosedLoop(calls=4000, users=50)).run().calls
    assert 1 - calls["answered"].mean() == pytest.approx(0.09, abs=0.014)  # three standard errors


def test_every_target_is_seeded_by_its_place():
    one, two = seeded(Fallback([MockBackend(), Layer(MockBackend(), name="b")]), 5).targets
    assert one.backend.seed == one.seed == 5
    assert two.backend.seed == two.seed not in {0, 5}


def test_it_is_swept_by_the_number_of_a_target():
    backend = Fallback([MockBackend(overload_probability=1.0), MockBackend()])
    base = Experiment(backend=backend, policy=ONCE, workload=ClosedLoop(calls=20))
    grid = {"backend.targets.1.backend.overload_probability": [0.0, 1.0]}
    assert list(Sweep(base, grid).run(progress=False).summary()["success_rate"]) == [1.0, 0.0]
    with pytest.raises(SettingsError, match="'2' is no number of an entry there; valid: 0, 1"):
        Sweep(base, {"backend.targets.2.model": ["m"]})


def test_it_is_simulated_where_all_targets_are_and_shows_the_first_ones_server():
    assert Fallback([MockBackend(), Says("x")]).simulated
    assert not Fallback([MockBackend(), Layer(object.__new__(Real))]).simulated
    queueing = MockBackend(server=ServerModel(slots=1))
    result = Experiment(backend=Fallback([queueing, MockBackend()]), workload=ClosedLoop(calls=5)).run()
    assert result.server["busy"].max() == 1


class Real:
    """Of the outside world."""

    async def attempt(self, request, *, timeouts, key):
        return Answer("real")


def test_it_works_in_real_time_and_closes_all_targets():
    targets = [Says(BUSY, seconds=0.0), Says("second", seconds=0.0)]
    with Client(Fallback(targets), ONCE, real_time=True, observers=[EventLog()]) as client:
        assert client.generate("Hi").text == "second"
    assert [target.closed for target in targets] == [1, 1]


def test_it_stands_behind_faults_and_in_another_fallback():
    log = EventLog()
    nested = Fallback([WithFaults(Fallback([failing(R.OVERLOADED)])), Fallback([failing(R.OVERLOADED), Says("last")])])
    assert ask(nested, observers=[log]).text == "last"
    assert [call.layer for call in log.calls] == ["target1-2", "target1", "target1-2", "target2-2", "target2", "client"]


def test_it_is_a_value():
    backend = Fallback([MockBackend(), Layer(MockBackend(), model="m", name="b")], on={R.OVERLOADED})
    ask(backend, observers=[EventLog()])
    assert pickle.loads(pickle.dumps(backend)) == backend
    assert backend.replace(name="other").targets == backend.targets
    assert Experiment(**Experiment(backend=backend).to_dict()).backend == backend
    assert not Experiment(backend=Fallback([AsyncClient(MockBackend())])).portable
    assert backend == Fallback([MockBackend(), Layer(MockBackend(), model="m", name="b")], on={R.OVERLOADED})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Fallback, "Fallback needs 'targets'"),
        (lambda: Fallback([]), "targets: a list of at least one backend is needed, got an empty one"),
        (lambda: Fallback(MockBackend()), "targets: a list of at least one backend is needed, got a MockBackend"),
        (lambda: Fallback([3]), "targets: backend: needs a method `async def attempt(...)`; a int has none"),
        (lambda: Fallback([AsyncClient(Real()), AsyncClient(Real())]), "targets: several are called 'client'"),
        (lambda: Fallback([Real()], on={R.CANCELLED}), "on: no target fails with 'cancelled'; valid: attempt_timeout,"),
        (lambda: Fallback([Real()], on={"slow"}), "on.0 must be one of"),
        (lambda: Experiment(backend={"kind": "fallback", "targets": [{"kind": "mok"}]}), "did you mean 'mock'?"),
        (lambda: Experiment(backend={"kind": "fallback", "targets": []}), "targets: a list of at least one backend"),
    ],
)
def test_wrong_settings_are_refused_in_words(make, message):
    with pytest.raises(SettingsError) as caught:
        make()
    assert message in str(caught.value)
