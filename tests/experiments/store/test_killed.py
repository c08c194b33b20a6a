"""Whatever instant a process is killed at: the store goes on from there, with the rows of an undisturbed run."""

import json
import os
import random
import signal
import subprocess
import sys
from itertools import pairwise

import pytest

from llmlab.experiments.store import Store, run_key
from llmlab.experiments.store.files import append_line, checked_lines, write_whole
from tests.experiments.store.stores import experiments, rows

if not hasattr(os, "fork"):
    pytest.skip("kills processes as POSIX does", allow_module_level=True)

from tests.experiments.store.sweeper import FULL, RUNS

TABLES = ("attempts", "calls", "server")
KEYS = {run_key(one) for one in experiments(RUNS)}
KILLED = -signal.SIGKILL
SPREAD = 5
"""By how many bytes the same file may differ between two sweeps: it holds random names, and is compressed."""


@pytest.fixture(scope="module")
def swept():
    """Carry out sweeps, each in a process of its own, at the same time; return how they ended."""
    command = [sys.executable, "-m", "tests.experiments.store.sweeper"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as sweeper:

        def sweep(*orders):
            sweeper.stdin.write(json.dumps(orders) + "\n")
            sweeper.stdin.flush()
            return json.loads(sweeper.stdout.readline())

        yield sweep
        sweeper.stdin.close()


@pytest.fixture(scope="module")
def undisturbed(swept, tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed")
    assert swept({"path": str(path)}) == [0]
    return contents(path)


def contents(path):
    store = Store(path)
    assert store.finished() == KEYS  # and it warns of nothing, for warnings are errors here
    return {table: rows(store, table) for table in TABLES}


def test_killed_at_any_line_of_the_stores_code_it_resumes_and_ends_with_the_same_rows(swept, undisturbed, tmp_path):
    chance = random.Random(5)
    killed = 0
    for number in range(8):
        path = tmp_path / str(number)
        for _ in range(4):
            (ended,) = swept({"path": str(path), "line": int(2 ** chance.uniform(0, 10))})
            assert ended in {0, KILLED}
            killed += ended == KILLED
            if (path / "store.json").exists():
                assert Store(path).finished() <= KEYS
        assert swept({"path": str(path)}) == [0]
        assert contents(path) == undisturbed
    assert killed > 16


def test_killed_at_any_time_also_in_the_middle_of_a_write_it_resumes(swept, undisturbed, tmp_path):
    chance = random.Random(6)
    for number in range(3):
        path = tmp_path / str(number)
        for _ in range(8):
            swept({"path": str(path), "seconds": chance.uniform(0, 0.06)})
        assert swept({"path": str(path)}) == [0]
        assert contents(path) == undisturbed


def test_on_a_full_disk_it_says_so_and_goes_on_once_there_is_room(swept, undisturbed, tmp_path):
    sizes = sorted(path.stat().st_size for path in _one_batch(swept, tmp_path))
    between = [(small + large) // 2 for small, large in pairwise(sizes) if large - small > 2 * SPREAD]
    for number, room in enumerate([300, sizes[0] - SPREAD, *between, sizes[-1] + SPREAD]):
        path = tmp_path / str(number)
        Store(path)
        (ended,) = swept({"path": str(path), "bytes": room})
        found = {file.name: file.stat().st_size for file in path.rglob("*") if file.is_file()}
        assert ended == (FULL if room < sizes[-1] else 0), f"room for {room} bytes, whole files {sizes}, found {found}"
        assert not list(path.rglob("*.tmp"))
        assert swept({"path": str(path)}) == [0]
        assert contents(path) == undisturbed


def _one_batch(swept, tmp_path):
    path = tmp_path / "whole"
    assert swept({"path": str(path)}) == [0]
    return (path / "data").iterdir()


def test_two_processes_on_one_store_do_not_harm_each_other(swept, undisturbed, tmp_path):
    path = str(tmp_path / "shared")
    assert swept({"path": path}, {"path": path}, {"path": path}) == [0, 0, 0]
    assert contents(path) == undisturbed


def test_one_of_two_processes_on_a_store_may_be_killed(swept, undisturbed, tmp_path):
    chance = random.Random(7)
    for number in range(4):
        path = str(tmp_path / str(number))
        line = int(2 ** chance.uniform(3, 9))
        assert swept({"path": path, "line": line}, {"path": path})[1] == 0
        assert contents(path) == undisturbed


class FullDisk:
    """Fails the so-many-th time that something is forced to the disk."""

    def __init__(self, monkeypatch, at):
        self.left = at
        monkeypatch.setattr(os, "fsync", self.fsync)

    def fsync(self, _descriptor):
        self.left -= 1
        if self.left == 0:
            raise OSError(28, "No space left on device")


def test_a_line_that_could_not_be_written_leaves_nothing_behind(tmp_path, monkeypatch):
    path = tmp_path / "lines"
    append_line(path, {"a": 1})
    before = path.read_bytes()
    FullDisk(monkeypatch, at=1)
    with pytest.raises(OSError, match="No space left"):
        append_line(path, {"a": 2})
    assert path.read_bytes() == before
    append_line(path, {"a": 3})
    assert list(checked_lines(path.read_bytes())) == [(1, {"a": 1}), (2, {"a": 3})]


def test_a_file_that_could_not_be_written_leaves_the_old_one_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_whole(path, b"old")
    FullDisk(monkeypatch, at=1)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"new")
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("file", b"old")]
