import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab import ClosedLoop, Condition, Experiment, LinearRange, LogRange, Samples, SettingsError, Sweep, Values
from llmlab.experiments.axes import by_path, values_of

BASE = Experiment(workload=ClosedLoop(calls=10, users=2))


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        (LinearRange(0, 0.4, 5), (0.0, 0.1, 0.2, 0.3, 0.4)),
        (LinearRange(0, 3, num=4, whole=True), (0, 1, 2, 3)),
        (LinearRange(0, 3, num=9, whole=True), (0, 1, 2, 3)),
        (LinearRange(-1, 1, num=2), (-1.0, 1.0)),
        (LogRange(0.1, 100, 4), (0.1, 1.0, 10.0, 100.0)),
        (LogRange(1, 100, num=5, whole=True), (1, 3, 10, 32, 100)),
        (Values(np.arange(2)), (0, 1)),
    ],
)
def test_ranges_have_the_values_one_would_write_oneself(axis, values):
    found = values_of(axis)
    assert found == values
    assert all(type(value) is type(one) for value, one in zip(found, values, strict=True))


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 50))
def test_a_linear_range_climbs_in_even_steps_from_one_end_to_the_other(low, extent, num):
    high = low + extent
    values = values_of(LinearRange(low, high, num))
    assert (values[0], values[-1], len(values)) == (low, high, num)
    assert np.allclose(np.diff(values), (high - low) / (num - 1), rtol=1e-6, atol=1e-6 * max(abs(low), abs(high)))


@given(st.floats(1e-6, 1e6), st.floats(1.01, 1e6), st.integers(2, 50))
def test_a_log_range_climbs_in_even_ratios(low, ratio, num):
    values = values_of(LogRange(low, low * ratio, num))
    assert (values[0], values[-1], len(values)) == (low, low * ratio, num)
    assert np.allclose(np.diff(np.log(values)), np.log(ratio) / (num - 1), rtol=1e-6, atol=1e-9)


@given(st.floats(0, 1, exclude_max=True), st.booleans())
def test_draws_from_a_range_lie_within_it(u, whole):
    for axis in (LinearRange(2, 9, whole=whole), LogRange(2, 9, whole=whole)):
        value = axis.at(u)
        assert 2 <= value <= 9
        assert isinstance(value, int if whole else float)


def test_draws_of_whole_numbers_are_equally_probable_at_both_ends():
    drawn = [LinearRange(0, 3, whole=True).at((n + 0.5) / 1000) for n in range(1000)]
    assert [drawn.count(n) for n in range(4)] == [250] * 4


@pytest.mark.parametrize(
    "axis",
    [LogRange(1e-308, 1e308, 5), LinearRange(-1e308, 1e308, 5), LinearRange(1 + 1e-13, 1 + 2e-13, 5)],
)
def test_ranges_of_any_extent_climb_within_their_ends(axis):
    values = values_of(axis)
    assert (values[0], values[-1]) == (axis.low, axis.high)
    assert all(earlier < later for earlier, later in itertools.pairwise(values))
    assert axis.low < axis.replace(num=None).at(0.5) < axis.high or len(values) == 2


@pytest.mark.parametrize(
    "make",
    [
        lambda: LinearRange(1, 2, 3, 4),
        lambda: Values([1], [2]),
        lambda: Condition("seed", "==", 1, 2),
        lambda: Samples("random", 4, {"seed": [1]}, 5),
    ],
)
def test_what_has_no_place_is_refused_and_not_ignored(make):
    with pytest.raises(TypeError, match="are given without a name"):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinearRange(1, 1, 3), "high must be more than low=1, got 1"),
        (lambda: LogRange(0, 1, 3), "low must be more than 0, got 0"),
        (lambda: LinearRange(0, 1, 1), "num must be 2 or more, got 1"),
        (lambda: LinearRange(0, 1, 10**7), "num must be 1000000 or less"),
        (lambda: LinearRange(0, 1.5, whole=True), "the ends of whole numbers must be whole, got 0 and 1.5"),
        (lambda: Sweep(BASE, {"policy.attempt_timeout": LinearRange(1, 2)}), "needs num, the number of values between"),
        (lambda: Sweep(BASE, {"policy.max_queue": {"kind": "linar"}}), "did you mean 'linear'?"),
        (lambda: Sweep(BASE, {"workload.users": LogRange(1, 10, 4)}), "'workload.users' cannot be 2.15"),
        (lambda: Sweep(BASE, {"workload.users": Values([])}), "has no values; give at least one"),
        (lambda: Sweep(BASE, {"seed": range(1_000_001)}), "has 1,000,001 values; at most 1,000,000"),
        (lambda: Sweep(BASE, {"seed": itertools.count()}), "has 1,000,001 values; at most 1,000,000"),
        (lambda: Sweep(BASE, {"seed": np.array(3)}), "seed must be a list of values"),
        (lambda: Sweep(BASE, {"policy.retry.backoff.jitter": {"full", "none"}}), "since a set has no order"),
    ],
)
def test_wrong_axes_are_refused_in_words(make, message):
    with pytest.raises(SettingsError) as caught:
        make()
    assert message in str(caught.value)


def test_tables_in_tables_are_paths():
    nested = {"policy": {"retry": {"max_retries": [0, 1]}, "max_queue": {"kind": "linear", "low": 0}}, "seed": [1]}
    assert by_path(nested) == {
        "policy.retry.max_retries": [0, 1],
        "policy.max_queue": {"kind": "linear", "low": 0},
        "seed": [1],
    }
    assert by_path({"workload": {"kind": ["open", "closed"]}}) == {"workload.kind": ["open", "closed"]}


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (Condition("a", "==", None), False),
        (Condition("a", ">", 1), True),
        (Condition("a", "<=", other="b"), False),
        (Condition("a", "in", [1, 2]), True),
        (Condition("a", "not in", (1, 2)), False),
        (Condition("b", "!=", 1), False),
    ],
)
def test_a_condition_compares_a_setting(condition, holds):
    assert condition.holds({"a": 2, "b": 1}.__getitem__) is holds


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Condition("a", ">"), "a condition needs a value to compare with"),
        (lambda: Condition("a", ">", 1, other="b"), "takes value or other, got both"),
        (lambda: Condition("a", "in", "abc"), "'in' needs a list of values, got 'abc'"),
        (lambda: Condition("a", "=", 1), "op must be one of '==', '!='"),
        (lambda: Condition("a", "<", 1).holds(lambda _: None), "'a' is None, which '<' cannot compare with 1"),
    ],
)
def test_a_wrong_condition_is_refused_in_words(make, message):
    with pytest.raises(SettingsError) as caught:
        make()
    assert message in str(caught.value)
