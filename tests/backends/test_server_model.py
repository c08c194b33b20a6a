"""A server model's settings: values to and from JSON, profiles by name, and mistakes answered in words."""

import pickle

import pytest

from llmlab import Experiment, Exponential, Lognormal, MockBackend, Outage, ServerModel, SettingsError, Sweep
from llmlab.backends.server_limits import ServerLimits
from llmlab.backends.server_profiles import PROFILES, profiles_table

FULL = ServerModel(
    slots=4,
    queue=10,
    discipline="lifo",
    on_disconnect="work_on",
    prefill_rate=100,
    decode_rate=40,
    time_to_first_token=Lognormal(median=0.3, sigma=0.5),
    output_tokens=Exponential(mean=100),
    batch_slowdown=0.5,
    load_time=5,
    load_queue=3,
    keep_alive=60,
    requests_per_minute=50,
    tokens_per_minute=1000,
    limit_burst=5,
    outages=[Outage(start=20, end=30), Outage(start=40, end=50)],
    record_every=None,
)


@pytest.mark.parametrize("model", [ServerModel(), FULL, *map(ServerModel.profile, PROFILES)])
def test_it_is_a_value_to_and_from_json_alone_and_in_a_backend(model):
    assert ServerModel.model_validate_json(model.model_dump_json()) == model == ServerModel(**model.model_dump())
    assert hash(model) == hash(pickle.loads(pickle.dumps(model)))
    backend = MockBackend(server=model, seed=3)
    assert MockBackend.model_validate_json(backend.model_dump_json()) == backend


def test_a_profile_is_changed_where_one_says_so():
    model = ServerModel.profile("ollama", slots=4, load_queue=1)
    assert (model.slots, model.load_queue, model.decode_rate) == (4, 1, PROFILES["ollama"]["decode_rate"][0])
    assert ServerModel.profile("hosted-api").requests_per_minute == 50


def test_every_number_of_a_profile_has_a_source_and_the_documentation_prints_it():
    rows = [(field, source) for settings in PROFILES.values() for field, (_, source) in settings.items()]
    assert all(field in ServerModel.model_fields and len(source) > 10 for field, source in rows)
    assert len(profiles_table().splitlines()) == len(rows) + 2


def test_its_settings_are_swept_by_their_path():
    base = Experiment(backend=MockBackend(server=ServerModel()))
    points = [point.backend.server.slots for _, _, point in Sweep(base, {"backend.server.slots": [1, 2]}).runs()]
    assert points == [1, 2]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ServerModel(slot=2), "ServerModel has no setting 'slot'; did you mean 'slots'?"),
        (lambda: ServerModel(slots=0), "slots must be 1 or more, got 0"),
        (lambda: ServerModel(discipline="lilo"), "discipline must be one of 'fifo' or 'lifo', got 'lilo'"),
        (lambda: ServerModel(service_time=1, decode_rate=40), "takes service_time or decode_rate, got both"),
        (lambda: ServerModel(prefill_rate=40), "prefill_rate counts only where answers are made of tokens"),
        (lambda: ServerModel(time_to_first_token=1), "time_to_first_token counts only where answers are made of"),
        (lambda: ServerModel(keep_alive=5), "keep_alive counts only where models are loaded; give a load_time"),
        (lambda: ServerModel(load_queue=5), "load_queue counts only where models are loaded; give a load_time"),
        (lambda: Outage(start=3, end=3), "end must be later than start=3, got 3"),
        (
            lambda: ServerModel(outages=[Outage(start=3, end=5), Outage(start=1, end=4)]),
            "outages: 1 to 4 and 3 to 5 overlap",
        ),
        (lambda: ServerModel.profile("olama"), "there is no profile 'olama'; did you mean 'ollama'?"),
        (lambda: ServerModel.profile("vllm", slot=1), "did you mean 'slots'?"),
        (lambda: MockBackend(server={"slot": 1}), "did you mean 'slots'?"),
        (lambda: MockBackend(server="ollama"), "server must be"),
    ],
)
def test_wrong_settings_are_refused_in_words(make, message):
    with pytest.raises(SettingsError) as caught:
        make()
    assert message in str(caught.value)


# ---- the rate limits, as pure arithmetic


def test_a_bucket_lets_a_minutes_worth_through_at_once_and_then_as_many_as_refill():
    limits = ServerLimits(ServerModel(requests_per_minute=6))
    assert [limits.admit(0.0, 1) for _ in range(8)] == [None] * 6 + [10, 10]
    assert limits.admit(9.0, 1) == pytest.approx(1)
    assert [limits.admit(10.0, 1), limits.admit(10.0, 1)] == [None, 10]


def test_who_waits_exactly_as_long_as_asked_is_let_in():
    limits = ServerLimits(ServerModel(requests_per_minute=7, tokens_per_minute=1234, limit_burst=1))
    now = 0.0
    for number in range(200):
        wait = limits.admit(now, 10 + number % 50)
        if wait is not None:
            now += wait
            assert limits.admit(now, 10 + number % 50) is None


def test_tokens_are_settled_when_they_are_known():
    limits = ServerLimits(ServerModel(tokens_per_minute=60))
    assert limits.admit(0.0, 60) is None
    assert limits.admit(0.0, 10) == 10
    limits.settle(expected=60, used=50)
    assert limits.admit(0.0, 10) is None


def test_a_request_larger_than_the_bucket_is_let_in_when_it_is_full():
    limits = ServerLimits(ServerModel(tokens_per_minute=60))
    assert limits.admit(0.0, 120) is None
    assert limits.admit(0.0, 120) == 120
    assert limits.admit(120.0, 120) is None
