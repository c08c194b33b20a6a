import asyncio
import copy
import gc
import pickle
import weakref

import pytest

from llmlab import (
    Answer,
    AsyncClient,
    AttemptFailure,
    AttemptKey,
    ClientPolicy,
    EventLog,
    Exponential,
    FailureReason,
    Faults,
    LLMRequest,
    MockBackend,
    RetryPolicy,
    Timeouts,
    Usage,
)
from llmlab.virtual_time import run

R = FailureReason
ONCE = ClientPolicy(retry=RetryPolicy(max_retries=0), attempt_timeout=10.0)


def ask(backend, request="Hello", policy=ONCE):
    return run(AsyncClient(backend, policy, seed=0).generate(request))


@pytest.mark.parametrize(
    ("fault", "reason", "latency"),
    [
        ("timeout", R.ATTEMPT_TIMEOUT, 10.0),
        ("connection_error", R.CONNECTION_FAILED, 0.5),
        ("rate_limit", R.RATE_LIMITED, 0.5),
        ("overload", R.OVERLOADED, 0.5),
        ("server_error", R.SERVER_ERROR, 0.5),
        ("empty", R.EMPTY_OUTPUT, 2.0),
        ("malformed", R.MALFORMED_OUTPUT, 2.0),
        ("truncated", None, 2.0),
    ],
)
@pytest.mark.parametrize("how", ["probability", "faults", "script"])
def test_every_fault_takes_its_time_and_has_its_reason(fault, reason, latency, how):
    settings = {
        "probability": {f"{fault}_probability": 1.0},
        "faults": {"faults": Faults(**{fault: 1.0})},
        "script": {"script": [fault]},
    }[how]
    result = ask(MockBackend(latency=2.0, refusal_latency=0.5, **settings))
    assert result.latency == latency
    assert getattr(result, "reason", None) == reason


def test_no_fault_happens_unasked():
    assert all(result.ok for result in run(answers(MockBackend(), 200)))


async def answers(backend, count):
    return await AsyncClient(backend, ONCE, seed=0).generate_many(["Hello"] * count)


def test_faults_come_as_often_as_their_probability_says():
    results = run(answers(MockBackend(overload_probability=0.3), 4000))
    assert sum(not result.ok for result in results) / 4000 == pytest.approx(0.3, abs=0.03)


def test_a_script_is_met_by_every_call_and_then_the_probabilities_rule():
    backend = MockBackend(
        script=["overload", "answer", AttemptFailure(R.REFUSED, "no"), Answer("scripted")],
        overload_probability=1.0,
        latency=2.0,
    )

    async def main():
        for call in range(2):
            outcomes = [
                await backend.attempt(LLMRequest(prompt="a"), timeouts=Timeouts(), key=AttemptKey(call, attempt))
                for attempt in range(1, 6)
            ]
            assert [getattr(outcome, "reason", "answered") for outcome in outcomes] == [
                R.OVERLOADED,
                "answered",
                R.REFUSED,
                "answered",
                R.OVERLOADED,
            ]
            assert outcomes[3].text == "scripted"

    run(main())


def test_an_answer_says_which_model_and_counts_its_tokens():
    result = ask(MockBackend(text="12345678", model="m", first_token_share=0.5, latency=2.0), "x" * 41)
    assert (result.text, result.model, result.usage) == ("12345678", "m", Usage(11, 2))
    assert (result.time_to_first_token, result.latency) == (1, 2)
    assert ask(MockBackend(), LLMRequest(prompt="a", model="other")).model == "other"


def test_a_text_may_be_a_function_of_the_request():
    assert ask(MockBackend(text=lambda request: request.prompt.upper())).text == "HELLO"
    with pytest.raises(TypeError, match="a function of the request, must return a str, got a NoneType"):
        ask(MockBackend(text=lambda _: None))


def test_it_has_one_server_for_each_event_loop():
    backend = MockBackend()

    async def main():
        return backend.session()

    async def twice():
        assert backend.session() is backend.session()
        assert backend.replace(seed=1).session() is not backend.session()
        assert backend.model_copy(update={"seed": 1}).session().settings.seed == 1

    assert run(main()) is not run(main())
    run(twice())


def test_it_keeps_no_closed_loop_alive_but_the_last():
    backend, loops = MockBackend(), []

    async def main():
        loops.append(weakref.ref(asyncio.get_running_loop()))
        backend.session()

    for _ in range(4):
        run(main())
    gc.collect()
    assert [loop() for loop in loops[:-1]] == [None] * 3


@pytest.mark.parametrize(
    "backend",
    [MockBackend(), MockBackend(latency=Exponential(mean=2), timeout_probability=0.2, script=["overload"], seed=3)],
)
def test_it_is_a_value(backend):
    used = pickle.loads(pickle.dumps(backend))
    ask(used)
    assert used == backend
    assert hash(used) == hash(backend)
    assert pickle.loads(pickle.dumps(used)) == copy.deepcopy(used) == copy.copy(used) == backend
    assert MockBackend.model_validate_json(used.model_dump_json()) == backend
    assert MockBackend(seed=99) != backend


def test_replacing_a_shorthand_keeps_the_other_faults():
    backend = MockBackend(timeout_probability=0.1, faults=Faults(empty=0.2)).replace(overload_probability=0.3)
    assert backend.faults == Faults(timeout=0.1, empty=0.2, overload=0.3)
    assert MockBackend(faults={"empty": 0.2}, empty_probability=0.4).faults == Faults(empty=0.4), "the shorthand wins"


@pytest.mark.parametrize("script", [["answer"], ["timeout"], ["overload", "answer"], ["stall"]])
def test_what_an_attempt_meets_does_not_depend_on_who_keeps_its_timeout(script):
    """The flow hands `begin` the limit; behind another backend (`attempt`) it cuts the attempt off itself."""

    class Behind:
        simulated = True

        def __init__(self, backend):
            self.backend = backend

        async def attempt(self, request, *, timeouts, key):
            return await self.backend.attempt(request, timeouts=timeouts, key=key)

    def events(wrap):
        log = EventLog()
        policy = ClientPolicy(attempt_timeout=2.0, total_timeout=5.0)
        backend = wrap(MockBackend(script=script, latency=1.5))
        run(AsyncClient(backend, policy, observers=[log], seed=1).generate("Hello"))
        return repr([event._replace(backend="") for event in log.attempts]), repr(log.calls)  # NaN is not itself

    assert events(lambda backend: backend) == events(Behind)


def test_a_cancelled_attempt_leaves_no_timer():
    async def main():
        loop = asyncio.get_running_loop()
        client = AsyncClient(MockBackend(latency=500.0), ClientPolicy(attempt_timeout=None, total_timeout=None))
        call = asyncio.create_task(client.generate("Hello"))
        await asyncio.sleep(1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert [timer for timer in loop._timers if not timer.cancelled()] == []

    run(main())
