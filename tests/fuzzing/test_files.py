"""Files from elsewhere: experiments, events, recordings, stores, prompts. Each is read or refused by its name."""

import contextlib
import json
import random
import warnings

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab import (
    ClosedLoop,
    Experiment,
    JsonLinesObserver,
    MockBackend,
    MockLLM,
    ReplayBackend,
    SettingsError,
    Sweep,
    SweepResult,
    calibrate,
    prompts,
)
from llmlab.conduct.recording_file import MAX_LINE_BYTES, read_outcomes, read_recording
from llmlab.experiments.documents import MAX_BYTES, read_document
from llmlab.experiments.store import Store
from llmlab.experiments.store.files import checked_line, checked_lines, digest_of
from llmlab.observers import read_json_lines
from tests.fuzzing.strategies import as_json, few, mutated, spoilt, values

BASE = Experiment(
    backend=MockBackend(timeout_probability=0.1, script=("timeout",)), workload=ClosedLoop(calls=3, requests=["a", "b"])
)
SWEEP = Sweep(BASE, {"policy.retry.max_retries": [0, 1], "backend.faults.timeout": [0.1, 0.2]}, replicates=2)


def read_or_refused(read, error=SettingsError):
    """Return what is read; `None` where it was refused in words."""
    try:
        return read()
    except error as refused:
        said = str(refused)
    assert said
    assert len(said) < 5000
    return None


# Experiments


@few
@given(mutated(SWEEP.to_dict()))
def test_a_sweep_with_a_part_replaced_is_a_sweep_or_refused(data):
    read_or_refused(lambda: Sweep(**{str(name): value for name, value in data.items()}))


@few
@given(mutated(BASE.to_dict()) | st.dictionaries(st.text(max_size=10), values, max_size=4))
def test_an_experiment_of_any_data_is_one_or_refused(data):
    experiment = read_or_refused(lambda: Experiment(**data))
    assert experiment is None or experiment.to_dict()


@few
@given(
    st.sampled_from([".toml", ".json"]),
    spoilt(SWEEP.to_toml().encode()) | spoilt(SWEEP.to_json().encode()) | st.binary(),
)
def test_a_file_of_any_bytes_is_a_sweep_or_refused_by_its_name(tmp_path, ending, content):
    path = tmp_path / f"sweep{ending}"
    path.write_bytes(content)
    said = str(path)
    try:
        Sweep.load(path)
    except SettingsError as error:
        said = str(error)
    assert said.startswith(str(path))


FILES = {
    "nested.json": b'{"base":' * 200_000 + b"1" + b"}" * 200_000,
    "nested list.json": b"[" * 200_000,
    "nested.toml": b"a = " + b"[" * 200_000 + b"]" * 200_000,
    "long key.toml": b"a" + b".a" * 200_000 + b" = 1",
    "long key in a table.toml": b"b = {c = 1, " + b'"a" . ' * 100_000 + b"a = 1}",
    "long header.toml": b"[[a" + b".'a'" * 200_000 + b"]]",
    "many keys, one twice.json": b"{" + b",".join(b'"k%d":1' % n for n in range(200_000)) + b',"z":1,"z":2}',
    "digits.json": b'{"seed":' + b"9" * 5000 + b"}",
    "digits.toml": b"seed = " + b"9" * 5000,
    "hexadecimal digits.toml": b"[base]\nseed = 0x" + b"f" * 100_000,
    "infinity.json": b'{"seed":1e999}',
    "infinity.toml": b"[base.policy]\ntotal_timeout = inf",
    "not a number.json": b'{"replicates":NaN}',
    "no text.json": b'{"\xff":1}',
    "nul.json": b'{"a\x00":1}',
    "nul.toml": b"a = \x00",
    "surrogate.json": b'{"base":{"backend":{"kind":"\\ud800"}}}',
    "mark.json": b'\xef\xbb\xbf{"replicates":0}',
    "utf-16.json": '{"replicates":0}'.encode("utf-16"),
    "empty.json": b"",
    "list.json": b"[]",
    "dates.toml": b"replicates = 9999-12-31T23:59:59.999999999-23:59",
    "impossible date.toml": b"replicates = 2026-02-30",
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", FILES)
def test_a_file_without_measure_or_sense_is_refused_by_its_name_and_at_once(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(FILES[name])
    with pytest.raises(SettingsError) as caught:
        Sweep.load(path)
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("ending", [".toml", ".json"])
def test_a_file_that_never_ends_is_read_as_far_as_its_limit(tmp_path, ending):
    path = tmp_path / f"endless{ending}"
    with path.open("wb") as file:
        file.truncate(100 * MAX_BYTES)  # a hole: nothing is written
    with pytest.raises(SettingsError, match="is longer than 16 MiB"):
        read_document(path)


# Events


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    path = tmp_path_factory.mktemp("events") / "events.jsonl"
    with JsonLinesObserver(path) as observer:
        MockLLM(overload_probability=0.3, observers=[observer]).generate_many(["Hello"] * 5)
    return path.read_bytes()


def read_events(path):
    """Read a file of events in every way that there is."""
    read_or_refused(lambda: list(read_json_lines(path)), ValueError)
    for read in (calibrate, ReplayBackend):
        read_or_refused(lambda read=read: read(path), ValueError)


@few
@given(data=st.data())
def test_any_file_of_events_is_read_or_refused(tmp_path, events, data):
    lines = events.splitlines(keepends=True)
    path = tmp_path / "events.jsonl"
    at = data.draw(st.integers(0, len(lines) - 1))
    instead = data.draw(st.one_of(spoilt(lines[at]), values.map(as_json), mutated(json.loads(lines[at])).map(as_json)))
    path.write_bytes(b"".join([*lines[:at], instead.rstrip(b"\n") + b"\n", *lines[at + 1 :]]))
    read_events(path)


LINES = {
    "a line without end": b'{"event":"' + b"x" * (MAX_LINE_BYTES + 10),
    "an event that cannot be looked up": b'{"event":["attempt"]}\n',
    "nesting": b"[" * 500_000 + b"\n",
    "digits": b'{"event":' + b"9" * 5000 + b"}\n",
    "no text": b"\xff\xfe\n",
    "a number": b"5\n",
    "nul": b"\x00\n",
}


@pytest.mark.parametrize("name", LINES)
def test_a_line_that_is_no_event_is_refused_or_was_torn(tmp_path, events, name):
    path = tmp_path / "events.jsonl"
    path.write_bytes(LINES[name])
    read_events(path)
    assert read_or_refused(lambda: list(read_json_lines(path)), ValueError) in ([], None)
    path.write_bytes(events + LINES[name])
    read_events(path)


WRONG = {"call": [1e999, 2**70, "1", None, True], "started_at_s": ["0", None, 10**400], "reason": ["odd", 5, []]}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, some in WRONG.items() for value in some])
def test_a_value_that_is_of_another_kind_is_named(tmp_path, events, field, value):
    first = next(line for line in events.splitlines() if b'"attempt"' in line)
    (tmp_path / "a").write_bytes(json.dumps({**json.loads(first), field: value}).encode() + b"\n")
    with pytest.raises(ValueError, match=f"line 1: no event of llmlab: {field} must be"):
        list(read_json_lines(tmp_path / "a"))


def test_names_without_number_are_refused(tmp_path, events):
    first = json.loads(events.splitlines()[0])
    with (tmp_path / "a").open("w") as file:
        file.writelines(json.dumps({**first, "layer": f"layer {n}"}) + "\n" for n in range(10_001))
    with pytest.raises(ValueError, match="names of layers and backends"):
        list(read_json_lines(tmp_path / "a"))


# Recordings and prompts

RECORDING = b"""{"record":"header","format":"llmlab-conduct","version":1,"seed":0,"weather":{},"started_at":5.0}
{"record":"connection_opened","connection":0,"at_s":0.1}
{"record":"request","request":0,"connection":0,"reused":false,"arrived_at_s":0.2,"call":0,"endpoint":"/api/generate"}
{"record":"end","at_s":0.5}
"""


@few
@given(spoilt(RECORDING) | st.binary(max_size=200))
def test_any_recording_is_read_or_refused(tmp_path, content):
    path = tmp_path / "conduct.jsonl"
    path.write_bytes(content)
    recording = read_or_refused(lambda: read_recording(path))
    if recording is not None:
        read_or_refused(lambda: read_outcomes(path, recording.header))


@few
@given(st.sampled_from([".csv", ".jsonl"]), spoilt(b'prompt,b\n"Hello, you",2\nagain,3\n{"prompt": "a", "seed": 5}\n'))
def test_any_file_of_prompts_is_read_or_refused(tmp_path, ending, content):
    path = tmp_path / f"prompts{ending}"
    path.write_bytes(content)
    read_or_refused(lambda: prompts(path))


# Stores

UNREADABLE = (SettingsError, OSError)


@pytest.fixture
def store(tmp_path):
    SWEEP.run(store=tmp_path / "store", progress=False)
    return tmp_path / "store"


def read_store(path):
    """Load a store and look at all of it; what is damaged is warned of or refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read_or_refused(lambda: Store(path).finished(), UNREADABLE)
    result = read_or_refused(lambda: SweepResult.load(path), UNREADABLE)
    if result is not None:
        for look in (lambda: result.calls, lambda: result.attempts, lambda: result.server, result.summary):
            read_or_refused(look, UNREADABLE)
        read_or_refused(lambda: result.sql("select count(*) from calls"), UNREADABLE)
    return result


@few
@given(data=st.data())
def test_a_store_whose_own_files_hold_anything_is_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("any") / "store"
    Sweep(BASE).run(store=path, progress=False)
    file = data.draw(st.sampled_from(sorted(one for one in path.rglob("*.json*"))))
    ((_, value),) = checked_lines(file.read_bytes())
    changed = data.draw(mutated(value) | values)
    with contextlib.suppress(ValueError, TypeError):
        line = checked_line(changed) if isinstance(changed, dict) else as_json(changed)
        file.write_bytes(data.draw(st.sampled_from([line, line[:-3], line * 2])))
    read_store(path)


def test_the_stores_own_files_nested_without_end_are_damaged(store):
    for file in sorted(store.rglob("*.json*")):
        good = file.read_bytes()
        for bad in (b"[" * 100_000 + b"\n", b'{"check":' + b"9" * 5000 + b"}\n", b"\xff\n", b"\x00" * 1000 + b"\n"):
            file.write_bytes(bad)
            read_store(store)
        file.write_bytes(good)
    assert len(read_store(store).runs) == 8


def written_anew(store, file, table):
    """Put another table in the place of a store's file, with all that vouches for it."""
    pq.write_table(table, file)
    (manifest,) = (store / "manifests").iterdir()
    ((_, value),) = checked_lines(manifest.read_bytes())
    name = file.name.partition("-")[0]
    files = {**value["files"], name: [file.name, file.stat().st_size, digest_of(file)]}
    manifest.write_bytes(checked_line({**value, "files": files}))


CHANGES = {
    "no rows": lambda table: table.slice(0, 0),
    "no columns": lambda table: table.select(["run"]),
    "texts for numbers": lambda table: table.set_column(1, table.column_names[1], pa.array(["x"] * len(table))),
    "another run": lambda table: table.set_column(0, "run", pa.array([5] * len(table), table.schema.field(0).type)),
    "nothing everywhere": lambda table: pa.table(
        {name: pa.nulls(len(table), table.schema.field(name).type) for name in table.column_names}
    ),
    "all is not a number": lambda table: table.set_column(
        table.column_names.index("started_at_s"), "started_at_s", pa.array([float("nan")] * len(table))
    ),
    "odd words": lambda table: table.set_column(
        table.column_names.index("layer"), "layer", pa.array(["\x00<b>"] * len(table))
    ),
    "lists for numbers": lambda table: table.set_column(1, table.column_names[1], pa.array([[1]] * len(table))),
    "a column twice": lambda table: table.append_column("layer", pa.array(["x"] * len(table))),
}


@pytest.mark.parametrize("change", CHANGES)
def test_parquet_of_another_shape_is_read_or_refused(store, change):
    for name in ("calls", "attempts"):
        (file,) = (store / "data").glob(f"{name}-*")
        good = pq.read_table(file)
        written_anew(store, file, CHANGES[change](good))
        read_store(store)
        written_anew(store, file, good)
    assert len(read_store(store).calls) == 24


def test_parquet_with_bytes_changed_is_read_or_refused(store):
    (file,) = (store / "data").glob("calls-*")
    good, chance = file.read_bytes(), random.Random(3)
    for _ in range(40):
        bad = bytearray(good)
        for _ in range(chance.randint(1, 3)):
            bad[chance.randrange(len(bad))] = chance.randrange(256)
        file.write_bytes(bad[: chance.choice([len(bad), len(bad), chance.randrange(len(bad))])])
        with contextlib.suppress(*UNREADABLE):
            _ = SweepResult.load(store).calls
