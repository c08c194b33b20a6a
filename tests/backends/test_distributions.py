import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from llmlab import Constant, Empirical, Exponential, Lognormal, MockBackend, SettingsError, Uniform
from llmlab.backends.distributions import Distribution
from llmlab.core.chance import Purpose, uniform

UNIT = st.floats(2.0**-53, 1 - 2.0**-53)
positive = st.floats(1e-3, 1e3)
ANY = st.one_of(
    st.builds(Constant, value=positive),
    st.tuples(positive, positive).map(lambda pair: Uniform(low=min(pair), high=max(pair))),
    st.builds(Exponential, mean=positive),
    st.builds(Lognormal, median=positive, sigma=st.floats(0, 5)),
    st.builds(Empirical, values=st.lists(positive, min_size=1, max_size=9)),
)


@given(ANY, UNIT, UNIT)
def test_every_distribution_is_an_inverse_cdf(distribution, one, other):
    low, high = sorted((one, other))
    assert 0 <= distribution.at(low) <= distribution.at(high) * (1 + 1e-12)
    assert math.isfinite(distribution.at(high))


@given(ANY)
def test_every_distribution_survives_json_in_a_backend(distribution):
    adapter = TypeAdapter(Distribution)
    assert adapter.validate_json(adapter.dump_json(distribution)) == distribution
    backend = MockBackend(latency=distribution)
    assert MockBackend.model_validate_json(backend.model_dump_json()) == backend


@pytest.mark.parametrize(
    ("distribution", "median", "mean"),
    [
        (Constant(value=3), 3, 3),
        (Uniform(low=1, high=3), 2, 2),
        (Exponential(mean=2), 2 * math.log(2), 2),
        (Lognormal(median=2, sigma=0.5), 2, 2 * math.exp(0.125)),
        (Empirical(values=[4, 1, 2]), 2, 2.25),
    ],
)
def test_median_and_mean_are_those_of_theory(distribution, median, mean):
    assert distribution.at(0.5) == pytest.approx(median)
    count = 20_000
    drawn = sum(distribution.at(uniform(1, call, 1, Purpose.SERVER)) for call in range(count)) / count
    assert drawn == pytest.approx(mean, rel=0.03)


def test_the_p99_of_a_lognormal_is_what_its_documentation_says():
    assert Lognormal(median=0.8, sigma=0.5).at(0.99) == pytest.approx(0.8 * math.exp(2.326 * 0.5), rel=1e-3)


def test_measured_values_are_met_at_their_ranks():
    measured = Empirical(values=[30, 10, 20])
    assert [measured.at(u) for u in (1e-12, 0.25, 0.5, 0.75)] == pytest.approx([10, 15, 20, 25])
    assert measured.at(1 - 2.0**-53) == pytest.approx(30)


def test_arrays_and_series_are_measured_values_too():
    import numpy as np
    import pandas as pd

    assert Empirical(values=np.array([2.0, 1.0])).values == (1, 2)
    assert Empirical(values=pd.Series([2.0, 1.0])).values == (1, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(value=-1), "value must be 0 or more, got -1"),
        (lambda: Uniform(low=2, high=1), "high must be low=2.0 or more, got 1.0"),
        (lambda: Exponential(mean=0), "mean must be more than 0, got 0"),
        (lambda: Lognormal(median=1, sigma=math.inf), "sigma must be a finite number, got inf"),
        (lambda: Empirical(values=[]), "values must"),
        (lambda: Empirical(values=[]), "values must be a list of at least 1, got a tuple"),
        (lambda: Empirical(values=5), "values must be a list or a tuple, got 5"),
        (lambda: Empirical(values="12"), "values must be a list or a tuple, got '12'"),
        (lambda: Empirical(values=[1, math.nan]), "values.1 must be a finite number, got NaN"),
        (lambda: Empirical(values=[1, "a"]), "values.1 must be a valid number"),
        (lambda: MockBackend(latency=True), "latency: must be a number or a distribution"),
    ],
)
def test_wrong_parameters_are_refused_in_words(make, message):
    with pytest.raises(SettingsError) as caught:
        make()
    assert message in str(caught.value)
