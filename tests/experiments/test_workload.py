import asyncio
import math
from itertools import pairwise

import numpy as np
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
from llmlab.experiments.arrivals import BurstyArrivals, ConstantArrivals, PoissonArrivals, TraceArrivals
from llmlab.experiments.rates import RateRamp, RateSteps
from llmlab.virtual_time import run

PATIENT = ClientPolicy(attempt_timeout=None, total_timeout=None)
TRACE = TraceArrivals(recorded=[0, 0.5, 0.5, 3])
SPIKE = RateSteps(points=[(0, 5), (20, 50), (30, 5)])


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


def arrived(workload, seed=0, backend=MockBackend(latency=0.0)):  # noqa: B008 - frozen
    calls = Experiment(backend=backend, workload=workload, seed=seed).run().calls
    return calls.sort_values("call")["arrived_at_s"].to_list()


@pytest.mark.parametrize(
    "workload",
    [
        OpenLoop(calls=50),
        OpenLoop(calls=50, arrivals="bursty", rate=SPIKE),
        OpenLoop(duration=4, arrivals="constant", rate=RateRamp(points=[(0, 0), (4, 10)])),
        OpenLoop(arrivals=TRACE),
        OpenLoop(arrivals=TRACE.replace(speed=0.5), duration=5),
        OpenLoop(rate=0.001, duration=0.001),
    ],
)
def test_calls_arrive_when_the_schedule_says_whatever_the_server_does(workload):
    schedule = list(workload.times(3))
    assert arrived(workload, 3) == schedule
    assert arrived(workload, 3, MockBackend(latency=30.0, overload_probability=0.5)) == schedule
    assert all(earlier <= later for earlier, later in pairwise(schedule))


def test_a_duration_bounds_arrivals_and_not_the_calls_that_are_open_at_its_end():
    workload = OpenLoop(rate=2.0, duration=10, arrivals="constant")
    assert workload.calls is None
    calls = Experiment(backend=MockBackend(latency=5.0), policy=PATIENT, workload=workload).run().calls
    assert len(calls) == 19, "the one at t=10 comes too late"
    assert calls["ended_at_s"].max() == 9.5 + 5
    assert len(list(OpenLoop(rate=2.0, duration=10, calls=4).times(0))) == 4
    assert len(list(OpenLoop(rate=2.0, duration=1e9, calls=4).times(0))) == 4


def test_a_trace_bounds_itself():
    assert (OpenLoop(arrivals=TRACE).calls, OpenLoop(arrivals=TRACE).rate) == (4, None)
    assert list(OpenLoop(arrivals=TRACE, calls=2).times(0)) == [0, 0.5]
    assert list(OpenLoop(arrivals=TRACE, duration=3).times(0)) == [0, 0.5, 0.5]
    longer = TraceArrivals(recorded=range(9))
    assert OpenLoop(arrivals=TRACE).replace(arrivals=longer).calls == 9
    assert OpenLoop(arrivals=TRACE).replace(arrivals="poisson") == OpenLoop()
    assert OpenLoop(duration=3).replace(duration=None) == OpenLoop()


def test_a_spike_of_the_rate_reaches_the_client():
    times = np.array(arrived(OpenLoop(rate=SPIKE, duration=60), seed=2))
    counts = np.histogram(times, [0, 20, 30, 60])[0]
    assert counts == pytest.approx([100, 500, 150], rel=0.25)


class Stalls:
    """Theory case 9 (Gil Tene, coordinated omission): 1 ms a request, but from t=100 to t=200 no answer."""

    simulated = True

    async def attempt(self, request, *, timeouts, key):
        now = asyncio.get_running_loop().time()
        await asyncio.sleep((200 - now if 100 <= now < 200 else 0) + 0.001)
        return Answer("ok")


def test_an_open_workload_does_not_omit_the_calls_that_a_stall_would_have_met():
    """A closed loop asks 100 times a second until it meets the stall, once; an open one meets it 10,000 times."""

    def mean_latency(workload):
        calls = Experiment(backend=Stalls(), policy=PATIENT, workload=workload).run().calls
        return (calls["ended_at_s"] - calls["arrived_at_s"]).mean()

    closed = mean_latency(ClosedLoop(calls=10_001, users=1, think_time=0.009))
    assert closed == pytest.approx((10_000 * 0.001 + 100) / 10_001, rel=1e-3)
    assert closed == pytest.approx(0.011, abs=2e-4)
    assert mean_latency(OpenLoop(rate=100, arrivals="constant", duration=200)) == pytest.approx(25.0, abs=0.02)


@pytest.mark.parametrize(
    "workload",
    [
        ClosedLoop(calls=5, users=2, think_time=1.5, requests=["a", LLMRequest(prompt="b", stop="c")]),
        OpenLoop(),
        OpenLoop(calls=5, rate=3.0, arrivals="constant", requests="a"),
        OpenLoop(duration=300, arrivals=BurstyArrivals(cv=2.5)),
        OpenLoop(duration=300, calls=5, rate=SPIKE),
        OpenLoop(rate=RateRamp(points=[(0, 1), (2, 3)], scale=2), arrivals=PoissonArrivals()),
        OpenLoop(arrivals=TRACE),
        OpenLoop(arrivals=TRACE, duration=2.0),
    ],
)
def test_every_workload_survives_its_own_dump_and_json(workload):
    assert type(workload)(**workload.model_dump()) == workload
    assert type(workload).model_validate_json(workload.model_dump_json()) == workload
    assert Experiment(workload=workload.model_dump()).workload == workload
    assert workload.replace(requests="x").replace(requests=workload.requests) == workload


def test_arrivals_are_taken_by_name():
    assert OpenLoop(arrivals="constant").arrivals == ConstantArrivals()
    assert OpenLoop(arrivals="bursty").arrivals == BurstyArrivals(cv=3)


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
        (lambda: OpenLoop(rate=-2.5), "rate must be more than 0, got -2.5"),
        (lambda: OpenLoop(rate=math.inf), "rate must be a finite number, got inf"),
        (lambda: OpenLoop(rate=10**400), "rate must be a finite number, got a whole number of"),
        (
            lambda: OpenLoop(rate="fast"),
            "rate must be a number of calls per second, a RateRamp or a RateSteps, got 'fa",
        ),
        (lambda: OpenLoop(rate=True), "rate must be a number of calls per second, a RateRamp or a RateSteps, got True"),
        (
            lambda: OpenLoop(rate={"kind": "step"}),
            "rate: 'step' is not a kind of rate; did you mean 'steps'? valid: ramp",
        ),
        (
            lambda: OpenLoop(rate={"kind": "steps", "point": []}),
            "RateSteps has no setting 'point'; did you mean 'points'?",
        ),
        (lambda: OpenLoop(rate={"points": []}), "rate: must say of which 'kind' it is; valid: ramp, steps"),
        (lambda: OpenLoop(rate=None), "rate must be given, in calls per second, except for recorded arrivals"),
        (
            lambda: OpenLoop(arrivals="burst"),
            "arrivals: 'burst' is not a kind of arrivals; did you mean 'bursty'? valid: b",
        ),
        (lambda: OpenLoop(arrivals="trace"), "arrivals: TraceArrivals needs 'recorded'"),
        (lambda: OpenLoop(arrivals=3), "arrivals must be the name of a kind, or one of PoissonArrivals, Con"),
        (
            lambda: OpenLoop(arrivals={"kind": "bursty", "vc": 2}),
            "arrivals: BurstyArrivals has no setting 'vc'; valid: cv, kind",
        ),
        (lambda: OpenLoop(arrivals=TRACE, rate=5), "rate must be None for recorded arrivals; set arrivals.speed"),
        (lambda: OpenLoop(arrivals=TRACE, calls=9), "calls must be 4 or less, which is the trace's length, got 9"),
        (lambda: OpenLoop(calls=None), "arrivals need an end: give a number of calls, or a duration in seconds"),
        (lambda: OpenLoop(duration=0), "duration must be more than 0, got 0"),
        (lambda: OpenLoop(durations=3), "OpenLoop has no setting 'durations'; did you mean 'duration'?"),
        (
            lambda: Experiment(workload={"kind": "open", "arival": 1}),
            "workload.open: OpenLoop has no setting 'arival'; d",
        ),
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
