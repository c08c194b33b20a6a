import pytest
from scipy.stats import qmc

from llmlab import (
    ClosedLoop,
    Condition,
    Experiment,
    Fallback,
    LinearRange,
    LLMRequest,
    LogRange,
    MockBackend,
    OpenLoop,
    Samples,
    SettingsError,
    Sweep,
    Values,
)
from llmlab.backends.setting_paths import setting_at
from llmlab.core.adaptive import AdaptiveConcurrency

BASE = Experiment(workload=ClosedLoop(calls=10, users=2))
RETRIES, JITTER, TIMEOUT = "policy.retry.max_retries", "policy.retry.backoff.jitter", "policy.attempt_timeout"


def points(sweep):
    return [tuple(settings.values()) for settings, replicate, _ in sweep.runs() if replicate == 0]


def test_zipped_settings_go_together_and_grids_are_crossed_with_them():
    sweep = Sweep(BASE, {RETRIES: [0, 1]}, zipped={"workload.users": [1, 2], "policy.max_concurrency": [3, 4]})
    assert sweep.parameters == [RETRIES, "workload.users", "policy.max_concurrency"]
    assert points(sweep) == [(0, 1, 3), (0, 2, 4), (1, 1, 3), (1, 2, 4)]


def test_every_run_has_the_settings_that_it_is_labelled_with():
    sweep = Sweep(
        BASE,
        {RETRIES: [0, 2], JITTER: Values(["none", "full"], only_if=Condition(RETRIES, ">", 0))},
        zipped={"workload.users": [1, 2], TIMEOUT: [None, 4.0]},
        samples=Samples("sobol", 4, {"backend.timeout_probability": LinearRange(0, 0.5)}),
        replicates=2,
    )
    runs = list(sweep.runs())
    assert len(runs) == len(sweep) == (1 + 2) * 2 * 4 * 2
    for settings, _, experiment in runs:
        assert settings == {path: setting_at(experiment, path) for path in sweep.parameters}


def test_a_conditional_axis_leaves_other_points_alone_and_shows_what_they_have():
    sweep = Sweep(BASE, {JITTER: Values(["none", "full"], only_if=Condition(RETRIES, ">", 0)), RETRIES: [0, 1]})
    assert points(sweep) == [("full", 0), ("none", 1), ("full", 1)]
    assert len(sweep) == 3


def test_conditional_axes_reach_settings_that_exist_at_some_points_only():
    grid = {
        "workload": [ClosedLoop(calls=5), OpenLoop(calls=5)],
        "workload.users": LinearRange(1, 2, 2, whole=True, only_if=Condition("workload.kind", "==", "closed")),
        "workload.rate": LogRange(1, 10, 2, only_if=Condition("workload.kind", "==", "open")),
    }
    sweep = Sweep(BASE, grid)
    shown = [(settings["workload.users"], settings["workload.rate"]) for settings, _, _ in sweep.runs()]
    assert shown == [(1, None), (2, None), (None, 1.0), (None, 10.0)]
    rates = sweep.run(progress=False).calls.groupby("workload.rate", dropna=False).size()
    assert list(rates) == [5, 5, 10]


def test_what_is_none_is_swept_where_it_is_something():
    path = "policy.adaptive_concurrency"
    grid = {path: [None, AdaptiveConcurrency()], f"{path}.initial": Values([1, 2], only_if=Condition(path, "!=", None))}
    assert [settings[f"{path}.initial"] for settings, _, _ in Sweep(BASE, grid).runs()] == [None, 1, 2]


def test_whole_backends_are_swept_beside_the_results_own_column_of_that_name():
    sweep = Sweep(BASE, {"backend": [MockBackend(), MockBackend(name="other")]})
    assert sweep.parameters == ["experiment.backend"]
    attempts = sweep.run(progress=False).attempts
    assert list(attempts.groupby("experiment.backend", observed=True)["backend"].first()) == ["mock", "other"]


def test_one_of_several_targets_is_swept_by_what_a_file_says_of_it():
    base = BASE.replace(backend=Fallback([MockBackend(), MockBackend()]))
    sweep = Sweep(base, {"backend.targets.0": [{"kind": "mock", "text": "a"}, {"kind": "mock", "text": "b"}]})
    assert [run.backend.targets[0].backend.text for _, _, run in sweep.runs()] == ["a", "b"]


def test_where_leaves_points_out_also_such_as_would_be_invalid():
    overload, timeout = "backend.overload_probability", "backend.timeout_probability"
    grid = {overload: [0.0, 0.7], timeout: [0.0, 0.7]}
    with pytest.raises(SettingsError, match=r"must add up to 1 or less, got 1\.4 \(at the point backend\.overload_pro"):
        Sweep(BASE, grid)
    other = Sweep(BASE, {overload: [0.0, 0.2], timeout: [0.1, 0.7]}, where=Condition(overload, "<", other=timeout))
    assert points(other) == [(0.0, 0.1), (0.0, 0.7), (0.2, 0.7)]
    assert len(Sweep(BASE, {overload: [0.0, 0.7]}, where=[Condition("seed", "==", 0)])) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"zipped": {RETRIES: [1, 2], TIMEOUT: [1]}}, "zipped.0: values go together, so there must be as many of each"),
        ({"zipped": [{}]}, "zipped.0 is empty"),
        ({"grid": {RETRIES: [0]}, "zipped": {RETRIES: [1]}}, f"'{RETRIES}' is swept twice"),
        ({"grid": {"workload.users": [1], "workload": [OpenLoop()]}}, "'workload' would replace 'workload.users'"),
        ({"where": Condition(RETRIES, ">", 9)}, "where leaves no point"),
        ({"grid": {"seed": range(10_001)}, "where": Condition("seed", "<", 0)}, "where leaves no point"),
        ({"where": Condition("policy.retry.max_retrie", ">", 9)}, "did you mean 'max_retries'?"),
        (
            {"where": Condition(TIMEOUT, "<", "x")},
            "is 30.0, which '<' cannot compare with 'x'",
        ),
        ({"grid": {"seed": range(10_000)}, "replicates": 2_000}, "this makes 20,000,000 runs; at most 10,000,000"),
        ({"grid": {"seed": range(10_001), RETRIES: [0, -1]}}, f"'{RETRIES}' cannot be -1: max_retries must be 0 or"),
        ({"grid": {RETRIES: [0, 1, 0]}}, f"{RETRIES}=0 is there twice; leave one out, and use replicates"),
        ({"zipped": {RETRIES: [1, 1], JITTER: ["none", "none"]}}, "is there twice"),
        ({"grid": {RETRIES: [0], "policy": {"retry": {"max_retries": [5]}}}}, f"'{RETRIES}' is given twice"),
        ({"grid": {"policy.attempt_timeout.real": [1.0]}}, "'policy.attempt_timeout.real' cannot be set"),
        ({"samples": Samples("random", 1, {"policy.max_queue": [0]}), "grid": {"policy.max_queue": [1]}}, "twice"),
    ],
)
def test_wrong_sweeps_are_refused_in_words(arguments, message):
    grid = arguments.pop("grid", None)
    with pytest.raises(SettingsError) as caught:
        Sweep(BASE, grid, **arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize("method", ["sobol", "latin_hypercube", "random"])
def test_a_sample_is_the_same_for_the_same_seed_and_fills_its_ranges(method):
    def sample(seed):
        over = {"workload.users": LinearRange(1, 4, whole=True), TIMEOUT: LogRange(1, 100), JITTER: ["none", "full"]}
        return Samples(method, 64, over, seed=seed)

    found = sample(1).points()
    assert found == sample(1).points() != sample(2).points()
    assert {point["workload.users"] for point in found} == {1, 2, 3, 4}
    assert {point[JITTER] for point in found} == {"none", "full"}
    assert 20 <= sum(point[TIMEOUT] < 10 for point in found) <= 44
    if method != "random":
        assert [point["workload.users"] for point in found].count(1) == 16
        assert sum(point[TIMEOUT] < 10 for point in found) == 32


def test_a_point_that_is_drawn_again_is_not_run_again():
    sweep = Sweep(BASE, samples=Samples("sobol", 8, {RETRIES: [0, 1]}))
    assert sorted(points(sweep)) == [(0,), (1,)]


def test_values_whose_reprs_are_equal_are_not_the_same_value():
    prompts = [[LLMRequest(prompt="abc", metadata={"a": 1})], [LLMRequest(prompt="xyz", metadata={"a": 1})]]
    assert len(Sweep(BASE, {"workload.requests": prompts})) == 2
    with pytest.raises(SettingsError, match=r"1 request \(\w+\)' is there twice") as caught:
        Sweep(BASE, {"workload.requests": [prompts[0], prompts[0]]})
    assert "abc" not in str(caught.value)


@pytest.mark.parametrize("method", ["sobol", "random"])
def test_a_longer_sample_begins_with_the_shorter_one(method):
    over = {TIMEOUT: LinearRange(1, 2), "policy.total_timeout": LinearRange(1, 2)}
    assert Samples(method, 64, over).points()[:16] == Samples(method, 16, over).points()


def test_a_sobol_sample_is_more_even_than_a_random_one():
    over = {TIMEOUT: LinearRange(0, 1), "policy.total_timeout": LinearRange(0, 1)}
    spread = {
        method: qmc.discrepancy([list(point.values()) for point in Samples(method, 64, over).points()])
        for method in ("sobol", "random")
    }
    assert spread["sobol"] < spread["random"] / 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Samples("sobol", 100, {"seed": [1]}),
            "must be a power of 2 for a Sobol sample, got 100; take 64",
        ),
        (lambda: Samples("sobl", 4, {"seed": [1]}), "method must be one of 'sobol', 'latin_hypercube' or 'random'"),
        (lambda: Samples("random", 4, {}), "over must"),
        (lambda: Samples("random", 4, {"seed": []}), "over.seed has no values"),
        (lambda: Samples("random", 4, {TIMEOUT: LinearRange(0, 1, num=3)}), "in a sample a range takes no num"),
        (lambda: Samples("random", 0, {"seed": [1]}), "count must be 1 or more, got 0"),
    ],
)
def test_a_wrong_sample_is_refused_in_words(make, message):
    with pytest.raises(SettingsError) as caught:
        make()
    assert message in str(caught.value)


def test_common_random_numbers_hold_over_samples_and_zipped_lists_too():
    base = BASE.replace(backend=MockBackend(overload_probability=0.4))
    sweep = Sweep(base, zipped={RETRIES: [0, 3]}, samples=Samples("random", 3, {TIMEOUT: LinearRange(20, 30)}))
    first = sweep.run(progress=False).attempts.query("attempt == 1")
    reasons = first.groupby("call")["reason"].agg(lambda words: len(set(words.astype(object).fillna("none"))))
    assert (reasons == 1).all()
