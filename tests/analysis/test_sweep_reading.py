"""A sweep in words: the numbers are those of its calls, and nothing is claimed that these cannot tell."""

import dataclasses

import pandas as pd
import pytest

from llmlab import ClientPolicy, ClosedLoop, Experiment, MockBackend, RateLimit, Sweep, sweep_reading
from llmlab.analysis import compare
from llmlab.core.settings import SettingsError

RETRIES, TIMEOUTS = "policy.retry.max_retries", "backend.timeout_probability"


@dataclasses.dataclass
class Brought:
    """Calls by hand: of each setting which were answered, and attempts per call."""

    calls: pd.DataFrame
    parameters: tuple[str, ...] = (RETRIES,)

    @classmethod
    def of(cls, answered: dict[int, list[bool]], attempts: dict[int, int]) -> "Brought":
        rows = [
            {RETRIES: retries, "replicate": 0, "seed": 0, "call": call, "answered": ok, "attempts": attempts[retries]}
            for retries, calls in answered.items()
            for call, ok in enumerate(calls)
        ]
        return cls(pd.DataFrame(rows))


def swept(grid, *, calls=400, **backend):
    return Sweep(Experiment(backend=MockBackend(**backend), workload=ClosedLoop(calls=calls)), grid).run()


def test_its_numbers_are_those_of_the_calls():
    result = swept({RETRIES: [0, 1, 2]}, timeout_probability=0.3)
    said = sweep_reading(result)
    best = result.summary().sort_values("success_rate").iloc[-1]
    assert said.best.settings == {RETRIES: 2}
    assert said.best.success.value == pytest.approx(best["success_rate"])
    assert said.best.amplification == pytest.approx(result.calls.groupby(RETRIES)["attempts"].mean()[2])
    assert said.worst.settings == {RETRIES: 0}
    assert said.worst.success.low < said.worst.success.value < said.worst.success.high
    share, made = 100 * said.best.success.value, f"{said.best.amplification:.2f}"
    begin = f"Of 3 settings, most calls are answered at max_retries 2: {share:.4g}% of 400 calls ("
    assert str(said).startswith(begin)
    assert f"), with {made} attempts each; fewest at max_retries 0: " in str(said)
    assert said.where == {}


def test_settings_are_compared_where_the_server_fails_most():
    result = swept({RETRIES: [0, 1], TIMEOUTS: [0.4, 0.0]})
    said, calls = sweep_reading(result), result.calls
    hard = calls[(calls[TIMEOUTS] == 0.4) & (calls[RETRIES] == 0)]
    assert said.where == {TIMEOUTS: 0.4}
    assert said.worst.success.value == hard["answered"].mean()
    begin = "Where the fewest calls are answered, at timeout_probability 0.4: of 2 settings, most calls are"
    assert str(said).startswith(begin)


def test_conditions_alone_are_compared_with_each_other():
    said = sweep_reading(swept({TIMEOUTS: [0.0, 0.4]}))
    assert said.where == {}
    assert said.best.settings == {TIMEOUTS: 0.0}


def test_what_cannot_be_told_from_the_best_is_said_with_the_one_that_costs_least():
    most = [True] * 399 + [False]
    said = sweep_reading(
        Brought.of({0: [True, False] * 200, 1: most, 2: [True] * 400, 3: most}, {0: 1, 1: 2, 2: 4, 3: 3})
    )
    assert said.best.settings == {RETRIES: 2}
    assert [point.settings[RETRIES] for point in said.like_the_best] == [1, 3]
    assert str(said).endswith(
        "So many calls cannot tell 2 more from the best; max_retries 1 makes only 2.00 attempts each."
    )


def test_of_settings_that_answer_alike_the_best_makes_the_fewest_attempts():
    said = sweep_reading(Brought.of({0: [False] * 40, 1: [True] * 40, 2: [True] * 40}, {0: 1, 1: 3, 2: 2}))
    assert said.best.settings == {RETRIES: 2}
    assert str(said).endswith("So many calls cannot tell one more from the best.")


def test_where_nothing_differs_no_setting_is_praised():
    said = sweep_reading(swept({RETRIES: [0, 1]}))
    assert str(said) == "Of 2 settings none can be told from the best by so many calls: 100% are answered."


def test_a_difference_is_claimed_where_the_paired_comparison_finds_one():
    result = swept({RETRIES: [0, 1]}, timeout_probability=0.2)
    calls = result.calls
    found = compare(calls[calls[RETRIES] == 1], calls[calls[RETRIES] == 0], "answered")
    assert found.p_value < 0.05
    assert not sweep_reading(result).like_the_best


def test_the_best_of_many_gets_a_wider_interval():
    few, many = (swept({RETRIES: values}, timeout_probability=0.3) for values in ([0, 3], [0, 1, 2, 3, 4, 5, 6, 7]))
    narrow, wide = (sweep_reading(result).worst.success for result in (few, many))
    assert narrow.value == wide.value
    assert wide.low < narrow.low < narrow.high < wide.high


def test_a_setting_that_there_was_not_is_none():
    policy = ClientPolicy(rate_limit=RateLimit(requests=1.0))
    experiment = Experiment(backend=MockBackend(), policy=policy, workload=ClosedLoop(calls=20))
    said = sweep_reading(Sweep(experiment, {"policy.total_timeout": [None, 1.0]}).run())
    assert said.best.settings == {"policy.total_timeout": None}
    assert "at total_timeout None: 100% of 20 calls" in str(said)


def test_a_single_finished_setting_is_said_as_it_is():
    assert str(sweep_reading(Brought.of({1: [True] * 10}, {1: 1}))).startswith("At max_retries 1: 100% of 10 calls (")


def test_one_call_of_each_setting_tells_nothing():
    result = Sweep(Experiment(workload=ClosedLoop(calls=1)), {"policy.retry.max_retries": [0, 1]}).run(progress=False)
    assert "none can be told from the best" in str(sweep_reading(result))


def test_what_is_no_sweep_s_result_is_refused():
    with pytest.raises(SettingsError, match="nothing was swept over in this result; `reading` says"):
        sweep_reading(Experiment(workload=ClosedLoop(calls=5)).run())
    with pytest.raises(SettingsError, match="holds no calls"):
        sweep_reading(Brought(pd.DataFrame({RETRIES: []})))
    with pytest.raises(SettingsError, match="result must be what a sweep brought, a SweepResult, got a DataFrame"):
        sweep_reading(pd.DataFrame({RETRIES: [1]}))
    with pytest.raises(SettingsError, match="confidence must lie strictly between 0 and 1"):
        sweep_reading(Brought(pd.DataFrame({RETRIES: [1]})), confidence=95)


def test_it_reads_well_as_html_and_as_text():
    said = sweep_reading(Brought.of({0: [False] * 40, 1: [True] * 40}, {0: 1, 1: 2}))
    assert "most calls are answered at max_retries 1" in said._repr_html_()
    assert "SweepReading" in repr(said)
