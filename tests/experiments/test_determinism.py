"""The same experiment gives the same events: again, in another process, on another Python, and as committed."""

import json
import os
import platform
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab import (
    Backoff,
    ClientPolicy,
    ClosedLoop,
    Experiment,
    Exponential,
    Faults,
    Lognormal,
    MockBackend,
    OpenLoop,
    RateLimit,
    RetryPolicy,
    Uniform,
)
from llmlab.experiments.store import SIMULATION_VERSION
from tests.experiments.golden import COMMITTED, NEEDS_LIBM, VERSION, digest, digests, refusal

_THE_COMMITTED_LIBM = sys.platform == "linux" and platform.machine() == "x86_64"


def _is_exact_here(name):
    return _THE_COMMITTED_LIBM or not name.startswith(NEEDS_LIBM)


def _committed():
    events = {name: one for name, one in json.loads(COMMITTED.read_text()).items() if name != VERSION}
    return {name: one for name, one in events.items() if _is_exact_here(name)}


def test_stored_results_are_told_apart_by_the_version_of_the_committed_events():
    assert json.loads(COMMITTED.read_text())[VERSION] == SIMULATION_VERSION
    assert refusal({VERSION: 1, "a": "x"}, {VERSION: 1, "a": "x", "b": "y"}) == ""
    assert "raise SIMULATION_VERSION, now 1" in refusal({VERSION: 1, "a": "x"}, {VERSION: 1, "a": "y"})
    assert refusal({VERSION: 1, "a": "x"}, {VERSION: 2, "a": "y"}) == ""


def test_events_are_the_committed_ones():
    assert digests(_is_exact_here) == _committed()


# Hashes are random in the process that runs the tests, and there the events are compared with the same committed ones.
@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_another_process_with_other_hashes_gives_the_same_events(hash_seed):
    command = [sys.executable, "-m", "tests.experiments.golden"]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert _committed().items() <= json.loads(done.stdout).items()


_seconds = st.floats(0.01, 5.0)
_latencies = st.one_of(
    st.builds(Uniform, low=st.just(0.0), high=_seconds),
    st.builds(Exponential, mean=_seconds),
    st.builds(Lognormal, median=_seconds, sigma=st.floats(0.0, 1.5)),
    _seconds,
)
_probability = st.floats(0.0, 0.15)
_faults = st.builds(
    Faults,
    timeout=_probability,
    rate_limit=_probability,
    overload=_probability,
    malformed=_probability,
    cut=_probability,
    retry_after=st.none() | _seconds,
)
_policies = st.builds(
    ClientPolicy,
    retry=st.builds(
        RetryPolicy,
        max_retries=st.integers(0, 4),
        backoff=st.builds(Backoff, base=_seconds, jitter=st.sampled_from(["full", "equal", "decorrelated", "none"])),
    ),
    attempt_timeout=_seconds,
    total_timeout=st.floats(0.5, 30.0),
    max_concurrency=st.none() | st.integers(1, 5),
    max_queue_wait=st.none() | _seconds,
    rate_limit=st.none() | st.builds(RateLimit, requests=st.floats(1.0, 20.0), per=st.just(1.0)),
)
_workloads = st.one_of(
    st.builds(ClosedLoop, calls=st.integers(1, 40), users=st.integers(1, 10)),
    st.builds(OpenLoop, calls=st.integers(1, 40), rate=st.floats(0.5, 50.0)),
)
_experiments = st.builds(
    Experiment,
    backend=st.builds(MockBackend, latency=_latencies, faults=_faults),
    policy=_policies,
    workload=_workloads,
    seed=st.integers(0, 2**40),
)


@given(_experiments)
@settings(deadline=None, max_examples=60)
def test_an_experiment_run_twice_gives_the_same_events(experiment):
    assert digest(experiment.record().log) == digest(experiment.record().log)


@given(_latencies, st.integers(0, 5), st.none() | st.integers(1, 4), st.integers(0, 2**40))
@settings(deadline=None, max_examples=30)
def test_a_policy_does_not_change_the_latency_drawn_for_an_attempt(latency, max_retries, max_concurrency, seed):
    def drawn(policy: ClientPolicy) -> dict[tuple[int, int], float]:
        backend = MockBackend(latency=latency, server_error_probability=0.3)
        log = Experiment(backend=backend, policy=policy, workload=ClosedLoop(calls=30), seed=seed).record().log
        return {(a.call, a.attempt): a.time_to_first_token_s for a in log.attempts if a.reason is None}

    patient: dict[str, Any] = {"attempt_timeout": None, "total_timeout": None}
    plain = drawn(ClientPolicy(retry=RetryPolicy(max_retries=2), **patient))
    changed = drawn(
        ClientPolicy(retry=RetryPolicy(max_retries=max_retries), max_concurrency=max_concurrency, **patient)
    )
    both = plain.keys() & changed.keys()
    assert both
    assert all(plain[key] == changed[key] for key in both)
