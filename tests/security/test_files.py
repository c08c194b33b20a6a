"""Nothing in a file is executed: not what names code, not what other formats would call, not a store from elsewhere."""

import json
import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from llmlab import Experiment, ReplayBackend, SettingsError, Sweep, SweepResult, calibrate, prompts
from llmlab.cli import app
from llmlab.conduct.recording_file import read_recording
from llmlab.experiments.store import Store, StoreWarning
from llmlab.experiments.store.files import checked_line, checked_lines, digest_of
from llmlab.observers import read_json_lines
from llmlab.widgets import SweepDashboard

CODE = [
    "os.system",
    "os:system",
    "builtins.eval",
    "__import__('os').system('touch executed')",
    "lambda: open('executed', 'w')",
    "!!python/object/apply:os.system ['touch executed']",
    "${jndi:ldap://127.0.0.1/a}",
    "{{ 7 * 7 }}",
    "tests.security.executed",
    "file:///etc/passwd",
    "$(touch executed)",
    "`touch executed`; touch executed",
]
PLACES = [
    lambda code: {"backend": {"kind": code}},
    lambda code: {"backend": code},
    lambda code: {"backend": {"kind": "mock", "__class__": code}},
    lambda code: {"backend": {"kind": "mock", "latency": {"kind": code}}},
    lambda code: {"backend": {"kind": "mock", "latency": code}},
    lambda code: {"backend": {"kind": "mock", "text": {"__call__": code}}},
    lambda code: {"backend": {"kind": "mock", "script": [{"kind": code}]}},
    lambda code: {"policy": {"retry": {"kind": code}}},
    lambda code: {"policy": {"__reduce__": [code]}},
    lambda code: {"workload": {"kind": code}},
    lambda code: {"workload": {"kind": "open", "arrivals": {"kind": code}}},
    lambda code: {"workload": {"requests": [{"prompt": "a", "response_format": code}]}},
    lambda code: {code: 1},
    lambda code: {"seed": code},
]


@pytest.fixture(autouse=True)
def nothing_is_left_behind(tmp_path, monkeypatch):
    """Fail where the code of a file was run: it would leave a file in the working directory."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("place", PLACES)
def test_a_table_that_names_code_is_refused_and_runs_nothing(place):
    for code in CODE:
        with pytest.raises(SettingsError):
            Experiment(**place(code))


@pytest.mark.parametrize("ending", ["json", "toml"])
def test_a_file_that_names_code_is_refused_by_all_who_read_it(ending, tmp_path):
    path = tmp_path / f"sweep.{ending}"
    table = '[base.backend]\nkind = "os.system"\n'
    path.write_text(table if ending == "toml" else '{"base": {"backend": {"kind": "os.system"}}}')
    with pytest.raises(SettingsError, match="is not a kind of backend"):
        Sweep.load(path)
    told = CliRunner().invoke(app, ["sweep", str(path)])
    assert told.exit_code == 2
    assert "is not a kind of backend" in told.output
    with pytest.raises(SettingsError, match="is not a kind of backend"):
        SweepDashboard().load(path)


def test_a_text_that_looks_like_code_stays_a_text(tmp_path):
    for code in CODE:
        backend = {"kind": "mock", "text": code, "model": code, "name": code}
        requests = [{"prompt": code, "metadata": {"a": code}}]
        base = Experiment(backend=backend, workload={"kind": "closed", "calls": 2, "requests": requests})
        for ending in ("json", "toml"):
            path = Sweep(base).save(tmp_path / f"sweep.{ending}")
            loaded = Sweep.load(path)
            assert (loaded.base.backend.text, loaded.base.workload.requests[0].prompt) == (code, code)
        loaded.run(progress=False)


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def test_a_pickle_is_nowhere_opened(tmp_path):
    bomb = pickle.dumps(Bomb())
    for ending in ("json", "toml", "jsonl", "csv", "parquet"):
        (tmp_path / f"bomb.{ending}").write_bytes(bomb)
    readers = [
        lambda: Sweep.load(tmp_path / "bomb.json"),
        lambda: Sweep.load(tmp_path / "bomb.toml"),
        lambda: read_recording(tmp_path / "bomb.jsonl"),
        lambda: ReplayBackend(tmp_path / "bomb.jsonl"),
        lambda: calibrate(tmp_path / "bomb.jsonl"),
        lambda: prompts(tmp_path / "bomb.csv"),
        lambda: prompts(tmp_path / "bomb.jsonl"),
        lambda: SweepResult.load(tmp_path),
    ]
    for read in readers:
        with pytest.raises(ValueError):
            read()
    assert list(read_json_lines(tmp_path / "bomb.jsonl")) == [], "lines that are no JSON were torn by a crash"
    pickle.loads(bomb)
    assert (tmp_path / "executed").exists(), "it does go off where it is opened"
    (tmp_path / "executed").unlink()


def test_a_store_from_elsewhere_is_read_as_data_and_leads_out_of_its_folder_nowhere(tmp_path):
    store = tmp_path / "store"
    Sweep(Experiment(workload={"kind": "closed", "calls": 3})).run(store=store, progress=False)
    secret = tmp_path / "secret.parquet"
    pq.write_table(pa.table({"run": [1], "text": ["secret"]}), secret)
    (manifest,) = (store / "manifests").iterdir()
    ((_, value),) = checked_lines(manifest.read_bytes())
    for way in ("../../secret.parquet", str(secret), "calls-../../secret.parquet"):
        files = {"calls": [way, secret.stat().st_size, "0" * 32]}
        manifest.write_bytes(checked_line({**value, "files": files}))
        assert len(SweepResult.load(store).runs) == 0
        with pytest.warns(StoreWarning, match="is damaged"):
            assert Store(store).finished() == set()
        assert secret.exists()


def test_parquet_metadata_that_names_code_runs_nothing(tmp_path):
    store = tmp_path / "store"
    Sweep(Experiment(workload={"kind": "closed", "calls": 3})).run(store=store, progress=False)
    (calls,) = (store / "data").glob("calls-*")
    table = pq.read_table(calls)
    pandas = json.dumps({"columns": [{"name": "run", "numpy_type": "os.system", "pandas_type": CODE[3]}]})
    pq.write_table(table.replace_schema_metadata({"pandas": pandas, "ARROW:extension:name": CODE[3]}), calls)
    digest, size = digest_of(calls), calls.stat().st_size
    (manifest,) = (store / "manifests").iterdir()
    ((_, value),) = checked_lines(manifest.read_bytes())
    files = {**value["files"], "calls": [calls.name, size, digest]}
    manifest.write_bytes(checked_line({**value, "files": files}))
    result = SweepResult.load(store)
    assert len(result.calls) == len(result.sql("select * from calls")) == 3
