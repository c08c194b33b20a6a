import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab.analysis.sketches import RELATIVE_ERROR, buckets, quantiles

_QS = (0.0, 0.25, 0.5, 0.95, 0.999, 1.0)
_samples = st.lists(st.floats(1e-9, 1e9) | st.just(0.0), min_size=1, max_size=60)


@given(_samples)
def test_a_quantile_is_within_the_relative_error_of_the_true_one(values):
    sample = np.array(values)
    places, counts = np.unique(buckets(sample), return_counts=True)
    found = quantiles(places, counts, _QS)
    expected = np.quantile(sample, _QS)
    assert np.all(np.abs(found - expected) <= RELATIVE_ERROR * expected * (1 + 1e-9) + 1e-300)


@given(_samples, _samples, st.randoms())
def test_merged_sketches_are_the_sketch_of_all_values_in_any_order(left, right, chance):
    whole = np.unique(buckets(np.array(left + right)), return_counts=True)
    parts = [np.unique(buckets(np.array(part)), return_counts=True) for part in (left, right)]
    chance.shuffle(parts)
    merged = (np.concatenate(side) for side in zip(*parts, strict=True))
    assert quantiles(*merged, _QS).tolist() == quantiles(*whole, _QS).tolist()


def test_no_values_have_no_quantile_and_negative_ones_count_as_zero():
    assert np.isnan(quantiles(np.array([], dtype=np.int64), np.array([], dtype=np.int64), _QS)).all()
    assert quantiles(buckets(np.array([-1.0])), np.array([1]), (0.5,)).tolist() == [0.0]


def test_a_thousand_latencies_need_a_few_hundred_buckets():
    latencies = np.random.default_rng(1).lognormal(0, 0.5, size=100_000)
    assert len(np.unique(buckets(latencies))) < 1000
    assert pytest.approx(2.0**-8) == RELATIVE_ERROR
