"""The family that values come from is the one that is chosen, and its interval holds its parameters."""

import numpy as np
import pytest

from llmlab import Constant, Empirical, Exponential, Lognormal, Uniform
from llmlab.calibration.families import fit_distribution

TRUE = {
    "lognormal": Lognormal(median=0.8, sigma=0.5),
    "exponential": Exponential(mean=2.0),
    "uniform": Uniform(low=1.0, high=3.0),
}


def values_of(distribution, count, seed=0):
    return np.array([distribution.at(u) for u in np.random.default_rng(seed).uniform(size=count)])


@pytest.mark.parametrize("family", TRUE)
def test_a_family_is_recognised_by_values_that_it_was_not_fitted_to(family):
    fit = fit_distribution(values_of(TRUE[family], 2000), np.arange(2000))
    assert fit.distribution.kind == family
    assert max(fit.held_out, key=fit.held_out.get) == family
    for name, (low, high) in fit.intervals.items():
        true = getattr(TRUE[family], name)
        assert low <= true <= high
        assert getattr(fit.distribution, name) == pytest.approx(true, rel=0.05)


def test_what_is_of_no_family_is_replayed_as_it_was():
    two_kinds = np.concatenate([values_of(Lognormal(median=m, sigma=0.1), 1000) for m in (1.0, 5.0)])
    fit = fit_distribution(two_kinds, np.arange(2000))
    assert isinstance(fit.distribution, Empirical)
    assert fit.distribution.at(0.25) == pytest.approx(1.0, rel=0.05)
    assert fit.distribution.at(0.75) == pytest.approx(5.0, rel=0.05)


def test_values_that_do_not_differ_are_a_constant():
    assert fit_distribution(np.array([2.0, 2.0, 2.0001]), np.arange(3)).distribution == Constant(value=2.0)
    assert fit_distribution(np.array([3.0]), np.arange(1)).distribution == Constant(value=3.0)


@pytest.mark.parametrize("family", ["lognormal", "exponential"])
def test_values_cut_short_count_as_more_than_that(family):
    values = values_of(TRUE[family], 4000)
    bound = 1.5
    seen, cut = values[values < bound], np.full((values >= bound).sum(), bound)
    fit = fit_distribution(seen, np.arange(seen.size), cut)
    assert fit.distribution.kind == family
    assert fit.distribution.at(0.5) == pytest.approx(TRUE[family].at(0.5), rel=0.05)


def test_the_same_draws_in_several_runs_make_no_interval_narrower():
    once = values_of(TRUE["lognormal"], 300)
    one = fit_distribution(once, np.arange(300)).intervals["median"]
    four = fit_distribution(np.tile(once, 4), np.tile(np.arange(300), 4)).intervals["median"]
    assert np.diff(four) == pytest.approx(np.diff(one), rel=0.01)


def test_no_values_are_refused():
    with pytest.raises(ValueError, match="no values"):
        fit_distribution(np.empty(0), np.empty(0, dtype=int))
