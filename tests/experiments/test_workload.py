import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab import (
    Answer,
    AsyncClient,
    ClientPolicy,
    ClosedLoop,
    EventLog,
    Experiment,
    LLMRequest,
    MockBackend,
    OpenLoop,
    SettingsError,
)
from llmlab.virtual_time import run

PATIENT = ClientPolicy(attempt_timeout=None, total_timeout=None)


@settings(max_examples=30)
@given(users=st.integers(1, 12), slots=st.integers(1, 6), calls=st.integers(60, 120))
def test_a_closed_workload_gives_the_throughput_of_theory(users, slots, calls):
    """N users without think time on c slots of service time S: min(N, c) / S, after the fill of the last round."""
    service = 2.0
    policy = PATIENT.replace(max_concurrency=slots)
    result = Experiment(
        backend=MockBackend(latency=service), policy=policy, workload=ClosedLoop(calls=calls, users=users)
    ).run()
    rounds = -(-calls // min(users, slots))
    assert result.calls["ended_at_s"].max() == pytest.approx(rounds * service)


def test_think_time_lowers_the_load():
    workload = ClosedLoop(calls=40, users=2, think_time=3.0)
    result = Experiment(backend=MockBackend(latency=1.0), policy=PATIENT, workload=workload).run()
    assert list(result.calls["started_at_s"][:6]) == [0, 0, 4, 4, 8, 8]


@pytest.mark.parametrize("arrivals", ["constant", "poisson"])
def test_an_open_workload_counts_latency_from_the_intended_start(arrivals):
    """One slot at half the speed of the arrivals: the n-th call waits longer and longer, and says so."""
    workload = OpenLoop(calls=50, rate=1.0, arrivals=arrivals)
    policy = PATIENT.replace(max_concurrency=1)
    calls = Experiment(backend=MockBackend(latency=2.0), policy=policy, workload=workload).run().calls
    calls = calls.sort_values("call")
    assert list(calls["arrived_at_s"]) == list(calls["started_at_s"]), "in virtual time nothing is late"
    ends = calls["ended_at_s"]
    assert (ends.diff().dropna() >= 2 - 1e-9).all()
    first = calls.iloc[-1]
    assert first["ended_at_s"] - first["arrived_at_s"] > 30
    if arrivals == "constant":
        assert list(calls["arrived_at_s"]) == pytest.approx(list(range(1, 51)))


def test_a_late_loop_does_not_hide_latency():
    import time

    class Blocking:
        async def attempt(self, request, *, timeouts, key):
            time.sleep(0.01)  # noqa: ASYNC251 - the loop is late for all later calls
            return Answer("ok")

    calls = Experiment(backend=Blocking(), workload=OpenLoop(calls=5, rate=1000.0, arrivals="constant")).run().calls
    late = calls["started_at_s"] - calls["arrived_at_s"]
    assert late.iloc[-1] > 0.02
    assert (calls["ended_at_s"] - calls["arrived_at_s"]).iloc[-1] > late.iloc[-1]


def test_poisson_arrivals_have_the_rate_and_spread_of_theory():
    workload = OpenLoop(calls=4000, rate=5.0)
    calls = Experiment(backend=MockBackend(latency=0.0), workload=workload, seed=3).run().calls
    gaps = calls.sort_values("call")["arrived_at_s"].diff().dropna()
    assert gaps.mean() == pytest.approx(0.2, rel=0.06)
    assert gaps.std() == pytest.approx(0.2, rel=0.08)


@given(st.integers(1, 5), st.integers(1, 20), st.integers(1, 4))
@settings(max_examples=20)
def test_call_n_asks_request_n_whoever_makes_it(users, calls, requests):
    asked = {}

    class Notes:
        simulated = True

        async def attempt(self, request, *, timeouts, key):
            asked[key.call] = request.prompt
            await asyncio.sleep(1)
            return Answer("ok")

    prompts = [f"prompt {number}" for number in range(requests)]
    for workload in (
        ClosedLoop(calls=calls, users=users, requests=prompts),
        OpenLoop(calls=calls, requests=prompts),
    ):
        asked.clear()
        Experiment(backend=Notes(), workload=workload).run()
        assert asked == {number: prompts[number % requests] for number in range(calls)}


@pytest.mark.parametrize("workload", [ClosedLoop(calls=20, users=4), OpenLoop(calls=20, rate=100.0)])
def test_a_bug_ends_the_run_and_leaves_nothing_behind(workload):
    class Buggy:
        async def attempt(self, request, *, timeouts, key):
            if key.call == 3:
                raise ZeroDivisionError("a bug")
            await asyncio.sleep(1000)

    log = EventLog()

    async def main():
        client = AsyncClient(Buggy(), PATIENT, observers=[log])
        with pytest.raises(ZeroDivisionError):
            await workload.run(client.flow(), seed=0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())
    assert {call.fate for call in log.calls} == {"crashed", "cancelled"}


def test_requests_are_taken_as_texts_or_requests():
    assert ClosedLoop(requests="a").requests == (LLMRequest(prompt="a"),)
    assert OpenLoop(requests=["a", LLMRequest(prompt="b")]).requests == (LLMRequest(prompt="a"), LLMRequest(prompt="b"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ClosedLoop(users=0), "users must be 1 or more, got 0"),
        (lambda: ClosedLoop(calls=0), "calls must be 1 or more, got 0"),
        (lambda: ClosedLoop(think_time=-1), "think_time must be 0 or more, got -1"),
        (lambda: OpenLoop(rate=0), "rate must be more than 0, got 0"),
        (lambda: OpenLoop(arrivals="bursty"), "arrivals must be one of 'poisson' or 'constant', got 'bursty'"),
        (lambda: ClosedLoop(requests=[]), "requests must"),
        (lambda: ClosedLoop(requests=[5]), "requests.0 must be"),
        (lambda: ClosedLoop(rate=1), "ClosedLoop has no setting 'rate'"),
        (lambda: Experiment(workload={"kind": "half-open"}), "workload must be of one of the kinds 'closed', 'open'"),
    ],
)
def test_wrong_settings_are_refused_in_words(make, message):
    with pytest.raises(SettingsError) as caught:
        make()
    assert message in str(caught.value)
