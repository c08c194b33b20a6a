import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab.analysis import bootstrap_interval
from llmlab.analysis.bootstrap import ENOUGH_CLUSTERS, FEWEST_CLUSTERS, evaluator

VALUES = np.random.default_rng(0).exponential(size=600)
LABELS = np.repeat(np.arange(60), 10)


def test_the_estimate_is_the_statistic_and_lies_inside():
    for statistic, expected in [("mean", VALUES.mean()), (0.5, np.quantile(VALUES, 0.5, method="inverted_cdf"))]:
        found = bootstrap_interval(VALUES, statistic, labels=LABELS)
        assert found.estimate == pytest.approx(expected)
        assert found.low < found.estimate < found.high
        assert found.note == ""


def test_the_same_seed_gives_the_same_interval():
    assert bootstrap_interval(VALUES, 0.95, seed=3) == bootstrap_interval(VALUES, 0.95, seed=3)
    assert bootstrap_interval(VALUES, 0.95, seed=3) != bootstrap_interval(VALUES, 0.95, seed=4)


def test_a_statistic_of_ones_own_agrees_with_the_built_in_one():
    own = bootstrap_interval(VALUES, lambda sample: float(np.mean(sample)), labels=LABELS, resamples=199)
    built_in = bootstrap_interval(VALUES, "mean", labels=LABELS, resamples=199)
    np.testing.assert_allclose(own[:3], built_in[:3])


def test_few_clusters_are_refused_with_a_note():
    found = bootstrap_interval(VALUES, labels=LABELS % 5)
    assert np.isfinite(found.estimate)
    assert np.isnan([found.low, found.high]).all()
    assert found.note == f"too few clusters: a bootstrap needs {FEWEST_CLUSTERS}, better {ENOUGH_CLUSTERS}, there are 5"
    assert bootstrap_interval([]).note == "no values"


def test_where_nothing_varies_the_interval_is_a_point():
    found = bootstrap_interval(np.full(100, 2.0))
    assert found[:3] == (2.0, 2.0, 2.0)


def test_clusters_may_have_any_names():
    words = np.array([f"run {label}" for label in LABELS])
    assert bootstrap_interval(VALUES, labels=words) == bootstrap_interval(
        VALUES, labels=np.unique(words, return_inverse=True)[1]
    )


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), min_size=1, max_size=40),
    st.floats(0.01, 0.99),
    st.lists(st.integers(0, 3), min_size=5, max_size=5),
)
def test_a_quantile_of_a_resample_is_that_of_the_values_drawn(rows, q, drawn):
    clusters = np.unique([row[0] for row in rows], return_inverse=True)[1]
    values = np.array([float(row[1]) for row in rows])
    counts = np.array(drawn[: clusters.max() + 1])
    repeated = np.repeat(values, counts[clusters])
    if repeated.size:
        found = evaluator(values, clusters, q)(counts[None, :].astype(float))
        assert found[0] == np.quantile(repeated, q, method="inverted_cdf")


@pytest.mark.parametrize("statistic", ["median", 95, 0.0, 1.0])
def test_an_unknown_statistic_is_refused(statistic):
    with pytest.raises(ValueError, match="statistic must be 'mean', a quantile strictly between 0 and 1"):
        bootstrap_interval(VALUES, statistic)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"confidence": 95}, "confidence must lie strictly between 0 and 1"),
        ({"resamples": 0}, "resamples must be 1 or more, got 0"),
        ({"values": [1.0, np.nan]}, "the values hold NaN"),
    ],
)
def test_what_would_make_an_interval_of_nothing_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(**({"values": VALUES} | wrong))


def test_there_is_a_label_for_each_value():
    with pytest.raises(ValueError, match="got 2 for 600 values"):
        bootstrap_interval(VALUES, labels=[1, 2])


def test_of_many_values_neighbours_are_taken_together():
    random = np.random.default_rng(0)
    found = bootstrap_interval(random.exponential(size=30_000))
    assert found.high - found.low == pytest.approx(2 * 1.96 / np.sqrt(30_000), rel=0.2)
    assert bootstrap_interval(random.exponential(size=30_000), 0.95, resamples=99).note == ""
