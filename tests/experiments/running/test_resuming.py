"""A sweep with a store goes on where it was ended, whatever ended it, and ends with the rows of an undisturbed one."""

import errno
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from llmlab import ClosedLoop, Experiment, MockBackend, SettingsError, Sweep, SweepResult
from llmlab.experiments.store.store import Store
from tests.experiments.running.backends import Scripted

BASE = Experiment(backend=MockBackend(overload_probability=0.3), workload=ClosedLoop(calls=20, users=3))
PATHS = {"policy.retry.max_retries": [0, 1, 2], "workload.users": [1, 3]}
SWEEP = Sweep(BASE, PATHS, replicates=2)


def rows(result):
    frames = [result.calls, result.attempts]
    return [frame.sort_values([*result.parameters, "replicate", "call"], kind="stable").to_csv() for frame in frames]


@pytest.fixture(scope="module")
def undisturbed():
    return rows(SWEEP.run(progress=False))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_sweep_that_was_stopped_half_way_goes_on_with_what_is_missing(workers, tmp_path, undisturbed):
    seen = []

    def stop_after_five(run):
        seen.append(run)
        if len(seen) == 5:
            raise KeyboardInterrupt

    first = SWEEP.run(store=tmp_path, workers=1, progress=False, on_point=stop_after_five)
    assert (first.interrupted, len(first.runs)) == (True, 5)
    assert len(SweepResult.load(tmp_path).runs) == 5
    seen.clear()
    second = SWEEP.run(store=tmp_path, workers=workers, progress=False, on_point=seen.append)
    assert (second.interrupted, len(second.runs), len(seen)) == (False, 12, 7)
    assert rows(second) == undisturbed
    assert rows(SweepResult.load(tmp_path)) == undisturbed


def test_a_larger_grid_computes_only_what_is_new_in_it(tmp_path):
    SWEEP.run(store=tmp_path, progress=False)
    seen = []
    larger = Sweep(BASE, {**PATHS, "workload.users": [1, 2, 3]}, replicates=3)
    result = larger.run(store=tmp_path, progress=False, on_point=seen.append)
    assert len(seen) == len(larger) - len(SWEEP)
    assert rows(result) == rows(larger.run(progress=False))


def test_what_failed_is_not_stored_and_is_tried_again(tmp_path):
    base = Experiment(backend=Scripted(), workload=ClosedLoop(calls=2))
    base.backend.fingerprint = "1"
    sweep = Sweep(base, {"backend.what": ["answer", "raise_"]})
    assert len(sweep.run(store=tmp_path, progress=False).failures) == 1
    seen = []
    again = sweep.run(store=tmp_path, progress=False, on_point=seen.append)
    assert [run.reason for run in seen] == ["ValueError: a bug of the user's"]
    assert (len(again.runs), len(again.failures)) == (1, 1)


def test_a_backend_that_nothing_tells_from_others_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(SettingsError, match="fingerprint"):
        Sweep(Experiment(backend=Scripted())).run(store=tmp_path)


class FullDisk(Store):
    """Takes two batches."""

    written = 0

    def write(self, batch):
        if self.written == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.written += 1
        super().write(batch)


def test_a_full_disk_ends_the_sweep_with_an_error_and_keeps_what_was_stored(tmp_path, monkeypatch, undisturbed):
    monkeypatch.setattr("llmlab.experiments.store.run_buffer._SECONDS_PER_FLUSH", 0.0)
    monkeypatch.setattr("llmlab.experiments.store.run_buffer._SHARE", 0.0)
    with pytest.raises(OSError, match="No space left"):
        SWEEP.run(store=FullDisk(tmp_path), workers=1, progress=False)
    assert len(SweepResult.load(tmp_path).runs) == 2
    assert rows(SWEEP.run(store=tmp_path, progress=False)) == undisturbed


@pytest.mark.skipif(os.name == "nt", reason="signals are a POSIX thing")
def test_a_sweep_in_processes_that_is_killed_goes_on(tmp_path, undisturbed):
    program = textwrap.dedent(
        f"""
        import os, signal
        from tests.experiments.running.test_resuming import SWEEP
        SWEEP.run(store={str(tmp_path)!r}, workers=2, progress=False, on_point=lambda run: os.kill(os.getpid(), 9))
        """
    )
    killed = subprocess.run([sys.executable, "-c", program], check=False)
    assert killed.returncode == -signal.SIGKILL
    stored = len(SweepResult.load(tmp_path).runs)
    assert 0 < stored < 12
    seen = []
    assert rows(SWEEP.run(store=tmp_path, progress=False, on_point=seen.append)) == undisturbed
    assert len(seen) <= 12 - stored
