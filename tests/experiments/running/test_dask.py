"""A sweep on a dask cluster: separate processes on loopback, as a cluster of many machines would run it."""

import os
import signal

import pytest
from distributed import Client, LocalCluster

from llmlab import ClosedLoop, Experiment, MockBackend, Sweep, SweepResult

pytestmark = [
    pytest.mark.slow,
    # dask tells of its own worker's death in warnings of its own and of the event loop's
    pytest.mark.filterwarnings("ignore"),
]

SWEEP = Sweep(
    Experiment(backend=MockBackend(overload_probability=0.3), workload=ClosedLoop(calls=50, users=3)),
    {"policy.retry.max_retries": range(4), "workload.users": range(1, 6)},
)
HERE = SWEEP.run(workers=1, progress=False)


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster:
        yield cluster


def test_the_result_is_that_of_one_process_in_the_same_order(cluster):
    with Client(cluster) as client:
        result = SWEEP.run(executor=client.get_executor(), workers=2, progress=False)
    assert result.attempts.to_csv() == HERE.attempts.to_csv()


def test_a_killed_worker_costs_nothing_and_workers_write_into_the_store_themselves(cluster, tmp_path):
    victim, kept = next(iter(cluster.workers.values())).pid, []

    def kill_one(run):
        if not kept:
            os.kill(victim, signal.SIGKILL)
        kept.append(run)

    with Client(cluster) as client:
        executor = client.get_executor()
        result = SWEEP.run(executor=executor, workers=2, store=tmp_path, progress=False, on_point=kill_one)
    assert victim not in [worker.pid for worker in cluster.workers.values()]
    assert all(run.record is None for run in kept)
    assert not result.failures
    assert SweepResult.load(tmp_path).attempts.to_csv() == HERE.attempts.to_csv()
