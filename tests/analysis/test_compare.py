import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from llmlab import ClosedLoop, Experiment, MockBackend, Sweep
from llmlab.analysis import adjusted, compare, compare_all
from tests.analysis.swept import calls_of

RETRIES = "policy.retry.max_retries"


@pytest.fixture(scope="module")
def calls():
    base = Experiment(backend=MockBackend(timeout_probability=0.1), workload=ClosedLoop(calls=500))
    return Sweep(base, {RETRIES: [0, 1, 2]}, replicates=2).run(progress=False).calls


def of(calls, retries):
    return calls[calls[RETRIES] == retries]


def test_the_difference_is_that_of_the_means_with_an_interval(calls):
    found = compare(of(calls, 0), of(calls, 1), "answered")
    assert found.a == pytest.approx(of(calls, 0)["answered"].mean())
    assert found.difference == pytest.approx(found.b - found.a)
    assert found.low < found.difference < found.high
    assert found.differs
    assert found.p_value < 0.001
    assert found.pairs == 1000


def test_common_random_numbers_save_calls(calls):
    found = compare(of(calls, 1), of(calls, 2), "latency_s")
    assert found.calls_without_pairing > 3 * found.pairs
    # Paired with a call that met other chance, nothing is saved.
    shuffled = of(calls, 2).assign(call=(of(calls, 2)["call"] + 250) % 500)
    assert compare(of(calls, 1), shuffled, "latency_s").calls_without_pairing < 2 * found.pairs


def test_the_saving_is_that_of_correlation():
    random = np.random.default_rng(0)
    a = calls_of(20_000, random=random)
    b = a.assign(latency_s=0.8 * a["latency_s"] + 0.6 * random.exponential(size=20_000))  # correlated by 0.8
    found = compare(a, b)
    assert found.calls_without_pairing / found.pairs == pytest.approx(1 / (1 - 0.8), rel=0.4)  # from 50 pieces


def test_no_difference_is_called_chance():
    random = np.random.default_rng(1)
    a = calls_of(2000, random=random)
    b = a.assign(latency_s=random.permutation(a["latency_s"]))
    found = compare(a, b)
    assert not found.differs
    assert found.p_value > 0.05
    assert "which may be chance" in str(found)


def test_outcomes_that_never_differ_leave_room_for_what_was_not_seen():
    a = calls_of(1000, success=0.9)
    found = compare(a, a, "answered")
    assert (found.difference, found.p_value) == (0.0, 1.0)
    assert found.high == -found.low == pytest.approx(1 - 0.025 ** (1 / 1000))
    assert found.note == "no pair differs"
    one = a.assign(answered=a["answered"] ^ (a["call"] == 7))
    assert compare(a, one, "answered").note == "only 1 pair differs, so the interval is rough"


def test_quantiles_are_compared_too(calls):
    a, b = of(calls, 0), of(calls, 1)
    found = compare(a, b, statistic=0.95)
    assert found.a == np.quantile(a["latency_s"], 0.95, method="inverted_cdf")
    assert found.low <= found.difference <= found.high
    assert found == compare(a, b, statistic=0.95)
    with pytest.raises(ValueError, match="statistic must be 'mean', a quantile"):
        compare(a, b, statistic=95)


def test_calls_without_a_partner_are_left_out_and_said(calls):
    found = compare(of(calls, 0).head(300), of(calls, 1), "attempts")
    assert found.pairs == 300
    assert found.note == "700 calls without a partner are left out"


def test_calls_that_cannot_be_paired_are_refused(calls):
    a, b = of(calls, 0), of(calls, 1)
    with pytest.raises(ValueError, match=r"no call of a has a partner in b: none agree in .*from one sweep"):
        compare(a, b.assign(seed=b["seed"] + 1))
    with pytest.raises(ValueError, match=r"a holds several calls of the same .*select the calls of one setting"):
        compare(calls, b)
    with pytest.raises(KeyError, match=r"no column \['latency'\]; the frame has"):
        compare(a, b, "latency")
    with pytest.raises(TypeError, match="got a float"):
        compare(a, 0.5)
    with pytest.raises(ValueError, match="column 'fate' holds no numbers in a"):
        compare(a, b, "fate")
    with pytest.raises(ValueError, match=r"a quantile strictly between 0 and 1.*got 'median'"):
        compare(a, b, statistic="median")
    with pytest.raises(ValueError, match="confidence must lie strictly between 0 and 1"):
        compare(a, b, confidence=95)
    with pytest.raises(ValueError, match="'time_to_first_token_s' holds NaN"):
        compare(a, b.assign(time_to_first_token_s=np.nan), "time_to_first_token_s")


def test_it_reads_as_a_sentence(calls):
    text = str(compare(of(calls, 0), of(calls, 1), "attempts"))
    assert text.startswith("1 against 1.1")
    assert "over 1,000 pairs" in text


def test_all_settings_are_compared_with_one(calls):
    table = compare_all(calls, RETRIES, {RETRIES: 0}, "answered")
    assert table[RETRIES].tolist() == [1, 2]
    assert table["difference"].iloc[0] == compare(of(calls, 0), of(calls, 1), "answered").difference
    assert (table["p_adjusted"] >= table["p_value"]).all()
    with pytest.raises(ValueError, match=r"no calls with the baseline's values .*7.*there are"):
        compare_all(calls, RETRIES, {RETRIES: 7})
    with pytest.raises(ValueError, match="must give a value for each of"):
        compare_all(calls, RETRIES, {})


def test_a_baseline_without_a_setting_is_none():
    calls = pd.concat([calls_of(100, limit=np.nan), calls_of(100, limit=2.0, latency=2.0)])
    assert compare_all(calls, "limit", {"limit": None})["limit"].tolist() == [2.0]


def test_holm_is_the_textbooks():
    assert adjusted([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert adjusted([0.9, 0.8]).tolist() == [1.0, 1.0]
    assert adjusted([]).size == 0


def test_benjamini_hochberg_is_scipys():
    p = [0.01, 0.04, 0.03, 0.5]
    assert adjusted(p, "benjamini-hochberg").tolist() == stats.false_discovery_control(p).tolist()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_corrections_only_raise_p_values_and_keep_their_order(p):
    for correction in ("holm", "benjamini-hochberg"):
        result = adjusted(p, correction)
        assert (result >= np.array(p) - 1e-12).all()
        assert (result <= 1).all()
        assert (np.diff(result[np.argsort(p, kind="stable")]) >= -1e-12).all()


def test_what_too_few_calls_can_tell_does_not_count_as_a_comparison():
    for correction in ("holm", "benjamini-hochberg"):
        found = adjusted([0.01, np.nan, 0.04], correction)
        np.testing.assert_array_equal(found, [*adjusted([0.01, 0.04], correction)[:1], np.nan, found[2]])
        assert found[2] == adjusted([0.01, 0.04], correction)[1]
        assert np.isnan(adjusted([np.nan], correction)).all()


def test_corrections_check_what_they_are_given():
    with pytest.raises(ValueError, match=r"one of \['holm', 'benjamini-hochberg'\], got 'bonferroni'"):
        adjusted([0.1], "bonferroni")
    with pytest.raises(ValueError, match="between 0 and 1"):
        adjusted([1.1])


def test_holm_keeps_false_alarms_to_one_family_in_twenty():
    random = np.random.default_rng(0)
    alarms = [(adjusted(random.random(10)) < 0.05).any() for _ in range(2000)]
    assert np.mean(alarms) == pytest.approx(0.05, abs=0.015)
