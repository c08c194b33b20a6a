"""`python -m tests.benchmarks.sweeps`: speed-up by processes, cost of the store, dask, memory of a large sweep."""

from __future__ import annotations

import argparse
import os
import platform
import resource

from tests.benchmarks.sweeps.workload import Measured, measured


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.sweeps", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each variant, in turns; the fastest counts")
    parser.add_argument("--points", type=int, default=200, help="points of 2,000 calls (default: %(default)s)")
    parser.add_argument("--large", type=int, default=10_000, help="points of 100 calls (default: %(default)s)")
    return parser.parse_args()


def print_speeds(points: int, rounds: int) -> None:
    """Print how long a sweep takes with one process, with two, and with two and a store."""
    variants = {
        "one process": {"workers": 1},
        "two processes": {"workers": 2},
        "two processes and a store": {"workers": 2, "stored": True},
    }
    best: dict[str, Measured] = {}
    for _ in range(rounds):
        for name, how in variants.items():
            one = measured(points, 2_000, **how)
            best[name] = min(one, best.get(name, one), key=lambda run: run.total_s)
    alone = best["one process"].total_s
    print(f"{points} points of 2,000 calls\n")
    print("| | seconds | until the first run | times one process |\n| --- | --- | --- | --- |")
    for name, one in best.items():
        print(f"| {name} | {one.total_s:.2f} | {one.start_s:.2f} | {alone / one.total_s:.2f} |", flush=True)


def print_dask(points: int, rounds: int) -> None:
    """Print the throughput on a dask cluster of two workers beside that of two processes, start-up left out."""
    from distributed import Client, LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        executor = client.get_executor()
        measured(20, 2_000, executor=executor, workers=2)  # workers import what they need
        turns = [
            (measured(points, 2_000, workers=2), measured(points, 2_000, executor=executor, workers=2))
            for _ in range(rounds)
        ]
    pool = max((one.runs - 1) / one.rest_s for one, _ in turns)
    dask = max((one.runs - 1) / one.rest_s for _, one in turns)
    print(
        f"\nruns per second after the first: two processes {pool:.1f}, dask {dask:.1f} ({dask / pool:.0%})", flush=True
    )


def print_memory(points: int) -> None:
    """Print the start-up and the parent's memory of a large sweep into a store."""
    one = measured(points, 100, stored=True, workers=2)
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"\n{points:,} points of 100 calls into a store: first run after {one.start_s:.2f} s, all after "
        f"{one.total_s:.1f} s, parent at most {megabytes:.0f} MB",
        flush=True,
    )


def main() -> None:
    """Measure and print everything."""
    chosen = _parsed()
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} cores, load {load}\n")
    print_memory(chosen.large)  # first, for what the others take would count as well
    print_speeds(chosen.points, chosen.rounds)
    print_dask(2 * chosen.points, max(1, chosen.rounds - 1))


if __name__ == "__main__":
    main()
