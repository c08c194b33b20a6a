import asyncio
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab import (
    Burst,
    ClientPolicy,
    ClosedLoop,
    Experiment,
    FaultKind,
    Faults,
    MockBackend,
    OpenLoop,
    Ramp,
    RetryPolicy,
    ServerModel,
    SettingsError,
    Window,
    WithFaults,
)
from llmlab.backends.fault_schedule import Weather

ONCE = ClientPolicy(retry=RetryPolicy(max_retries=0), attempt_timeout=None, total_timeout=None)


def attempts(backend, calls=4000, rate=40.0, seed=0, policy=ONCE):
    workload = OpenLoop(calls=calls, rate=rate, arrivals="constant")
    return Experiment(backend=backend, policy=policy, workload=workload, seed=seed).run().attempts


def mock(*schedule, **faults):
    return MockBackend(latency=0.01, refusal_latency=0.0, faults=Faults(schedule=schedule, **faults))


BACKENDS = {
    "mock": mock,
    "queue": lambda *schedule: mock(*schedule).replace(server=ServerModel(slots=10)),
    "with faults": lambda *schedule: WithFaults(MockBackend(latency=0.01), Faults(schedule=schedule)),
}


@pytest.mark.parametrize("where", BACKENDS)
def test_a_window_acts_from_its_start_up_to_its_end_and_at_no_other_time(where):
    rows = attempts(BACKENDS[where](Window(kind="overload", start=20, end=30)))
    inside = (rows.started_at_s >= 20) & (rows.started_at_s < 30)
    assert (rows.answered == ~inside).all()
    assert set(rows.reason[inside]) == {"overloaded"}


def test_a_ramp_rises_on_a_straight_line():
    rows = attempts(mock(Ramp(kind="server_error", start=20, end=60, last=0.8)), calls=8000, rate=100.0)
    failed = ~rows.answered
    for start, expected in ((0, 0.0), (20, 0.1), (30, 0.3), (40, 0.5), (50, 0.7), (60, 0.0), (70, 0.0)):
        of_these = failed[(rows.started_at_s >= start) & (rows.started_at_s < start + 10)]
        assert of_these.mean() == pytest.approx(expected, abs=4 * (0.25 / 1000) ** 0.5)


def test_a_burst_is_bad_for_its_share_of_the_time():
    times = [step * 0.5 for step in range(200_000)]
    weather = Weather((Burst(kind="overload", mean_good=8, mean_bad=2),), seed=3)
    bad = [weather.fault_at(time, 0.5)[0] is FaultKind.OVERLOAD for time in times]
    turns = sum(one != other for one, other in itertools.pairwise(bad))
    assert sum(bad) / len(bad) == pytest.approx(0.2, abs=0.01)
    # 100,000 s hold 20,000 turns; those of a time shorter than half a second may be missed.
    assert turns == pytest.approx(20_000, rel=0.2)


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.lists(st.floats(0, 500), min_size=2, max_size=20))
def test_a_burst_is_the_same_whoever_asks_and_in_whatever_order(seed, times):
    entries = (Burst(kind="overload", mean_good=5, mean_bad=5), Burst(kind="cut", mean_good=5, mean_bad=5))
    one, other = Weather(entries, seed), Weather(entries, seed)
    there = {time: one.fault_at(time, 0.5) for time in times}
    assert {time: other.fault_at(time, 0.5) for time in reversed(times)} == {t: there[t] for t in reversed(times)}


def test_bursts_come_at_the_same_times_under_every_policy_and_at_others_with_another_seed():
    backend = mock(Burst(kind="overload", mean_good=5, mean_bad=5))

    def bad_seconds(policy, seed=0):
        rows = attempts(backend, seed=seed, policy=policy)
        return {int(at) for at, ok in zip(rows.started_at_s, rows.answered, strict=True) if not ok and at < 90}

    patient = ONCE.replace(retry=RetryPolicy(max_retries=3))
    assert bad_seconds(ONCE) == bad_seconds(patient) != bad_seconds(ONCE, seed=1)


def test_two_bursts_of_one_schedule_are_independent():
    entry = Burst(kind="overload", mean_good=1, mean_bad=1)
    weather = Weather((entry, entry.replace(kind="cut")), seed=0)
    spared = sum(weather.fault_at(step * 0.25, 0.5)[0] is None for step in range(40_000))
    assert spared / 40_000 == pytest.approx(0.25, abs=0.02)


def test_entries_are_asked_in_order_and_what_they_spare_is_for_the_others():
    schedule = (Window(kind="cut", end=100, probability=0.5), Window(kind="stall", end=100, probability=0.5))
    weather = Weather(schedule, seed=0)
    draws = [(step + 0.5) / 1000 for step in range(1000)]
    met = [weather.fault_at(1.0, u)[0] for u in draws]
    assert met.count(FaultKind.CUT) == 500
    assert met.count(FaultKind.STALL) == 250
    rest = sorted(rest for kind, rest in (weather.fault_at(1.0, u) for u in draws) if kind is None)
    assert rest == pytest.approx([(step + 0.5) / 250 for step in range(250)]), "what is left is uniform again"


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(1e-9, 1 - 1e-9))
def test_raising_a_probability_takes_no_fault_away(one, other, second, u):
    low, high = sorted((one, other))

    def faulty(probability):
        first = Window(kind="cut", end=9, probability=probability)
        weather = Weather((first, Window(kind="stall", end=9, probability=second)), seed=0)
        return weather.fault_at(1.0, u)[0] is not None

    assert faulty(high) or not faulty(low)


def test_outside_its_windows_a_schedule_changes_nothing():
    plain = attempts(mock(server_error=0.3))
    scheduled = attempts(mock(Window(kind="overload", start=20, end=30), server_error=0.3))
    outside = (plain.started_at_s < 20) | (plain.started_at_s >= 30)
    columns = ["call", "started_at_s", "ended_at_s", "reason"]
    assert plain[outside][columns].equals(scheduled[outside][columns])


@pytest.mark.parametrize("where", BACKENDS)
def test_a_schedules_times_count_from_the_first_use(where):
    from llmlab import AttemptKey, LLMRequest, Timeouts
    from llmlab.virtual_time import run

    async def main():
        backend = BACKENDS[where](Window(kind="overload", start=1, end=2))
        await asyncio.sleep(100)
        outcomes = []
        for number in range(3):
            key = AttemptKey(number, 1)
            outcomes.append(await backend.attempt(LLMRequest(prompt="a"), timeouts=Timeouts(), key=key))
            await asyncio.sleep(1.0)
        return [getattr(outcome, "status_code", "answered") for outcome in outcomes]

    assert run(main()) == ["answered", 503, "answered"]


def test_a_schedule_is_a_value_to_and_from_json():
    faults = Faults(
        overload=0.1,
        schedule=[
            Window(kind="timeout", start=20, end=30),
            Burst(kind="cut", mean_good=60, mean_bad=2, probability=0.5),
            Ramp(kind="slow_drip", start=1, end=2),
        ],
    )
    assert Faults.model_validate_json(faults.model_dump_json()) == faults == Faults(**faults.model_dump())
    assert hash(faults) == hash(faults.replace())
    assert Faults(schedule=Window(kind="cut", end=1)).schedule == (Window(kind="cut", end=1),)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Window(kind="timeot", end=1), "did you mean 'timeout'?"),
        (lambda: Window(kind="timeout", start=3, end=3), "end must be later than start=3, got 3"),
        (lambda: Ramp(kind="timeout", start=3, end=2), "end must be later than start=3, got 2"),
        (lambda: Burst(kind="timeout", mean_good=0, mean_bad=1), "mean_good must be more than 0, got 0"),
        (lambda: Window(kind="timeout", end=1, probability=2), "probability must be 1 or less, got 2"),
        (lambda: Faults(schedule=[{"pattern": "windw", "kind": "cut"}]), "did you mean 'window'?"),
        (lambda: Faults(schedule=[{"kind": "cut", "end": 1}]), "an entry's pattern must be known, got None"),
        (lambda: Faults(schedule=[{"pattern": "window", "kind": "cut", "ends": 1}]), "did you mean 'end'?"),
    ],
)
def test_wrong_entries_are_refused_in_words(make, message):
    with pytest.raises(SettingsError) as caught:
        make()
    assert message in str(caught.value)


def test_a_closed_loop_meets_an_outage_too():
    workload = ClosedLoop(users=5, calls=200)
    result = Experiment(backend=mock(Window(kind="timeout", start=0.1, end=0.2)), workload=workload).run()
    assert not result.attempts.answered.all()
