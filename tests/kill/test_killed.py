"""Killed at any moment, nothing finished is lost, nothing half-written is read, and what goes on ends like undisturbed.

The moments are drawn from a fixed seed and counted in writes and lines of code, so that they are the same on every
machine. The store alone is killed in `tests/experiments/store/test_killed.py`.
"""

import json
import os
import random
import signal
import subprocess
import sys

import pytest

from llmlab import FaultServer, SettingsError, SweepResult
from llmlab.conduct.recording_file import read_recording
from llmlab.experiments.store import Store
from llmlab.observers import read_json_lines

if not hasattr(os, "fork"):
    pytest.skip("kills processes as POSIX does", allow_module_level=True)

from tests.kill.victims import SWEEP

KILLED = -signal.SIGKILL


@pytest.fixture(scope="module")
def victim():
    """Give an order to a process of its own; return how that ended."""
    command = [sys.executable, "-m", "tests.kill.victims"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:

        def order(work, path, **moment):
            program.stdin.write(json.dumps({"work": work, "path": str(path), **moment}) + "\n")
            program.stdin.flush()
            return int(program.stdout.readline())

        yield order
        program.stdin.close()


def moments(seed, count, writes):
    """Draw which write is cut, and which share of it is written: also none of it, or all."""
    chance = random.Random(seed)
    return [(chance.randint(1, writes), chance.choice([0.0, 1.0, chance.random()])) for _ in range(count)]


# An observer's file


@pytest.fixture(scope="module")
def events(victim, tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed") / "events.jsonl"
    assert victim("observe", path) == 0
    return list(map(repr, read_json_lines(path)))


@pytest.mark.parametrize(("write", "share"), moments(1, 12, 60))
def test_a_killed_observer_loses_no_event_that_has_happened_and_shows_no_half_of_one(
    victim, events, tmp_path, write, share
):
    path = tmp_path / "events.jsonl"
    assert victim("observe", path, write=write, share=share) == KILLED
    written = write if share == 1.0 else write - 1
    assert list(map(repr, read_json_lines(path))) == events[:written]
    assert victim("observe", path) == 0, "the next process goes on in the same file"
    assert list(map(repr, read_json_lines(path))) == [*events[:written], *events]


# The fault server's recording


@pytest.fixture(scope="module")
def recorded(victim, tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed") / "conduct.jsonl"
    assert victim("record", path) == 0
    return path.read_bytes().splitlines(keepends=True)


def kinds(lines):
    return [json.loads(line)["record"] for line in lines]


def asked(recording):
    """Return what does not depend on time: which requests, in which order, and what they met."""
    return [(one.call, one.attempt, one.fault, one.status, one.ended_by) for one in recording.requests]


@pytest.mark.parametrize(("write", "share"), moments(2, 10, 16))
def test_a_killed_recorder_keeps_every_request_that_had_ended_and_no_half_of_one(
    victim, recorded, tmp_path, write, share
):
    path, whole = tmp_path / "conduct.jsonl", tmp_path / "whole.jsonl"
    assert victim("record", path, write=write, share=share) == KILLED
    lines = path.read_bytes().splitlines(keepends=True)
    torn = bool(lines) and not lines[-1].endswith(b"\n")
    complete = len(lines) - torn
    assert complete == (write if share == 1.0 else write - 1)
    assert kinds(lines[:complete]) == kinds(recorded[:complete])
    if complete == 0:  # the header itself was cut
        with pytest.raises(SettingsError, match="is no recording"):
            read_recording(path)
        return
    recording = read_recording(path)
    whole.write_bytes(b"".join(recorded))
    assert asked(recording) == asked(read_recording(whole))[: len(recording.requests)]
    assert len(recording.requests) == kinds(lines[:complete]).count("request")
    assert bool(recording.notices) is torn
    assert recording.ended_at_s is None, "and it says that it was broken off"
    with pytest.raises(SettingsError, match="is not added to"), FaultServer(record=path):
        pass
    assert path.read_bytes().splitlines(keepends=True) == lines


# A sweep


def rows(path):
    """Return all that is known of a sweep, in an order of its own."""
    result = SweepResult.load(path)
    frames = (result.calls, result.attempts)
    return [frame.sort_values([*result.parameters, "replicate", "call"], kind="stable").to_csv() for frame in frames]


@pytest.fixture(scope="module")
def undisturbed(victim, tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed") / "store"
    assert victim("sweep", path) == 0
    assert len(SweepResult.load(path).runs) == len(SWEEP) == 8
    return rows(path)


@pytest.mark.parametrize("seed", range(6))
def test_a_sweep_killed_again_and_again_ends_with_the_rows_of_an_undisturbed_one(victim, undisturbed, tmp_path, seed):
    chance, path = random.Random(seed), tmp_path / "store"
    finished: set[str] = set()
    killed = 0
    for _ in range(4):
        ended = victim("sweep", path, line=int(2 ** chance.uniform(4, 13)))
        assert ended in {0, KILLED}
        killed += ended == KILLED
        if (path / "store.json").exists():
            stored = Store(path).finished()  # and it warns of nothing, for warnings are errors here
            assert finished <= stored
            finished = stored
    assert killed
    assert victim("sweep", path) == 0
    assert rows(path) == undisturbed
    assert finished <= Store(path).finished()
