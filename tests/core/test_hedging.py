import math
import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab import SettingsError
from llmlab.core.hedging import HedgeDelay, Hedging


def test_a_fixed_delay_is_that_delay():
    delay = HedgeDelay(Hedging(delay=0.7))
    delay.record(99.0)
    assert delay.current() == 0.7


@pytest.mark.parametrize(("known", "delay"), [(0, None), (19, None), (20, 19.0), (21, 19.0), (40, 38.0), (100, 95.0)])
def test_a_percentile_needs_latencies_first(known, delay):
    measured = HedgeDelay(Hedging(percentile=0.95))
    for latency in range(known):
        measured.record(float(latency))
    assert measured.current() == delay


LATENCIES = st.lists(st.floats(0, 1e6), min_size=1, max_size=200)


@given(LATENCIES, st.integers(1, 99), st.integers(20, 60))
def test_the_percentile_is_the_quantile_of_the_last_latencies(latencies, percent, remember):
    measured = HedgeDelay(Hedging(percentile=percent / 100, remember=remember, at_least=1))
    for latency in latencies:
        measured.record(latency)
    sample = sorted(latencies[-remember:])
    # the smallest latency that at least this share of the sample comes before, counted exactly
    assert measured.current() == sample[min(len(sample) - 1, math.floor(Fraction(percent, 100) * len(sample)))]


@given(st.lists(st.one_of(st.just(0.0), st.just(1.0), st.floats(allow_nan=True)), max_size=100))
def test_what_is_no_number_of_seconds_does_not_disturb_the_rest(latencies):
    measured = HedgeDelay(Hedging(percentile=0.5, remember=20, at_least=1))
    for latency in latencies:
        measured.record(latency)
    finite = sorted([one for one in latencies if math.isfinite(one)][-20:])
    assert measured.current() == (finite[len(finite) // 2] if finite else None)


def hedged_share(*, overtaken_are_recorded: bool, calls: int = 6000) -> float:
    """Race exponential(1) attempts against hedges at the measured p95; return the share of late calls hedged."""
    draw = random.Random(1)
    measured = HedgeDelay(Hedging(percentile=0.95, remember=500, at_least=100))
    hedged = 0
    for number in range(calls):
        first, second = draw.expovariate(1.0), draw.expovariate(1.0)
        delay = measured.current()
        if delay is None or first <= delay:
            measured.record(first)
            continue
        hedged += number >= calls // 2
        if first <= delay + second:
            measured.record(first)
        elif overtaken_are_recorded:
            measured.record(delay + second)
    return hedged / (calls // 2)


def test_hedging_at_the_p95_hedges_one_call_in_twenty():
    # theory: the extra load is S(d) = 5%; 0.012 is three standard errors of 3000 calls
    assert hedged_share(overtaken_are_recorded=True) == pytest.approx(0.05, abs=0.012)


def test_leaving_out_the_overtaken_attempts_would_hedge_more_and_more():
    assert hedged_share(overtaken_are_recorded=False) > 0.07


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give either a delay (seconds) or a percentile"),
        ({"delay": 1, "percentile": 0.9}, "give either a delay (seconds) or a percentile"),
        ({"delay": -1}, "delay must be 0 or more, got -1"),
        ({"percentile": 1}, "percentile must be less than 1, got 1"),
        ({"percentile": 95}, "percentile must be less than 1, got 95"),
        ({"percentile": 0.9, "remember": 20, "at_least": 21}, "at_least must be no more than remember, got 21 and 20"),
        ({"delay": 1, "max_hedges": 0}, "max_hedges must be 1 or more, got 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(SettingsError) as caught:
        Hedging(**settings)
    assert message in str(caught.value)
