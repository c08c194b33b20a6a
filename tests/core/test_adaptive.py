import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab import SettingsError
from llmlab.core.adaptive import AdaptiveConcurrency, AdaptiveLimit

LAWS = ("aimd", "gradient")


def test_aimd_adds_one_for_a_full_limits_worth_of_answers():
    limit = AdaptiveLimit(AdaptiveConcurrency(initial=10))
    for _ in range(11):
        limit.record(0.0, latency=1.0, in_flight=10, overloaded=False)
    assert limit.limit == 11


@pytest.mark.parametrize(("decrease", "after"), [(0.7, 70), (0.5, 50), (0.9, 90)])
@pytest.mark.parametrize("law", LAWS)
def test_an_overload_multiplies_the_limit(law, decrease, after):
    limit = AdaptiveLimit(AdaptiveConcurrency(law=law, initial=100, decrease=decrease))
    assert limit.record(0.0, latency=1.0, in_flight=100, overloaded=True) == after


def test_overloads_within_one_latency_count_once():
    limit = AdaptiveLimit(AdaptiveConcurrency(initial=100, decrease=0.5))
    at = (0.0, 0.5, 1.999, 2.0, 3.9)
    assert [limit.record(now, latency=2.0, in_flight=100, overloaded=True) for now in at] == [50, 50, 50, 25, 25]


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("in_flight", "grows"), [(1, False), (4, False), (5, True), (10, True)])
def test_a_limit_that_is_not_used_does_not_grow(law, in_flight, grows):
    limit = AdaptiveLimit(AdaptiveConcurrency(law=law, initial=10))
    for _ in range(3):
        limit.record(0.0, latency=1.0, in_flight=in_flight, overloaded=False)
    assert (limit._value > 10) is grows


def test_gradient_follows_a_latency_that_grows():
    limit = AdaptiveLimit(AdaptiveConcurrency(law="gradient", initial=100))
    for _ in range(50):
        limit.record(0.0, latency=1.0, in_flight=1, overloaded=False)
    for _ in range(30):
        limit.record(0.0, latency=4.0, in_flight=limit.limit, overloaded=False)
    assert limit.limit < 30


def test_gradient_one_step_is_its_formula():
    settings = AdaptiveConcurrency(law="gradient", initial=100, tolerance=1.0, headroom=4, smoothing=0.5)
    limit = AdaptiveLimit(settings)
    limit.record(0.0, latency=1.0, in_flight=1, overloaded=False)
    limit.record(0.0, latency=1.25, in_flight=100, overloaded=False)
    gradient = (1 + 0.01 * 0.25) / 1.25
    assert limit._value == pytest.approx(100 + 0.5 * (100 * gradient + 4 - 100))


BOUNDS = st.tuples(st.integers(1, 64), st.integers(1, 64), st.integers(1, 64)).map(sorted)
SETTINGS = st.builds(
    lambda law, bounds, increase, decrease, tolerance, headroom, smoothing: AdaptiveConcurrency(
        law=law,
        minimum=bounds[0],
        initial=bounds[1],
        maximum=bounds[2],
        increase=increase,
        decrease=decrease,
        tolerance=tolerance,
        headroom=headroom,
        smoothing=smoothing,
    ),
    st.sampled_from(LAWS),
    BOUNDS,
    st.floats(0.5, 10),
    st.floats(0.05, 0.95),
    st.floats(1, 3),
    st.floats(1, 10),
    st.floats(0.1, 1),
)
LATENCIES = st.one_of(st.just(0.0), st.floats(0, 1e6), st.sampled_from([math.nan, math.inf, -1.0, 1e-300]))
HISTORY = st.lists(st.tuples(st.floats(0, 100), LATENCIES, st.integers(1, 100), st.booleans()), max_size=150)


def live_through(limit: AdaptiveLimit, history: list[tuple[float, float, int, bool]]) -> float:
    now = 0.0
    for later, latency, in_flight, overloaded in history:
        now += later
        returned = limit.record(now, latency=latency, in_flight=in_flight, overloaded=overloaded)
        assert returned == limit.limit
        assert limit.settings.minimum <= returned <= limit.settings.maximum
    return now


@given(SETTINGS, HISTORY)
def test_the_limit_stays_within_its_bounds(settings, history):
    live_through(AdaptiveLimit(settings), history)


@given(SETTINGS, HISTORY)
def test_after_any_history_good_answers_bring_it_back_to_the_maximum(settings, history):
    limit = AdaptiveLimit(settings)
    now = live_through(limit, history)
    for _ in range(6000):
        limit.record(now, latency=1.0, in_flight=limit.limit, overloaded=False)
    assert limit.limit == settings.maximum


@given(SETTINGS, HISTORY)
def test_after_any_history_lasting_overload_brings_it_down_to_the_minimum(settings, history):
    """No time that an attempt claims to have taken makes it deaf for longer than that time."""
    limit = AdaptiveLimit(settings)
    now = live_through(limit, history) + 2e6
    for number in range(200):
        limit.record(now + 2.0 * number, latency=1.0, in_flight=limit.limit, overloaded=True)
    assert limit.limit == settings.minimum


def test_one_answer_in_no_time_is_not_taken_for_normal():
    limit = AdaptiveLimit(AdaptiveConcurrency(law="gradient", initial=50))
    limit.record(0.0, latency=0.0, in_flight=50, overloaded=False)
    for _ in range(20):
        limit.record(0.0, latency=1.0, in_flight=50, overloaded=False)
    assert limit.limit >= 50


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"minimum": 9}, "minimum <= initial <= maximum must hold, got 9, 8 and 256"),
        ({"maximum": 7}, "minimum <= initial <= maximum must hold, got 1, 8 and 7"),
        ({"decrease": 1}, "decrease must be less than 1, got 1"),
        ({"headroom": 0}, "headroom must be more than 0, got 0"),
        ({"law": "vegas"}, "law must be one of 'aimd' or 'gradient', got 'vegas'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(SettingsError) as caught:
        AdaptiveConcurrency(**settings)
    assert message in str(caught.value)
