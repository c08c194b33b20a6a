import json
import os
import pickle
import threading

import pyarrow as pa
import pytest

from llmlab import SettingsError
from llmlab.experiments.store import RunBatch, RunBuffer, Store, StoreWarning, run_key
from tests.experiments.store.stores import batch, experiments, rows

FOUR = experiments()
KEYS = {run_key(one) for one in FOUR}


@pytest.fixture(scope="module")
def four():
    return batch(FOUR)


@pytest.fixture
def store(tmp_path, four):
    """A store with a batch of three runs and one of one."""
    store = Store(tmp_path / "store")
    store.write(batch(FOUR[:3]))
    store.write(batch(FOUR[3:]))
    return store


def data(store, table="attempts"):
    return sorted((store.path / "data").glob(f"{table}-*.parquet"))


def test_what_is_written_is_found_and_read_back(store, four):
    again = Store(store.path)
    assert again.finished() == KEYS
    for name, table in four.tables.items():
        expected = [tuple(map(str, (four.keys[row.pop("run")], *row.values()))) for row in table.to_pylist()]
        assert rows(again, name) == sorted(expected)


def test_only_the_columns_and_rows_asked_for_are_read(store):
    found = store.read()
    one = next(iter(found.found))
    dataset = found.dataset("attempts", [one])
    assert len(dataset.files) == 1
    only = dataset.to_table(columns=["reason"], filter=pa.compute.field("run") == found.found[one].number)
    assert only.column_names == ["reason"]
    assert only.num_rows == 8


@pytest.mark.parametrize(
    ("keep", "wanted", "found"), [("calls", "calls", 4), ("calls", "events", 0), ("events", "calls", 4)]
)
def test_a_run_that_kept_less_than_is_wanted_is_not_finished(tmp_path, keep, wanted, found):
    store = Store(tmp_path)
    store.write(batch(FOUR, keep))
    assert len(store.finished(wanted)) == found


def test_of_a_run_that_was_kept_twice_the_richer_rows_are_read(tmp_path):
    store = Store(tmp_path)
    for keep in ("calls", "events", "calls"):
        store.write(batch(FOUR[:2], keep))
    assert {run.batch.keep for run in store.read().found.values()} == {"events"}
    assert len(rows(store, "calls")) == 2 * 8


def test_many_writers_do_not_meet(tmp_path, four):
    def write(one):
        Store(tmp_path / "store").write(batch([one]))

    threads = [threading.Thread(target=write, args=(one,)) for one in [*FOUR, *FOUR]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = Store(tmp_path / "store")
    assert store.finished() == KEYS
    assert len(rows(store)) == four.tables["attempts"].num_rows


def test_it_pickles_as_its_path_and_a_batch_as_its_rows(store, four, monkeypatch, tmp_path):
    monkeypatch.chdir(store.path.parent)
    there = pickle.dumps(Store("store"))
    monkeypatch.chdir(tmp_path.parent)
    assert pickle.loads(there).finished() == KEYS
    copy = pickle.loads(pickle.dumps(four))
    assert copy.keys == four.keys
    assert str(copy.tables["calls"].to_pylist()) == str(four.tables["calls"].to_pylist())


def test_a_process_that_was_forked_writes_files_of_its_own(store):
    if not hasattr(os, "fork"):
        pytest.skip("nothing forks here")
    before = set((store.path / "manifests").iterdir())
    store._writer.process = -1  # what a child sees
    store.write(batch(FOUR[:1]))
    assert len(set((store.path / "manifests").iterdir()) - before) == 1


def damage_content(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def replace_by_another(path):
    path.write_bytes(b"PAR1 not at all PAR1")


@pytest.mark.parametrize("harm", [damage_content, cut, replace_by_another])
def test_a_damaged_file_is_named_set_aside_and_its_runs_are_made_again(store, harm, four):
    whole = rows(store)
    victim, other = data(store)
    lost = {run_key(one) for one in FOUR[:3]} if victim.stat().st_size > other.stat().st_size else {run_key(FOUR[3])}
    harm(victim)
    again = Store(store.path)
    with pytest.warns(StoreWarning, match=f"{victim.name}.*moved to aside/.*will be made again"):
        assert again.finished() == KEYS - lost
    assert (store.path / "aside" / victim.name).exists()
    assert not victim.exists()
    again.write(batch(one for one in FOUR if run_key(one) in lost))
    assert Store(store.path).finished() == KEYS
    assert rows(again) == whole


def test_a_file_that_was_whole_is_not_read_again_and_one_that_changed_since_is(store):
    assert store.finished() == KEYS
    damage_content(data(store)[0])
    with pytest.warns(StoreWarning):
        assert len(store.finished()) < 4


def test_foreign_files_are_named_and_set_aside(store):
    for folder in ("data", "manifests"):
        (store.path / folder / "notes.txt").write_text("mine")
    with pytest.warns(StoreWarning, match=r"notes.txt.*notes.txt"):
        assert store.finished() == KEYS
    assert sorted(path.name for path in (store.path / "aside").iterdir()) == ["notes.txt", "notes.txt.2"]


def test_what_a_killed_writer_left_is_removed_after_a_day_and_not_before(store):
    unfinished = store.path / "data" / "attempts-0123456789abcdef-0.parquet.01234567.tmp"
    unnamed = store.path / "data" / "calls-0123456789abcdef-0.parquet"
    for path in (unfinished, unnamed):
        path.write_bytes(b"half")
    assert store.finished() == KEYS
    assert unfinished.exists()
    for path in (unfinished, unnamed):
        os.utime(path, (0, 0))
    assert store.finished() == KEYS
    assert not unfinished.exists()
    assert not unnamed.exists()


def manifest(store):
    return next((store.path / "manifests").iterdir())


def test_a_torn_last_line_is_as_if_it_had_never_been_begun(store):
    path = manifest(store)
    first, second, _ = path.read_bytes().split(b"\n")
    path.write_bytes(first + b"\n" + second[: len(second) // 2])
    assert store.finished() == {run_key(one) for one in FOUR[:3]}


@pytest.mark.parametrize(
    "change", [lambda line: line.replace(b"events", b"evants"), lambda line: b"{}", lambda line: b"\0\0"]
)
def test_a_damaged_line_is_named_and_costs_only_its_own_runs(store, change):
    path = manifest(store)
    first, rest = path.read_bytes().split(b"\n", 1)
    path.write_bytes(change(first) + b"\n" + rest)
    with pytest.warns(StoreWarning, match=f"{path.name}: line 1 is damaged"):
        assert store.finished() == {run_key(FOUR[3])}


@pytest.mark.parametrize("name", ["../../secret.parquet", "/etc/passwd", "attempts-0.parquet", 7])
def test_a_manifest_cannot_name_a_file_outside_the_store(store, name):
    from llmlab.experiments.store.files import checked_line

    path = manifest(store)
    line = json.loads(path.read_bytes().split(b"\n")[0])
    del line["check"]
    line["files"]["attempts"][0] = name
    path.write_bytes(checked_line(line))
    with pytest.warns(StoreWarning, match="line 1 is damaged"):
        assert store.finished() == set()


def test_a_directory_of_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(SettingsError, match="is not a store; give a directory that is new or empty"):
        Store(tmp_path)
    with pytest.raises(SettingsError, match="is not a store"):
        Store(tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("content", ["{}", "", '{"what": "a store of llmlab\'s", "format": 0}\n', "\0"])
def test_a_marker_that_is_not_llmlabs_is_refused(tmp_path, content):
    (tmp_path / "store.json").write_text(content)
    with pytest.raises(SettingsError, match="not that of a store"):
        Store(tmp_path)


def test_a_store_of_another_format_is_refused_with_what_to_do(tmp_path):
    from llmlab.experiments.store.files import checked_line

    (tmp_path / "store.json").write_bytes(checked_line({"what": "a store of llmlab's", "format": 0}))
    with pytest.raises(SettingsError, match="of format 0, and this version of llmlab has format 1; give another"):
        Store(tmp_path)


def test_a_store_that_another_process_has_only_begun_to_make_is_finished(tmp_path):
    (tmp_path / "store.json.0123abcd.tmp").write_text("")
    (tmp_path / "manifests").mkdir()
    assert Store(tmp_path).finished() == set()


def test_a_buffer_writes_many_runs_to_a_file_and_says_which(tmp_path):
    store = Store(tmp_path)
    buffer = RunBuffer(store)
    written = [key for one in FOUR for key in buffer.add(run_key(one), one.record())]
    written += buffer.flush()
    assert set(written) == KEYS
    assert buffer.flush() == ()
    assert store.finished() == KEYS
    assert len(data(store)) <= 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda store: RunBatch.of([]), "a batch needs at least one run"),
        (
            lambda store: RunBatch.of([("a", FOUR[0].record())], "everything"),
            r"keep must be one of \['events', 'calls', 'summary'\]",
        ),
        (lambda store: store.finished("all"), "keep must be one of"),
        (lambda store: Store(3), "a store is a directory, given by its path or as a Store; got a int"),
        (lambda store: Store(store.path / "data", create=False), "there is no store at '.*data'; give the directory"),
        (lambda store: store.write(RunBatch(("a",) * 70_000, (0.0,) * 70_000, "calls", {})), "65536 runs at most"),
    ],
)
def test_wrong_use_is_refused(tmp_path, wrong, message):
    with pytest.raises(SettingsError, match=message):
        wrong(Store(tmp_path))
