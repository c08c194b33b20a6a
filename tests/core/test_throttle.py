import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab import SettingsError
from llmlab.core.throttle import AdaptiveThrottle, ThrottleState


def after(requests: int, accepts: int, *, k: float = 2.0, window: float = 120.0, at: float = 0.0) -> ThrottleState:
    """Return a throttle that has seen so many requests, and so many of them taken by the server."""
    throttle = ThrottleState(AdaptiveThrottle(k=k, window=window))
    for _ in range(requests):
        throttle.allow(at, 1.0)
    for _ in range(accepts):
        throttle.accepted(at)
    return throttle


@pytest.mark.parametrize(
    ("requests", "accepts", "k", "probability"),
    [
        (0, 0, 2, 0),
        (1, 0, 2, 1 / 2),
        (9, 0, 2, 9 / 10),
        (99, 0, 2, 99 / 100),
        (100, 100, 2, 0),
        (100, 50, 2, 0),
        (100, 40, 2, 20 / 101),
        (100, 10, 2, 80 / 101),
        (100, 50, 1, 50 / 101),
        (100, 50, 1.5, 25 / 101),
        (0, 5, 2, 0),
    ],
)
def test_the_probability_is_equation_21_1(requests, accepts, k, probability):
    assert after(requests, accepts, k=k).rejection_probability(0.0) == pytest.approx(probability)


@given(st.integers(0, 200), st.integers(0, 200), st.floats(1, 10))
def test_it_is_a_probability_and_falls_with_what_the_server_takes(requests, accepts, k):
    throttle = after(requests, min(accepts, requests), k=k)
    before = throttle.rejection_probability(0.0)
    assert 0 <= before < 1
    throttle.accepted(0.0)
    assert throttle.rejection_probability(0.0) <= before


@pytest.mark.parametrize(("u", "allowed"), [(0.89, False), (0.9, True), (0.95, True)])
def test_the_draw_decides(u, allowed):
    assert after(9, 0).allow(0.0, u) is allowed


def test_what_is_turned_away_counts_as_a_request_too():
    throttle = after(9, 0)
    assert not throttle.allow(0.0, 0.0)
    assert throttle.rejection_probability(0.0) == pytest.approx(10 / 11)


@pytest.mark.parametrize(
    ("now", "probability"), [(0, 99 / 100), (60, 99 / 100), (119.9, 99 / 100), (120, 0), (1000, 0)]
)
def test_what_is_older_than_the_window_is_forgotten(now, probability):
    assert after(99, 0).rejection_probability(now) == pytest.approx(probability)


def test_the_window_decays_slice_by_slice():
    throttle = ThrottleState(AdaptiveThrottle(window=10))
    for second in range(10):
        throttle.allow(float(second), 1.0)
    assert [round(throttle.rejection_probability(10.0 + s), 3) for s in range(11)] == [
        round((9 - s) / (10 - s), 3) if s < 10 else 0 for s in range(11)
    ]


steps = st.tuples(st.floats(0, 30), st.booleans(), st.floats(0, 1, exclude_min=True, exclude_max=True))


@given(st.lists(steps, max_size=300))
def test_the_counts_are_those_of_the_window_whatever_came_before(moments):
    """Against a count of the whole history: the running sums neither drift nor fall below 0."""
    window = 10.0
    throttle = ThrottleState(AdaptiveThrottle(window=window))
    slices: list[list[float]] = []
    now = 0.0
    for later, taken, u in moments:
        now += later
        throttle.allow(now, u)
        if taken:
            throttle.accepted(now)
        if not slices or slices[-1][0] <= now - window or now - slices[-1][0] >= window / 10:
            slices.append([now, 0, 0])
        slices[-1][1] += 1
        slices[-1][2] += taken
        live = [one for one in slices if one[0] > now - window]
        requests, accepts = sum(one[1] for one in live), sum(one[2] for one in live)
        assert throttle.rejection_probability(now) == max(0.0, (requests - 2 * accepts) / (requests + 1))


def test_a_healthy_server_is_never_throttled():
    throttle = ThrottleState(AdaptiveThrottle())
    for number in range(10_000):
        assert throttle.allow(number * 0.1, 1e-12)
        throttle.accepted(number * 0.1)


def test_it_lets_all_pass_again_once_the_server_recovers():
    # of what passes, k = 2 times as much passes one window later: from 1 in 100 it takes about seven windows
    throttle, draw = after(1000, 0, window=10), random.Random(0)
    for tenth in range(2000):
        now = 1 + tenth * 0.1
        if throttle.allow(now, draw.random()):
            throttle.accepted(now)
    assert throttle.rejection_probability(201.0) == 0


@pytest.mark.parametrize(("setting", "value"), [("k", 0.9), ("window", 0), ("k", float("nan"))])
def test_settings_that_mean_nothing_are_refused(setting, value):
    with pytest.raises(SettingsError, match=setting):
        AdaptiveThrottle(**{setting: value})
