import asyncio

import pytest
from pydantic import BaseModel

from llmlab import (
    AsyncClient,
    Backoff,
    Client,
    ClientPolicy,
    ClosedLoop,
    EventLog,
    Experiment,
    FailureReason,
    Hedging,
    JsonLinesObserver,
    Layer,
    LLMRequest,
    MockBackend,
    ReplayBackend,
    RetryPolicy,
    SettingsError,
    Sweep,
    SweepResult,
    Timeouts,
)
from llmlab.analysis import attempts_frame
from llmlab.backends.replay import Unknown
from llmlab.virtual_time import run
from tests.experiments.golden import digest, experiments


def policy(retries=0, **settings):
    backoff = Backoff(base=1, jitter="none")
    return ClientPolicy(**{"retry": RetryPolicy(max_retries=retries, backoff=backoff), **settings})


def recorded(backend, policy, calls=1, request="Hello"):
    log = EventLog()

    async def main():
        client = AsyncClient(backend, policy, observers=[log], seed=0)
        for _ in range(calls):
            await client.generate(request)

    run(main())
    return log


def replayed(backend, policy, calls=1, request="Hello"):
    return recorded(backend, policy, calls, request).attempts


# ---- as it was


@pytest.mark.parametrize("name", experiments())
def test_the_same_client_meets_the_same_events_to_the_byte(name):
    experiment = experiments()[name]
    log = experiment.record().log
    backend = ReplayBackend(log)
    assert digest(experiment.replace(backend=backend).record().log) == digest(log)
    assert backend.unknown == {}


def test_a_broken_bound_on_a_phase_comes_again_and_is_marked_since_the_log_does_not_say_which_it_was():
    backend = MockBackend(script=["stall"], latency=4.0)
    bounded = policy(timeouts=Timeouts(between_chunks=2))
    log = recorded(backend, bounded)
    again = ReplayBackend(log)
    assert digest(recorded(again, bounded)) == digest(log)
    assert again.unknown == {(0, 1): Unknown.CUT_SHORT}


def test_recorded_answers_come_with_their_tokens_and_a_text_of_their_length():
    log = recorded(MockBackend(text="a" * 100, latency=2.0), policy())
    response = Client(ReplayBackend(log), policy()).generate("Hello").unwrap()
    assert len(response.text) == 100
    assert response.usage == (2, 25)
    assert response.latency == 2.0


class Point(BaseModel):
    x: int
    y: int


@pytest.mark.parametrize("response_format", ["json", Point, Point.model_json_schema()])
def test_an_answer_fits_the_format_that_is_asked_for(response_format):
    request = LLMRequest(prompt="Hello", response_format=response_format)
    log = recorded(MockBackend(), policy(), request=request)
    assert Client(ReplayBackend(log), policy()).generate(request).ok


def test_another_time_of_asking_shifts_an_answer_and_does_not_change_it():
    log = recorded(MockBackend(script=["overload", "answer"], refusal_latency=0.5, latency=2.0), policy(retries=1))
    patient = policy(retry=RetryPolicy(max_retries=1, backoff=Backoff(base=10, maximum=10, jitter="none")))
    backend = ReplayBackend(log)
    first, second = replayed(backend, patient)
    assert (first.ended_at_s, first.reason) == (0.5, "overloaded")
    assert (second.started_at_s, second.ended_at_s, second.reason) == (10.5, 12.5, None)
    assert backend.unknown == {}


def test_a_servers_retry_after_and_status_come_again():
    log = recorded(MockBackend(faults={"rate_limit": 1.0, "retry_after": 7.0}), policy())
    (attempt,) = replayed(ReplayBackend(log), policy())
    assert (attempt.retry_after_s, attempt.status_code, attempt.reason) == (7.0, 429, "rate_limited")


def test_a_client_with_less_patience_is_known_to_be_cut_off():
    log = recorded(MockBackend(latency=3.0), policy())
    backend = ReplayBackend(log)
    (attempt,) = replayed(backend, policy(attempt_timeout=2.0))
    assert (attempt.ended_at_s, attempt.reason) == (2.0, "attempt_timeout")
    assert backend.unknown == {}


# ---- what the log cannot give


def test_an_attempt_beyond_the_log_is_marked_whatever_is_made_up_for_it():
    log = recorded(MockBackend(script=["overload"] * 9, refusal_latency=0.5), policy())
    ends = {}
    for made_up in ("recorded", "best", "worst", "resample"):
        backend = ReplayBackend(log, made_up=made_up)
        _, beyond = replayed(backend, policy(retries=1, attempt_timeout=5.0))
        assert backend.unknown == {(0, 2): Unknown.NOT_RECORDED}
        ends[made_up] = (beyond.reason, beyond.ended_at_s)
    assert ends == {
        "recorded": ("attempt_timeout", 6.5),
        "best": (None, 1.5),
        "worst": ("attempt_timeout", 6.5),
        "resample": ("overloaded", 2.0),  # the only attempt of the log
    }


def test_an_attempt_that_was_cut_short_is_marked_where_the_client_waits_longer():
    slow = MockBackend(script=["timeout"])
    log = recorded(slow, policy(attempt_timeout=2.0))
    ends = {}
    for made_up in ("recorded", "best", "worst"):
        backend = ReplayBackend(log, made_up=made_up)
        (attempt,) = replayed(backend, policy(attempt_timeout=5.0))
        assert backend.unknown == {(0, 1): Unknown.CUT_SHORT}
        ends[made_up] = (attempt.reason, attempt.ended_at_s)
    assert ends == {"recorded": ("attempt_timeout", 2.0), "best": (None, 2.0), "worst": ("attempt_timeout", 5.0)}


def test_a_cut_short_attempt_is_resampled_from_those_that_took_longer():
    log = recorded(MockBackend(script=["timeout"]), policy(attempt_timeout=2.0))
    longer = recorded(MockBackend(latency=3.0), policy(), calls=2).attempts[1]
    backend = ReplayBackend([*log.attempts, longer], made_up="resample")
    (attempt,) = replayed(backend, policy(attempt_timeout=5.0))
    assert (attempt.reason, attempt.ended_at_s) == (None, 3.0)


@pytest.mark.parametrize("made_up", ["recorded", "worst", "resample"])
def test_without_any_timeout_the_longest_recorded_time_ends_what_no_answer_would(made_up):
    log = recorded(MockBackend(script=["timeout"]), policy(attempt_timeout=2.0))
    backend = ReplayBackend(log, made_up=made_up)
    boundless = policy(attempt_timeout=None, total_timeout=None)
    (attempt,) = replayed(backend, boundless)
    assert attempt.reason == "attempt_timeout"
    assert attempt.ended_at_s <= 4.0


def test_a_cancelled_attempt_is_unknown_from_its_end_on():
    log = EventLog()

    async def main():
        client = AsyncClient(MockBackend(latency=9.0), policy(), observers=[log])
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.generate("Hello"), 1)

    run(main())
    backend = ReplayBackend(log, made_up="best")
    (attempt,) = replayed(backend, policy())
    assert attempt.reason is None
    assert backend.unknown == {(0, 1): Unknown.CUT_SHORT}


def test_a_hedge_is_not_answered_as_the_retry_that_was_recorded():
    log = recorded(MockBackend(script=["timeout", "answer"], latency=1.0), policy(retries=1, attempt_timeout=5.0))
    backend = ReplayBackend(log)
    replayed(backend, policy(attempt_timeout=5.0, hedging=Hedging(delay=2.0)))
    assert backend.unknown == {(0, 2): Unknown.OTHER_CIRCUMSTANCES}


def test_a_text_that_did_not_fit_is_unknown_to_a_request_that_asks_for_no_format():
    asked = LLMRequest(prompt="Hello", response_format="json")
    log = recorded(MockBackend(script=["malformed"]), policy(), request=asked)
    backend = ReplayBackend(log)
    replayed(backend, policy(), request="Hello")
    assert backend.unknown == {(0, 1): Unknown.OTHER_REQUEST}
    assert replayed(ReplayBackend(log), policy(), request=asked)[0].reason == "malformed_output"


# ---- whence


def test_every_holder_of_the_same_events_gives_the_same_answers(tmp_path):
    experiment = Experiment(backend=MockBackend(overload_probability=0.3), workload=ClosedLoop(calls=20))
    with JsonLinesObserver(tmp_path / "events.jsonl") as file:
        log = experiment.record(observers=[file]).log
    Sweep(experiment).run(store=tmp_path / "store", progress=False)
    result = experiment.run()
    loaded = SweepResult.load(tmp_path / "store")
    sources = [log, log.attempts, attempts_frame(log), result, result.attempts, loaded, tmp_path / "events.jsonl"]
    digests = {digest(experiment.replace(backend=ReplayBackend(source)).record().log) for source in sources}
    assert digests == {digest(log)}


def test_a_replay_can_be_swept_and_stored(tmp_path):
    base = Experiment(workload=ClosedLoop(calls=30), backend=MockBackend(overload_probability=0.4))
    grid = {"policy.retry.max_retries": [0, 2]}
    replay = base.replace(backend=ReplayBackend(base.record().log))
    result = Sweep(replay, grid).run(store=tmp_path, progress=False)
    assert result.summary()["success_rate"].is_monotonic_increasing
    assert Sweep(replay, grid).run(store=tmp_path, progress=False).calls.equals(result.calls)


def test_another_log_has_another_fingerprint():
    one, same, other = (recorded(MockBackend(latency=at), policy()) for at in (1.0, 1.0, 2.0))
    assert ReplayBackend(one).fingerprint == ReplayBackend(same).fingerprint
    assert ReplayBackend(one).fingerprint != ReplayBackend(other).fingerprint
    assert ReplayBackend(one).fingerprint != ReplayBackend(one, made_up="best").fingerprint


def test_of_stacked_clients_the_outermost_is_taken_unless_told_otherwise():
    log = recorded(Layer(MockBackend(script=["overload"], latency=1.0), name="sdk"), policy())
    assert repr(ReplayBackend(log)) == "<ReplayBackend: 1 calls, 1 attempts; else recorded>"
    assert repr(ReplayBackend(log, layer="sdk")) == "<ReplayBackend: 1 calls, 2 attempts; else recorded>"
    with pytest.raises(SettingsError, match=r"no layer 'sdl'; did you mean 'sdk'\? valid: client, sdk"):
        ReplayBackend(log, layer="sdl")


def test_events_of_several_runs_are_refused():
    result = Sweep(Experiment(workload=ClosedLoop(calls=2)), {"policy.retry.max_retries": [0, 1]}).run(progress=False)
    with pytest.raises(SettingsError, match=r"hold attempt \(1, 1\) twice, so they are of several runs"):
        ReplayBackend(result)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (EventLog(), "no attempt among the events"),
        (7, "got a int"),
        (["hello"], "got a str among them"),
        ([], "no attempt among the events"),
    ],
)
def test_what_holds_no_events_is_refused(source, message):
    with pytest.raises(SettingsError, match=message):
        ReplayBackend(source)


def test_a_frame_without_a_column_a_directory_and_wrong_values_are_refused(tmp_path):
    log = recorded(MockBackend(), policy())
    with pytest.raises(SettingsError, match="needs the columns hedge, which this one lacks"):
        ReplayBackend(attempts_frame(log).drop(columns="hedge"))
    with pytest.raises(SettingsError, match=r"is a directory; for a store of one run give SweepResult\.load"):
        ReplayBackend(tmp_path)
    with pytest.raises(SettingsError, match="reason must be one of attempt_timeout, "):
        ReplayBackend([log.attempts[0]._replace(reason="tired")])
    for wrong, message in ((float("nan"), "got NaN or infinity"), ("soon", "got a str"), (None, "got a NoneType")):
        with pytest.raises(SettingsError, match=f"ended_at_s of an event must be a number, {message}"):
            ReplayBackend([log.attempts[0]._replace(ended_at_s=wrong)])
    with pytest.raises(SettingsError, match="valid: best, recorded, resample, worst"):
        ReplayBackend(log, made_up="guess")
    with pytest.raises(SettingsError, match="seed must be a whole number, got '7'"):
        ReplayBackend(log, seed="7")


def test_neither_a_deadline_nor_a_crash_of_then_is_taken_for_an_answer():
    event = recorded(MockBackend(latency=1.0), policy()).attempts[0]
    for reason in (FailureReason.TOTAL_DEADLINE_EXCEEDED, FailureReason.CRASHED):
        backend = ReplayBackend([event._replace(reason=reason, finish_reason=None)])
        (attempt,) = replayed(backend, policy(attempt_timeout=9.0))
        assert attempt.reason == "attempt_timeout"
        assert backend.unknown == {(0, 1): Unknown.CUT_SHORT}


def test_it_is_a_plain_backend_too():
    log = recorded(MockBackend(latency=1.0), policy())

    class InFront:
        simulated = True

        def __init__(self, backend):
            self.backend = backend

        async def attempt(self, request, *, timeouts, key):
            return await self.backend.attempt(request, timeouts=timeouts, key=key)

    (attempt,) = replayed(InFront(ReplayBackend(log)), policy())
    assert attempt.ended_at_s == 1.0
