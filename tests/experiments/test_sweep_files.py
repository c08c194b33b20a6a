import json
import tomllib

import pytest
from hypothesis import given, settings

from llmlab import ClosedLoop, Experiment, LLMRequest, MockBackend, SettingsError, Sweep, WithFaults
from llmlab.experiments import documents
from tests.experiments.strategies import sweeps

BASE = Experiment(workload=ClosedLoop(calls=10, users=2))

AS_A_PERSON_WRITES_IT = """
# How much do retries help?
replicates = 2

[base]
seed = 7

[base.backend]
kind = "mock"
overload_probability = 0.05
latency = { kind = "lognormal", median = 0.8, sigma = 0.5 }

[base.workload]
kind = "open"
rate = 5.0
calls = 50

[grid]
backend.timeout_probability = [0.0, 0.2]                      # with or without quotation marks
"policy.attempt_timeout" = [{ none = true }, 10]              # no bound, or ten seconds
policy.retry.max_retries = { kind = "linear", low = 0, high = 2, num = 3, whole = true }

[[zipped]]
policy.max_concurrency = [2, 4]
policy.max_queue = [10, 20]

[[samples]]
method = "latin_hypercube"
count = 3
seed = 1
[samples.over]
"workload.rate" = { kind = "log", low = 1, high = 100 }
"policy.retry.backoff.jitter" = ["none", "full"]

[[where]]
setting = "workload.rate"
op = "<"
value = 1000
"""


@settings(max_examples=50)
@given(sweeps)
def test_every_sweep_survives_toml_and_json_exactly(sweep):
    for text, parse in ((sweep.to_toml(), tomllib.loads), (sweep.to_json(), json.loads)):
        data = documents._checked(parse(text), none=parse is tomllib.loads)
        again = Sweep(**data)
        assert again == sweep
        assert again.to_json() == sweep.to_json()
        before, after = list(sweep.runs()), list(again.runs())
        assert [(labels, number) for labels, number, _ in after] == [(labels, number) for labels, number, _ in before]
        assert [one.canonical_json() for _, _, one in after] == [one.canonical_json() for _, _, one in before]


@pytest.mark.parametrize("name", ["sweep.toml", "sweep.json"])
def test_a_saved_sweep_is_read_back(tmp_path, name):
    sweep = Sweep(BASE, {"policy.attempt_timeout": [None, 0.1 + 0.2]}, replicates=2)
    path = sweep.save(tmp_path / name)
    assert Sweep.load(path) == Sweep.load(str(path)) == sweep
    sweep.replace(replicates=1).save(path)
    assert Sweep.load(path).replicates == 1


def test_a_file_reads_as_a_person_would_write_it(tmp_path):
    (tmp_path / "sweep.toml").write_text(AS_A_PERSON_WRITES_IT)
    sweep = Sweep.load(tmp_path / "sweep.toml")
    assert len(sweep) == 2 * 2 * 3 * 2 * 3 * 2
    assert sweep.base.backend == MockBackend(overload_probability=0.05)
    assert sweep.grid["policy.attempt_timeout"] == (None, 10)
    assert Sweep(**json.loads(sweep.to_json())) == sweep


def test_the_written_toml_is_as_short_as_one_would_write_it():
    sweep = Sweep(BASE, {"policy.retry.max_retries": [0, 2]})
    assert sweep.to_toml() == (
        '[base.workload]\nkind = "closed"\ncalls = 10\nusers = 2\n\n[grid]\n"policy.retry.max_retries" = [0, 2]\n'
    )


def wrong(tmp_path, text, name="s.toml"):
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(SettingsError) as caught:
        Sweep.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[gird]\n", "Sweep has no setting 'gird'; did you mean 'grid'?"),
        ("[grid]\n", "grid is empty; name a setting with its values"),
        ("[grid]\npolicy.retry.max_retrie=[1]", "RetryPolicy has no setting 'max_retrie'; did you mean 'max_retries'?"),
        ('[grid]\npolicy.attempt_timeout=["none"]', "'policy.attempt_timeout' cannot be 'none'"),
        ("[grid]\nseed=[]", "grid.seed: has no values"),
        ("[grid]\nseed=3", "grid.seed must be a list of values"),
        ("[base.policy]\nretry=3", "retry must be"),
        ("[base.policy]\nattempt_timeout=-1", "attempt_timeout must be more than 0, got -1"),
        ("[base.policy]\nattempt_timeout=nan", "attempt_timeout must be a finite number"),
        ('[base]\nbackend={kind="mypackage.Mine"}', "one of your own is given in Python, as an object"),
        ('[base]\nbackend="mypackage.Mine"', "needs a method"),
        ('[base]\npolicy="mypackage.policy"', "policy must be"),
        ("[base]\nseed=1979-05-27", "base.seed is a date, which no setting takes"),
        ("a = = 1", "is no TOML: "),
        ("a = 1\na = 2", "is no TOML: "),
        ("a=" + "[" * 50 + "]" * 50, "is nested too deeply"),
        ("a=" + "[" * 100_000, "is nested too deeply"),
        ("seed=" + "9" * 5000, "is no TOML: "),
        (b"a='\xff'", "must be in UTF-8; the byte at 3 is none"),
        ("", ""),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_file_and_key(tmp_path, text, message):
    if not text:
        (tmp_path / "s.toml").write_text("")
        assert Sweep.load(tmp_path / "s.toml") == Sweep()
        return
    assert message in wrong(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"grid": {"seed": [1], "seed": [2]}}', "the key 'seed' stands twice in one object"),
        ('{"base": {"seed": NaN}}', "NaN is no number of JSON"),
        ("[1]", "must hold a table at its top, got a list"),
        ("{", "is no JSON: "),
        ("[" * 100_000, "is nested too deeply"),
        ('{"base": {"backend": {"kind": "mock", "text": 5}}}', "text must be a str or a function"),
    ],
)
def test_json_is_as_strict(tmp_path, text, message):
    assert message in wrong(tmp_path, text, "s.json")


def test_files_that_cannot_be_read_are_named(tmp_path, monkeypatch):
    for path, message in [
        (tmp_path / "missing.toml", "cannot be read: No such file or directory"),
        (tmp_path / "sweep.yaml", "the name must end in .toml or .json"),
    ]:
        with pytest.raises(SettingsError, match=message):
            Sweep.load(path)
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        Sweep.load(tmp_path / "folder.toml")
    monkeypatch.setattr(documents, "MAX_BYTES", 1024 * 1024)
    assert "is longer than 1 MiB" in wrong(tmp_path, "#" * (1024 * 1024 + 1))
    with pytest.raises(SettingsError, match=r"must end in \.toml or \.json"):
        Sweep(BASE).save(tmp_path / "sweep.yaml")
    assert {path.name for path in tmp_path.iterdir()} == {"folder.toml", "s.toml"}


class Own:
    async def attempt(self, request, *, timeouts, key): ...


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        (Sweep(Experiment(backend=WithFaults(Own()))), "'base.backend.backend' is of type Own"),
        (Sweep(BASE, {"backend": [Own(), MockBackend()]}), "'grid.backend.0' is of type Own"),
    ],
)
def test_what_no_file_can_hold_is_named_before_the_old_file_goes(tmp_path, sweep, message):
    path = tmp_path / "s.toml"
    path.write_text("old")
    with pytest.raises(SettingsError) as caught:
        sweep.save(path)
    assert message in str(caught.value)
    assert path.read_text() == "old"


def test_what_toml_has_no_form_for_is_saved_as_json(tmp_path):
    for metadata, message in [
        ({"a": {"none": True}}, "which is nothing in TOML"),
        ({"a": "\ud800"}, "UTF-8 cannot hold"),
    ]:
        workload = ClosedLoop(requests=[LLMRequest(prompt="x", metadata=metadata)])
        sweep = Sweep(Experiment(workload=workload))
        with pytest.raises(SettingsError, match=message):
            sweep.save(tmp_path / "s.toml")
        assert Sweep.load(sweep.save(tmp_path / "s.json")) == sweep
