"""The proof itself: every known answer comes out, and one that is wrong is caught."""

import math

import numpy as np
import pytest

from llmlab import SettingsError
from llmlab.backends.distributions import Exponential
from llmlab.experiments.verify import CASES, COLUMNS, case_names, formulas, queues, storms, verify
from llmlab.experiments.verify.case import Checks

SMALL = 0.02


# ---- the cases


@pytest.mark.parametrize("name", CASES)
def test_a_known_answer_comes_out(name):
    checks = verify(SMALL, [name], progress=False)
    assert len(checks) > 0
    assert checks[~checks["holds"]].to_string(index=False) == checks[:0].to_string(index=False)
    assert set(checks["case"]) == {name}, "it is called what CASES calls it"
    assert not checks["quantity"].duplicated().any()
    assert checks["quantity"].str.len().max() <= 41, "wider ones do not fit into a terminal of 80 columns"
    assert (checks["source"] != "").all()


def test_the_result_is_a_data_frame_with_one_row_for_each_quantity():
    checks = verify(SMALL, ["rate limit", "layered retries"], progress=False)
    assert tuple(checks.columns) == COLUMNS
    assert list(checks["case"].unique()) == ["layered retries", "rate limit"], "in the order of CASES"
    assert checks["holds"].dtype == bool
    assert ((checks["measured"] - checks["expected"]).abs() <= checks["tolerance"]).equals(checks["holds"])


def test_the_same_size_gives_the_same_numbers():
    first, second = (verify(SMALL, ["machine repair"], progress=False) for _ in range(2))
    assert first.equals(second)


def test_cases_are_found_however_they_are_spelled():
    assert case_names(["Retry-Storms", "m/m/c", "little's_law", "per attempt timeout trap"]) == [
        "per-attempt timeout trap",
        "M/M/c",
        "Little's law",
        "retry storms",
    ]
    assert case_names() == list(CASES)
    assert case_names("m/m/c") == ["M/M/c"]


def test_an_unknown_case_is_refused_with_the_list():
    with pytest.raises(SettingsError, match="there is no case 'jiter'; did you mean 'jitter'\\? valid: ") as refused:
        verify(cases=["hedging", "jiter"])
    assert all(name in str(refused.value) for name in CASES)


@pytest.mark.parametrize("size", [0, -1, 1.5, math.nan])
def test_a_size_that_means_nothing_is_refused(size):
    with pytest.raises(SettingsError, match="size must be above 0 and at most 1, got "):
        verify(size, [])


# ---- what is wrong is caught


def test_a_shifted_expectation_does_not_hold(monkeypatch):
    right = formulas.mmc_wait
    monkeypatch.setattr(queues, "MARKOV", ((2, 0.5),))
    assert all(check.holds for check in queues.erlang(0.3))
    monkeypatch.setattr(formulas, "mmc_wait", lambda slots, rho: right(slots, rho + 0.1))
    missed = {check.quantity for check in queues.erlang(0.3) if not check.holds}
    assert missed >= {"c=2, rho=0.5: P(wait)", "c=2, rho=0.5: mean wait (s)"}


def test_a_server_that_is_a_little_slow_does_not_hold(monkeypatch):
    monkeypatch.setattr(queues, "MARKOV", ((2, 0.5),))
    monkeypatch.setattr(queues, "EXPONENTIAL", Exponential(mean=1.2))
    share, mean, _, recursion = queues.erlang(0.3)
    assert not share.holds
    assert not mean.holds
    assert recursion.holds, "each wait still follows from the waits before it"


def test_a_wait_that_breaks_the_order_of_arrival_is_found():
    calls = queues.in_order(queues.queue(1.6, calls=300, slots=2))
    assert queues.worst_difference(calls, 2) < 1e-9
    last_first = queues.in_order(queues.queue(1.6, calls=300, slots=2, discipline="lifo"))
    assert queues.worst_difference(last_first, 2) > 1
    assert queues.worst_difference(calls, 3) > 0.1


def test_a_storm_that_ends_otherwise_does_not_hold(monkeypatch):
    calm = storms.Storm(50.0, 1, recovers=False)
    monkeypatch.setattr(storms, "STORMS", (calm, calm._replace(recovers=True)))
    assert [check.holds for check in storms.storms(SMALL)] == [False, False, True, True]


def test_a_mean_is_held_to_the_error_of_its_replicates():
    chance = np.random.default_rng(1)
    checks = Checks("a case", "a source")
    values = chance.normal(10.0, 1.0, 20)
    for shift in (0.0, 0.5, 1.5, -1.5):
        checks.on_average(f"shifted by {shift}", 10.0 + shift, values)
    assert [check.holds for check in checks.made] == [True, True, False, False]
    # Student's t at 19 degrees of freedom leaves 0.01% outside 4.9 standard errors
    assert checks.made[0].tolerance == pytest.approx(4.897 * values.std(ddof=1) / math.sqrt(20), rel=1e-3)


def test_a_published_figure_has_an_error_of_its_own():
    checks = Checks("a case", "a source")
    for error in (0.0, 1.0):
        checks.on_average("quantity", 10.5, [10.0, 10.01, 9.99, 10.0, 10.0], published_error=error)
    assert [check.holds for check in checks.made] == [False, True]


def test_two_replicates_are_too_few_to_tell_an_error():
    with pytest.raises(ValueError, match="a case, quantity: wants 3 replicates or more, got 2"):
        Checks("a case", "a source").on_average("quantity", 1.0, [1.0, 1.0])


def test_what_must_be_exact_may_differ_by_rounding_only():
    checks = Checks("a case", "a source")
    for measured in (1e6, 1e6 + 1e-4, 1e6 + 0.01, math.nan, math.inf):
        checks.exactly("quantity", 1e6, measured)
    assert [check.holds for check in checks.made] == [True, True, False, False, False]


def test_bounds_hold_from_both_sides():
    checks = Checks("a case", "a source")
    for measured in (0.9, 1.0, 2.0, 2.1):
        checks.between("quantity", 1.0, 2.0, measured)
    assert [check.holds for check in checks.made] == [False, True, True, False]


# ---- the theory


@pytest.mark.parametrize(
    ("slots", "rho", "probability", "mean", "p99"),
    [
        (1, 0.8, 0.8000, 4.000, 21.91),
        (2, 0.8, 0.7111, 1.778, 10.66),
        (4, 0.8, 0.5964, 0.7455, 5.111),
        (4, 0.9, 0.7878, 1.969, 10.92),
        (8, 0.8, 0.4576, 0.2860, 2.390),
    ],
)
def test_the_formulas_give_the_tabulated_waits(slots, rho, probability, mean, p99):
    wait = formulas.mmc_wait(slots, rho)
    assert wait.probability == pytest.approx(probability, rel=2e-4)
    assert wait.mean == pytest.approx(mean, rel=3e-4)
    assert wait.quantile(0.99) == pytest.approx(p99, rel=5e-4)
    assert wait.longer_than(wait.quantile(0.99)) == pytest.approx(0.01)


def test_the_formulas_agree_where_their_models_meet():
    assert formulas.mg1_mean_wait(0.7, second_moment=2.0) == pytest.approx(formulas.mmc_wait(1, 0.7).mean)
    losing = formulas.stationary([3.0] * 4, [1.0, 2.0, 3.0, 4.0])
    assert losing[-1] == pytest.approx(formulas.erlang_b(4, 3.0))
    waiting = formulas.stationary([1.6] * 500, [min(n, 2) for n in range(1, 501)])
    assert sum(waiting[2:]) == pytest.approx(formulas.erlang_c(2, 0.8))


def test_a_percentile_of_groups_comes_with_values_that_average_to_it():
    chance = np.random.default_rng(2)
    runs = list(chance.exponential(size=(20, 2000)))
    values = queues.jackknifed_percentile(runs, 0.99)
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    assert abs(np.mean(values) + math.log(0.01)) < 4 * error
    # the asymptotic error of a quantile of independent values: sqrt(q (1 - q) / n) / density
    assert error == pytest.approx(math.sqrt(0.99 * 0.01 / 40_000) / 0.01, rel=0.5)
