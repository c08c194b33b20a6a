"""`python -m tests.benchmarks.storm_map`: the figures of the guide's page on speed."""

from __future__ import annotations

import argparse
import platform
import resource
import time

import pandas as pd

from llmlab import (
    Backoff,
    ClientPolicy,
    Constant,
    Experiment,
    MockBackend,
    OpenLoop,
    Outage,
    RetryPolicy,
    ServerModel,
    storm_map,
)

CAPACITY = 300.0
"""Requests per second that the server can serve."""
SECONDS = 300.0
LOADS, RETRIES = 20, 5
_CATCHING_UP = 0.9
"""Nearer to the line than this share of the capacity, the queue of the outage may not be gone when the run ends."""


def experiment(seconds: float) -> Experiment:
    """Return the system: one slot, first come first served, and a client that gives 1 s and retries at once."""
    start, length = seconds / 15, max(2.0, seconds / 30)  # no storm comes of an outage that clients can wait for
    server = ServerModel(
        service_time=Constant(value=1 / CAPACITY),
        outages=Outage(start=start, end=start + length),
        on_disconnect="work_on",
    )
    at_once = RetryPolicy(backoff=Backoff(base=0, jitter="none"))
    policy = ClientPolicy(retry=at_once, attempt_timeout=1.0, total_timeout=None)
    return Experiment(
        backend=MockBackend(server=server), policy=policy, workload=OpenLoop(rate=CAPACITY, duration=seconds)
    )


def run(*, loads: int, retries: int, seconds: float, processes: int) -> pd.DataFrame:
    """Run the map: evenly spaced loads up to the capacity, and retries from 0."""
    return storm_map(
        experiment(seconds),
        rates=[CAPACITY * (number + 1) / loads for number in range(loads)],
        retries=range(retries),
        window=seconds / 6,
        processes=processes,
    )


def disagreements(points: pd.DataFrame) -> list[str]:
    """Say which points contradict lambda (1 + r) = mu: a storm below the line, or a recovery beyond it."""
    most = points["workload.rate"] * (1 + points["policy.retry.max_retries"]) / points["capacity_per_s"]
    wrong = ((most < _CATCHING_UP) & ~points["recovered"]) | ((most > 1) & points["recovered"])
    rows = points[wrong][["workload.rate", "policy.retry.max_retries", "answered_share"]]
    return [f"load {rate:g}, {retries:g} retries: {share:.2f} answered" for rate, retries, share in rows.to_numpy()]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.storm_map", description=__doc__)
    parser.add_argument("--loads", type=int, default=LOADS, help="default: %(default)s")
    parser.add_argument(
        "--retries", type=int, default=RETRIES, help="numbers of retries, from 0 (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="simulated, of each point (default: %(default)s)"
    )
    parser.add_argument("--processes", type=int, default=2, help="default: %(default)s")
    chosen = parser.parse_args()
    began = time.perf_counter()
    points = run(**vars(chosen))
    wall = time.perf_counter() - began
    attempts, cpu = int(points["attempts"].sum()), float(points["cpu_s"].sum())
    largest = max(resource.getrusage(whose).ru_maxrss for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}\n")
    print(f"{len(points)} points, {attempts:,} attempts, {chosen.processes} processes")
    print(f"by the clock: {wall:.0f} s; processor: {cpu:.0f} s, {1e6 * cpu / attempts:.1f} us per attempt")
    print(f"alone on {chosen.processes} cores: about {cpu / chosen.processes:.0f} s")
    print(f"largest process: {largest / 1024:.0f} MB")
    wrong = disagreements(points)
    print("Every point agrees with lambda (1 + r) = mu." if not wrong else f"NOT AS THE LINE SAYS: {wrong}")


if __name__ == "__main__":
    main()
