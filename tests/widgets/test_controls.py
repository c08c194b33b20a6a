import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab import (
    ClosedLoop,
    Experiment,
    FailureReason,
    LinearRange,
    LogRange,
    MockBackend,
    OpenLoop,
    RateLimit,
    ServerModel,
    SettingsError,
    Sweep,
)
from llmlab.core.backend import AttemptFailure
from llmlab.widgets import SITUATIONS
from llmlab.widgets.controls import BY_NAME, CONTROLS, experiment_with, values_of
from llmlab.widgets.swept_values import swept_values, text_of

PROBABILITIES = [control.name for control in CONTROLS if control.kind == "probability"]


@pytest.mark.parametrize("name", SITUATIONS)
def test_what_the_controls_show_of_a_situation_makes_that_situation(name):
    assert experiment_with(SITUATIONS[name], values_of(SITUATIONS[name])) == SITUATIONS[name]


@pytest.mark.parametrize("control", CONTROLS, ids=[control.name for control in CONTROLS])
def test_every_value_that_a_control_offers_can_be_put_in_and_read_again(control):
    offered = control.values if control.kind in {"scale", "word"} else (0, 1)
    for value in (*offered, *control.swept):
        changed = control.put(Experiment(), value)
        assert control.value_in(changed) == value


@given(st.permutations(PROBABILITIES), st.floats(0.01, 0.99))
def test_probabilities_that_fit_together_are_taken_in_whatever_order(names, share):
    first, second = names[:2]
    before = experiment_with(Experiment(), {first: share})
    after = experiment_with(before, {first: 0.0, second: share})
    assert values_of(after)[first] == 0
    assert values_of(after)[second] == share


def test_probabilities_beyond_one_are_refused():
    with pytest.raises(SettingsError, match="must add up to 1 or less"):
        experiment_with(Experiment(), {"timeout_probability": 0.6, "overload_probability": 0.6})


def test_what_no_control_shows_stays_as_it_is():
    base = Experiment(
        backend=MockBackend(server=ServerModel.profile("ollama")), workload=ClosedLoop(calls=50, think_time=2.0)
    )
    changed = experiment_with(base, values_of(base) | {"slots": 4, "calls": 100, "max_retries": 5})
    assert changed.workload == ClosedLoop(calls=100, think_time=2.0)
    assert changed.backend.server == ServerModel.profile("ollama", slots=4)


def test_load_is_of_one_kind_and_the_other_ones_control_has_no_say():
    opened = experiment_with(Experiment(), values_of(Experiment()) | {"load": "rate", "rate": 20.0, "users": 50})
    assert opened.workload == OpenLoop(rate=20.0)
    closed = experiment_with(opened, values_of(opened) | {"load": "users", "rate": 1.0, "users": 50})
    assert closed.workload == ClosedLoop(users=50)


def test_a_rate_limit_is_shown_per_second_and_kept_with_its_tokens():
    base = Experiment(policy={"rate_limit": RateLimit(requests=120, tokens=1000, per=60)})
    assert values_of(base)["rate_limit"] == 2.0
    assert experiment_with(base, values_of(base)) == base
    assert experiment_with(base, {"rate_limit": 5.0}).policy.rate_limit.tokens == 1000
    assert experiment_with(base, {"rate_limit": None}).policy.rate_limit is None


class Own:
    async def attempt(self, request, *, timeouts, key):
        return AttemptFailure(FailureReason.OVERLOADED, "busy", 503)


def test_a_backend_of_ones_own_has_no_faults_to_be_set():
    experiment = Experiment(backend=Own())
    missing = {control.name for control in CONTROLS if not control.is_in(experiment)}
    assert missing == {*PROBABILITIES, "slots"}


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("timeout_probability", "0, 0.1,0.2", (0.0, 0.1, 0.2)),
        ("timeout_probability", " 0 to 0.5 in 6 ", LinearRange(0, 0.5, 6)),
        ("rate", "1 to 100 in 3 log", LogRange(1, 100, 3)),
        ("max_retries", "0 to 4 in 5", LinearRange(0, 4, 5, whole=True)),
        ("max_retries", "0, 3", (0, 3)),
        ("max_concurrency", "4, none", (4, None)),
        ("jitter", "'full', none", ("full", "none")),
    ],
)
def test_values_are_read_as_people_write_them(name, text, values):
    read = swept_values(BY_NAME[name], text)
    assert read == values
    assert swept_values(BY_NAME[name], text_of(read)) == values


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("timeout_probability", " , ", "timeout: no values to sweep over; write them as"),
        ("timeout_probability", "0, many", "timeout: 'many' is not a number; write them as"),
        ("max_retries", "0.5", "max retries: '0.5' is not a whole number"),
        ("max_retries", "none", "max retries: 'none' is not a whole number"),
        ("rate", "5 to 1 in 3", "high must be more than low"),
    ],
)
def test_values_that_cannot_be_read_are_refused_with_the_way_to_write_them(name, text, message):
    with pytest.raises(SettingsError, match=message):
        swept_values(BY_NAME[name], text)


@pytest.mark.parametrize("control", [c for c in CONTROLS if c.swept], ids=lambda control: control.name)
def test_every_control_that_can_be_swept_can_be_swept_from_any_situation(control):
    from llmlab.widgets.sweeping import sweep_over

    for situation in SITUATIONS.values():
        sweep = sweep_over(situation, [(control.name, text_of(control.swept))], 1)
        assert isinstance(sweep, Sweep)
        assert len(sweep) == len(control.swept)
        shown = [control.value_in(point) for _, _, point in sweep.runs()]
        assert shown == list(control.swept)
