import math

import numpy as np
import pandas as pd
import pytest

from llmlab import Backoff, ClientPolicy, ClosedLoop, Experiment, MockBackend, SettingsError, Sweep, SweepResult
from llmlab.analysis import SLO, pareto_front, recommend
from llmlab.analysis.slo import CRITERIA
from tests.analysis.swept import calls_of, swept

RETRIES, TIMEOUT = "policy.retry.max_retries", "policy.attempt_timeout"
WEATHER = "backend.timeout_probability"
SERVICE = SLO(success_rate=0.99, p95_latency_s=5, max_amplification=1.3)


def point(retries, n=4000, **truth):
    return calls_of(n, random=np.random.default_rng(retries), **truth, **{RETRIES: retries})


@pytest.fixture(scope="module")
def four():
    """Settings that fail, keep the SLO fast, keep it slowly, and load the server too much."""
    return swept(
        point(0, success=0.9),
        point(1, success=0.999, latency=1.2, attempts=1.1),
        point(2, success=0.9999, latency=1.3, attempts=1.15),
        point(3, success=0.9999, latency=1.1, attempts=1.6),
    )


def test_of_the_settings_that_keep_the_slo_the_one_with_the_least_is_chosen(four):
    found = recommend(four, SERVICE)
    assert found.status == "kept"
    assert found.settings == {RETRIES: 1}
    assert found.points["verdict"].tolist() == ["misses", "chosen", "meets", "misses"]
    assert recommend(four, SERVICE, minimise="failure_rate").settings == {RETRIES: 2}
    assert recommend(four, SERVICE, minimise="amplification").settings == {RETRIES: 1}


def test_every_other_setting_has_the_first_reason_against_it(four):
    reasons = recommend(four, SERVICE).points["reason"].tolist()
    assert reasons[0].startswith("success rate 90")
    assert reasons[0].endswith("is below 99%")
    assert reasons[1] == ""
    assert reasons[2].startswith("keeps the SLO as well, but its p95 latency")
    assert reasons[3].startswith("attempts per call 1.6")
    assert reasons[3].endswith("is above 1.3")


def test_the_points_carry_intervals_that_hold_the_truth(four):
    points = recommend(four, SERVICE).points
    assert (points["success_rate_low"] <= [0.9, 0.999, 0.9999, 0.9999]).all()
    assert (points["success_rate_high"] >= [0.9, 0.999, 0.9999, 0.9999]).all()
    p95 = -math.log(0.05) * np.array([1.0, 1.2, 1.3, 1.1])
    assert points["latency_p95_s"].between(points["latency_p95_s_low"], points["latency_p95_s_high"]).all()
    assert ((points["latency_p95_s_low"] <= p95) & (p95 <= points["latency_p95_s_high"])).all()
    assert points["attempts_per_call"].between(points["attempts_per_call_low"], points["attempts_per_call_high"]).all()
    assert points["calls"].tolist() == [4000] * 4


def test_the_front_is_that_of_success_latency_and_load(four):
    points = recommend(four, SERVICE).points
    own = pareto_front(points, maximise=["success_rate"], minimise=["latency_p95_s", "attempts_per_call"])
    assert points["on_front"].tolist() == own.tolist()
    by_median = recommend(four, SERVICE, minimise="p50_latency_s").points
    own = pareto_front(by_median, maximise=["success_rate"], minimise=["latency_p50_s", "attempts_per_call"])
    assert by_median["on_front"].tolist() == own.tolist()


def test_where_none_keeps_it_the_nearest_is_named():
    found = recommend(swept(point(0, success=0.8), point(1, success=0.93), point(2, success=0.9)), SERVICE)
    assert found.status == "not_kept"
    assert found.settings == {RETRIES: 1}
    assert str(found).startswith("No setting keeps the SLO. The nearest is policy.retry.max_retries=1, whose success")
    assert found.calls_needed == 0


def test_how_near_is_measured_in_failures_and_not_in_successes():
    # 1.5 times the failures allowed are nearer than 2 times the latency.
    result = swept(point(0, success=0.985, n=20_000), point(1, success=0.9999, latency=4.0))
    assert recommend(result, SLO(success_rate=0.99, p95_latency_s=6)).settings == {RETRIES: 0}


def test_where_the_calls_are_too_few_it_says_how_many_more_would_tell():
    result = swept(point(0, success=0.9), point(1, n=200), point(2, n=250, latency=1.1))
    found = recommend(result, SLO(success_rate=0.99))
    assert found.status == "too_few_calls"
    assert found.settings == {RETRIES: 2}  # it needs fewer
    assert f"{found.calls_needed:,.0f} more calls are needed" in str(found)
    more = int(found.calls_needed)
    assert recommend(swept(point(0, success=0.9), point(2, n=250 + more)), SLO(success_rate=0.99)).status == "kept"


def test_a_percentile_that_few_calls_cannot_bound_is_open_and_not_kept():
    found = recommend(swept(point(0, n=100)), SLO(p99_latency_s=1000))
    assert found.status == "too_few_calls"
    assert math.isnan(found.points["latency_p99_s_high"].item())
    assert found.calls_needed >= math.ceil(math.log(0.025) / math.log(0.99)) - 100
    assert recommend(swept(point(0, n=100 + int(found.calls_needed))), SLO(p99_latency_s=1000)).status == "kept"


def test_a_better_setting_that_is_open_is_mentioned():
    result = swept(point(0, latency=1.0, n=300), point(1, latency=1.4))
    found = recommend(result, SLO(success_rate=0.99, p95_latency_s=6))
    assert found.settings == {RETRIES: 1}
    assert "1 other setting may keep it with less" in str(found)


def test_conditions_are_not_to_be_chosen_and_the_worst_counts():
    calm, storm = {WEATHER: 0.0}, {WEATHER: 0.4}
    result = swept(
        point(0, success=0.9999, **calm),
        point(0, success=0.9, **storm),
        point(2, success=0.9999, latency=1.2, **calm),
        point(2, success=0.999, latency=1.3, **storm),
    )
    found = recommend(result, SERVICE)
    assert found.conditions == (WEATHER,)
    assert found.settings == {RETRIES: 2}
    assert len(found.points) == 2
    assert found.points["reason"].iloc[0].endswith("is below 99% where backend.timeout_probability=0.4")
    assert found.points["latency_p95_s"].iloc[1] == pytest.approx(3 * 1.3, rel=0.1)
    assert found.points["calls"].tolist() == [8000, 8000]
    assert "the worst over backend.timeout_probability" in str(found)


def test_what_was_not_measured_under_every_condition_is_open():
    result = swept(point(1, **{WEATHER: 0.0}), point(2, **{WEATHER: 0.0}), point(2, **{WEATHER: 0.4}, latency=1.2))
    found = recommend(result, SERVICE)
    assert found.settings == {RETRIES: 2}
    assert found.points["verdict"].tolist() == ["unclear", "chosen"]
    assert found.points["reason"].iloc[0] == "not measured where backend.timeout_probability=0.4"
    assert found.points["calls_needed"].iloc[0] == 4000


def paired(retries, **columns):
    """Calls that met the same chance as those of every other setting, changed in some columns."""
    return calls_of(4000, **{RETRIES: retries}).assign(**columns)


def test_the_next_best_is_compared_over_calls_that_met_the_same_chance():
    slower = paired(2, latency_s=lambda frame: frame["latency_s"] * 1.1)
    found = recommend(swept(paired(1), slower, paired(3, answered=False)), SERVICE)
    assert found.runner_up.settings == {RETRIES: 2}
    assert found.runner_up.comparison.low > 0
    assert found.runner_up.comparison.difference == pytest.approx(0.3, abs=0.03)
    # Their intervals overlap: without pairing one could not tell.
    assert found.points["latency_p95_s_high"].iloc[0] > found.points["latency_p95_s_low"].iloc[1]
    assert "Next best is policy.retry.max_retries=2, whose p95 latency is higher by 0." in str(found)


def test_where_the_next_best_is_as_good_it_says_so():
    found = recommend(swept(paired(1), paired(2)), SERVICE)
    assert "In p95 latency it cannot be told apart from the next best, policy.retry.max_retries=2." in str(found)
    assert recommend(swept(paired(1)), SERVICE).runner_up is None
    other_seeds = swept(paired(1, replicate=0), paired(2, replicate=1))
    assert recommend(other_seeds, SERVICE).runner_up is None


@pytest.mark.parametrize("minimise", ["failure_rate", "amplification"])
def test_the_next_best_is_compared_by_what_is_minimised(minimise):
    worse = paired(
        2, answered=lambda frame: frame["call"] % 200 > 0, attempts=lambda frame: 1 + (frame["call"] % 10 == 0)
    )
    found = recommend(swept(paired(1), worse), SERVICE, minimise=minimise)
    assert found.runner_up.comparison.differs
    assert "Next best" in str(found)


def test_what_is_not_of_the_policy_is_chosen_only_where_one_says_so():
    result = swept(calls_of(3000, users=10), calls_of(3000, users=20))
    with pytest.raises(SettingsError, match=r"not of the policy: users; name in settings=\[...\]"):
        recommend(result, SERVICE)
    assert set(recommend(result, SERVICE, settings="users").settings) == {"users"}
    with pytest.raises(SettingsError, match=r"\['max_retries'\] were not swept; swept: users"):
        recommend(result, SERVICE, settings=["max_retries"])


def test_many_settings_that_all_miss_narrowly_are_hardly_ever_called_good():
    truth = 0.985

    def a_sweep(seed):
        random = np.random.default_rng(seed)
        return swept(*[calls_of(1000, success=truth, random=random, **{RETRIES: place}) for place in range(12)])

    slo = SLO(success_rate=truth + 1e-6)
    assert sum(recommend(a_sweep(seed), slo).status == "kept" for seed in range(25)) <= 2


def test_retries_too_rare_to_have_been_seen_are_hardly_ever_called_few_enough():
    kept = 0
    for seed in range(80):
        calls = calls_of(20, random=np.random.default_rng(seed), attempts=1.05, **{RETRIES: 1})
        kept += recommend(swept(calls), SLO(max_amplification=1.049)).status == "kept"
    assert kept <= 6


def test_calls_without_a_retry_keep_a_load_once_they_are_as_many_as_it_says():
    def without_retries(n):
        return recommend(swept(calls_of(n, attempts=1.0, **{RETRIES: 1})), SLO(max_amplification=1.05))

    few = without_retries(20)
    assert few.status == "too_few_calls"
    assert without_retries(20 + int(few.calls_needed)).status == "kept"


def test_latencies_of_answers_that_nobody_got_are_open_and_it_says_why():
    silent = swept(calls_of(50, success=0.0, **{RETRIES: 1}))
    found = recommend(silent, SLO(p95_latency_s=5, latency_over="answered"))
    assert found.status == "too_few_calls"
    assert "there is no call to take p95 latency over" in str(found)
    assert "so near" not in str(found)


def test_latencies_are_over_all_calls_unless_the_slo_says_otherwise():
    calls = point(0)
    calls["answered"] = calls["latency_s"] < 2.0
    slow = SLO(p95_latency_s=2.0)
    assert recommend(swept(calls), slow).status == "not_kept"
    assert recommend(swept(calls), slow.replace(latency_over="answered")).status == "kept"
    nothing = swept(calls.assign(answered=False))
    assert recommend(nothing, slow.replace(latency_over="answered")).status == "too_few_calls"


def test_it_works_on_a_sweep_and_gives_the_policy_to_use():
    backoffs = [Backoff(base=0.1), Backoff(base=30.0, maximum=30.0, jitter="none")]
    base = Experiment(
        backend=MockBackend(overload_probability=0.1),
        policy=ClientPolicy(attempt_timeout=4.0),
        workload=ClosedLoop(calls=1000),
    )
    result = Sweep(base, {"policy.retry.backoff": backoffs, "policy.max_concurrency": [None, 8]}).run(progress=False)
    found = recommend(result, SLO(success_rate=0.98, p95_latency_s=5))
    assert found.status == "kept"
    assert found.settings["policy.retry.backoff"] == backoffs[0]
    assert found.policy(base.policy).retry.backoff == backoffs[0]
    assert "Use policy.retry.backoff=Backoff(base=0.1), policy.max_concurrency=" in str(found)
    assert found.policy(base.policy).attempt_timeout == 4.0
    assert recommend(base.run(), SLO(success_rate=0.5)).settings == {}


def test_policies_that_were_swept_as_a_whole_are_settings_too(tmp_path):
    policies = [ClientPolicy(), ClientPolicy(max_concurrency=2)]
    sweep = Sweep(Experiment(workload=ClosedLoop(calls=100, users=20)), {"policy": policies})
    found = recommend(sweep.run(progress=False), SLO(success_rate=0.5))
    assert found.settings == {"policy": policies[0]}
    assert found.policy() == policies[0]
    sweep.run(store=tmp_path, progress=False)
    with pytest.raises(SettingsError, match=r"a store has the texts only; take ClientPolicy\(\) from what"):
        recommend(SweepResult.load(tmp_path), SLO(success_rate=0.5)).policy()


def test_the_paragraph_is_short_and_says_everything():
    result = swept(point(0, success=0.9), point(1, n=3000))
    assert str(recommend(result, SLO(success_rate=0.99))) == repr(recommend(result, SLO(success_rate=0.99)))
    assert str(recommend(result, SLO(success_rate=0.99))) == (
        "Use policy.retry.max_retries=1. It keeps the SLO, and no other setting does: "
        "success rate 100% (99.85% to 100%), at least 99% asked for. "
        "(7,000 calls, 2 settings: kept 1, open 0, missed 1; 95% confidence for all intervals together.)"
    )


def test_html_is_escaped():
    result = swept(calls_of(2000, **{"policy.name": "<script>alert(1)</script>"}))
    text = recommend(result, SLO(success_rate=0.9))._repr_html_()
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "<table" in text


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "must ask for something; give at least one of success_rate, p50_latency_s, .*max_amplification"),
        ({"success_rate": 1.0}, "must be less than 1, got 1.0; no number of calls can show that none ever fails"),
        ({"success_rate": 99}, "must be less than 1, got 99"),
        ({"p95_latency_s": 0}, "must be more than 0"),
        ({"max_amplification": 0.5}, "must be 1 or more"),
        ({"p95_latency": 5}, "did you mean 'p95_latency_s'"),
    ],
)
def test_an_slo_that_makes_no_sense_is_refused(wrong, message):
    with pytest.raises(SettingsError, match=message):
        SLO(**wrong)


def test_what_to_minimise_and_the_confidence_are_checked(four):
    with pytest.raises(SettingsError, match=r"minimise cannot be 'latency'; .*valid: amplification, failure_rate, p50"):
        recommend(four, SERVICE, minimise="latency")
    with pytest.raises(SettingsError, match="strictly between 0 and 1"):
        recommend(four, SERVICE, confidence=95)
    with pytest.raises(SettingsError, match=r"slo must be an SLO, such as .*got a dict"):
        recommend(four, {"success_rate": 0.9})
    with pytest.raises(SettingsError, match="a SweepResult, got a DataFrame"):
        recommend(four.calls, SERVICE)
    with pytest.raises(SettingsError, match="holds no calls"):
        recommend(swept(point(0).head(0)), SERVICE)


def test_every_criterion_can_be_asked_for():
    targets = {criterion.name: 1.5 if criterion.unit != "share" else 0.5 for criterion in CRITERIA}
    assert list(SLO(**targets).targets()) == list(CRITERIA)
    assert pd.Series([criterion.column for criterion in CRITERIA]).is_unique
