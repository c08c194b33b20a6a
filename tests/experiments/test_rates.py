import math
from itertools import islice, pairwise, repeat

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from llmlab import SettingsError
from llmlab.experiments.rates import Rate, RateRamp, RateSteps, arrival_times

SPIKE = RateSteps(points=[(0, 5), (20, 50), (30, 5)])
RAMP = RateRamp(points=[(0, 1), (60, 20)])

rates_per_s = st.floats(0, 50).map(lambda rate: round(rate, 2))


@st.composite
def courses(draw):
    kind = draw(st.sampled_from([RateSteps, RateRamp]))
    least = 0.1 if kind is RateSteps else 0.0  # a ramp may jump
    lengths = draw(st.lists(st.just(0.0) | st.floats(0.1, 30) if least == 0 else st.floats(least, 30), max_size=6))
    times = [0.0, *np.cumsum(lengths).tolist()]
    rates = [draw(rates_per_s) for _ in times[1:]] + [draw(st.floats(0.1, 50))]
    return kind(points=list(zip(times, rates, strict=True)), scale=draw(st.floats(0.1, 10)))


@pytest.mark.parametrize(
    ("rate", "time", "now", "expected"),
    [
        (SPIKE, 0, 5, 0),
        (SPIKE, 19.9, 5, 99.5),
        (SPIKE, 20, 50, 100),
        (SPIKE, 25, 50, 350),
        (SPIKE, 40, 5, 650),
        (RAMP, 0, 1, 0),
        (RAMP, 30, 10.5, 172.5),
        (RAMP, 60, 20, 630),
        (RAMP, 61, 20, 650),
        (RateRamp(points=[(0, 1), (10, 1), (10, 5)]), 10, 5, 10),
        (RateSteps(points=[(0, 4)], scale=0.5), 10, 2, 20),
    ],
)
def test_a_rate_over_time_says_its_rate_and_the_calls_that_are_due(rate, time, now, expected):
    assert rate.at(time) == pytest.approx(now)
    assert rate.expected_calls(time) == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(courses(), st.integers(0, 2**32))
def test_arrivals_follow_the_integral_of_the_rate(course, seed):
    """The inversion itself: the calls due at the n-th arrival are the sum of the first n gaps."""
    gaps = np.random.default_rng(seed).exponential(size=40)
    times = list(arrival_times(course, gaps.tolist()))
    assert len(times) == 40
    assert all(earlier <= later for earlier, later in pairwise(times))
    assert [course.expected_calls(time) for time in times] == pytest.approx(
        np.cumsum(gaps).tolist(), rel=1e-6, abs=1e-6
    )


@given(courses(), st.floats(0.01, 100))
def test_a_scaled_rate_is_due_so_much_more(course, until):
    double = course.replace(scale=course.scale * 2)
    assert double.expected_calls(until) == pytest.approx(2 * course.expected_calls(until))
    assert double.at(until) == pytest.approx(2 * course.at(until))


def test_a_rate_of_zero_is_a_pause():
    paused = RateSteps(points=[(0, 1), (3.5, 0), (100, 2)])
    assert list(islice(arrival_times(paused, repeat(1.0)), 5)) == pytest.approx([1, 2, 3, 100.25, 100.75])


def test_a_level_course_is_the_plain_rate():
    for course in (RateSteps(points=[(0, 4)]), RateRamp(points=[(0, 4), (2, 4), (9, 4)])):
        assert list(islice(arrival_times(course, repeat(1.0)), 50)) == pytest.approx(
            list(islice(arrival_times(4.0, repeat(1.0)), 50))
        )


def test_gaps_of_zero_are_calls_at_the_same_time():
    assert list(arrival_times(RateRamp(points=[(0, 0), (1, 1)]), [0.0, 0.0, 0.5, 0.0])) == pytest.approx([0, 0, 1, 1])


@given(courses() | st.floats(0.01, 1e6))
def test_every_rate_survives_json(rate):
    adapter = TypeAdapter(Rate)
    assert adapter.validate_json(adapter.dump_json(rate)) == rate
    assert adapter.validate_python(adapter.dump_python(rate)) == rate


@pytest.mark.parametrize("number", [3, 3.0, np.int64(3), np.float32(3)])
def test_every_number_is_a_rate(number):
    assert TypeAdapter(Rate).validate_python(number) == 3.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RateSteps(points=[]), "points must"),
        (lambda: RateSteps(points=[(1, 5)]), "points must begin at time 0, got 1.0"),
        (lambda: RateSteps(points=[(0, 5), (2, 1), (2, 3)]), "times of points must increase, got 2.0 after 2.0"),
        (lambda: RateRamp(points=[(0, 5), (2, 1), (1, 3)]), "times of points must not decrease, got 1.0 after 2.0"),
        (
            lambda: RateRamp(points=[(0, 5), (9, 0)]),
            "must not end in a rate of 0; end the arrivals with the workload's",
        ),
        (lambda: RateRamp(points=[(0, -1)]), "points.0.1 must be 0 or more, got -1"),
        (lambda: RateRamp(points=[(0, math.inf)]), "points.0.1 must be a finite number, got inf"),
        (lambda: RateRamp(points=[(0, 1)], scale=0), "scale must be more than 0, got 0"),
        (lambda: RateRamp(point=[(0, 1)]), "RateRamp has no setting 'point'; did you mean 'points'?"),
        (RateSteps, "RateSteps needs 'points'"),
    ],
)
def test_wrong_courses_are_refused_in_words(make, message):
    with pytest.raises(SettingsError) as caught:
        make()
    assert message in str(caught.value)
