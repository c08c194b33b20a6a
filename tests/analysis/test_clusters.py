import numpy as np
import pandas as pd
import pytest

from llmlab.analysis.clusters import PIECES, clusters, effective_size
from tests.analysis.swept import calls_of


def test_one_run_is_cut_into_pieces_of_consecutive_calls_of_nearly_equal_size():
    calls = calls_of(1000).sample(frac=1, random_state=1)
    pieces = pd.Series(clusters(calls), index=calls["call"].to_numpy()).sort_index()
    assert pieces.is_monotonic_increasing
    assert pieces.nunique() == PIECES
    assert set(pieces.value_counts()) == {1000 // PIECES, 1000 // PIECES + 1}


def test_runs_are_never_mixed_and_cut_only_as_far_as_it_takes():
    calls = pd.concat([calls_of(100, replicate=replicate) for replicate in range(10)])
    labels = clusters(calls, pieces=20)
    assert len(set(labels)) == 20
    assert pd.Series(calls["replicate"].to_numpy()).groupby(labels).nunique().max() == 1
    assert len(set(clusters(calls, pieces=5))) == 10


def test_each_setting_has_clusters_enough():
    calls = pd.concat([calls_of(100, setting=setting) for setting in range(3)])
    labels = pd.Series(clusters(calls, ["setting"]))
    assert labels.groupby(calls["setting"].to_numpy()).nunique().tolist() == [PIECES] * 3
    assert labels.nunique() == 3 * PIECES


def test_a_run_of_few_calls_has_no_more_clusters_than_calls():
    assert len(set(clusters(calls_of(7)))) == 7
    assert len(clusters(calls_of(0))) == 0


def test_independent_values_count_nearly_in_full():
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(30), 100)
    worth = [effective_size(random.random(3000) < 0.1, labels) for _ in range(200)]
    assert 0.75 * 3000 < np.mean(worth) <= 3000
    assert max(worth) == 3000


def test_values_that_are_all_alike_in_each_cluster_count_as_one_a_cluster():
    random = np.random.default_rng(0)
    worth = [effective_size(np.repeat(random.normal(size=50), 100), np.repeat(np.arange(50), 100)) for _ in range(50)]
    assert np.mean(worth) == pytest.approx(50, rel=0.1)


def test_where_nothing_varies_nothing_is_known_of_dependence():
    assert effective_size(np.ones(100, dtype=bool), np.repeat([0, 1], 50)) == 100
    assert effective_size(np.arange(10.0), np.zeros(10, dtype=int)) == 10
