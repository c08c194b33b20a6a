"""`python -m tests.benchmarks.store`: what it costs to keep a sweep's events, and how fast they are read back.

Times are CPU seconds of this process, since machines are shared; a query's seconds on the clock stand beside them, as
DuckDB uses all cores. Shares are measured side by side: the same runs with a store and without, in turns.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from llmlab import ClientPolicy, ClosedLoop, Experiment, MockBackend, RetryPolicy, Sweep, SweepResult
from llmlab.experiments.runs import Run
from llmlab.experiments.store import RunBatch, Store, run_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llmlab.experiments.runs import RunLog
    from llmlab.experiments.store import Keep

POLICY = ClientPolicy(retry=RetryPolicy(max_retries=3), total_timeout=None)
QUERY = """
    select retries, avg((not answered)::int) as failure_rate, quantile_cont(latency_s, 0.95) as p95
    from attempts group by retries order by retries"""


def experiment(calls: int, seed: int) -> Experiment:
    """Return a run of about 1.25 attempts a call."""
    backend = MockBackend(timeout_probability=0.05, overload_probability=0.15)
    return Experiment(backend=backend, policy=POLICY, workload=ClosedLoop(calls=calls, users=32), seed=seed)


def megabytes(path: Path, table: str = "") -> float:
    """Return the size of a store's files of a table, or of all of it."""
    return sum(file.stat().st_size for file in path.rglob(f"{table}*") if file.is_file()) / 1e6


def million() -> list[tuple[str, RunLog]]:
    """Return runs with a million attempts together."""
    made: list[tuple[str, RunLog]] = []
    attempts = 0
    while attempts < 1_000_000:
        one = experiment(40_000, seed=len(made))
        made.append((run_key(one), one.record()))
        attempts += len(made[-1][1].log)
    return made


def print_writing(runs: list[tuple[str, RunLog]], directory: Path) -> None:
    """Print the size on disk and the cost of writing, for each storage mode."""
    attempts = sum(len(run.log) for _, run in runs)
    print(f"| {attempts:,} attempts in {len(runs)} runs | MB | MB of attempts | CPU s | us per attempt |")
    print("| --- | --- | --- | --- | --- |")
    keeps: tuple[Keep, ...] = ("events", "calls", "summary")
    for keep in keeps:
        store = Store(directory / keep)
        began = time.process_time()
        for start in range(0, len(runs), 3):
            store.write(RunBatch.of(runs[start : start + 3], keep))
        cpu = time.process_time() - began
        sizes = f"{megabytes(store.path):.1f} | {megabytes(store.path, 'attempts'):.1f}"
        print(f"| keep='{keep}' | {sizes} | {cpu:.2f} | {1e6 * cpu / attempts:.2f} |", flush=True)


def print_reading(runs: list[tuple[str, RunLog]], path: Path, copies: int) -> None:
    """Print what a query over so many copies of the runs takes."""
    store = Store(path)
    attempts = copies * sum(len(log.log) for _, log in runs)
    planned = []
    for copy in range(copies):
        keys = [f"{copy:04x}{key[4:]}" for key, _ in runs]
        for start in range(0, len(runs), 3):
            part = zip(keys[start : start + 3], runs[start : start + 3], strict=True)
            store.write(RunBatch.of([(key, log) for key, (_, log) in part]))
        planned += [Run({"retries": copy % 4}, 0, place, None, key) for place, key in enumerate(keys)]
    store.begin(["retries"], planned)
    print("\n| | attempts | s | CPU s |\n| --- | --- | --- | --- |")
    for what, ask in _questions(path):
        best = min((_timed(ask) for _ in range(3)), key=lambda times: times[0])
        print(
            f"| {what} | {attempts:,} | {best[0]:.2f} | {best[1]:.2f} |",
            flush=True,
        )


def _questions(path: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    yield "load, and failure rate and p95 by group, in SQL", lambda: SweepResult.load(path).sql(QUERY)
    yield (
        "one column of a tenth of the runs, in Arrow",
        lambda: SweepResult.load(path).to_arrow(columns=["ended_at_s"], where={"seed": [0, 1, 2]}),
    )
    yield "what is finished, every file compared with its digest", lambda: Store(path).finished()


def _timed(ask: Callable[[], object]) -> tuple[float, float]:
    began = time.perf_counter(), time.process_time()
    ask()
    return time.perf_counter() - began[0], time.process_time() - began[1]


def print_overhead(directory: Path, rounds: int) -> None:
    """Print the share that storing adds to a sweep, keys and manifest included."""
    print("\n| sweep | CPU s without | with a store | share |\n| --- | --- | --- | --- |")
    for points, calls in ((200, 2_000), (2_000, 100)):
        plain, stored = [], []
        for number in range(rounds):
            plain.append(_swept(points, calls, None))
            stored.append(_swept(points, calls, directory / f"{points}-{number}"))
        best = min(plain), min(stored)
        print(f"| {points:,} points of {calls:,} calls | {best[0]:.2f} | {best[1]:.2f} | {best[1] / best[0] - 1:.1%} |")


def _swept(points: int, calls: int, path: Path | None) -> float:
    sweep = Sweep(experiment(calls, 0), {"seed": range(points)})
    began = time.process_time()
    result = sweep.run(store=path, workers=1, progress=False)
    cpu = time.process_time() - began
    assert len(result.runs) == points
    return cpu


def main() -> None:
    """Measure and print everything."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.store", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of each sweep, of which the fastest counts")
    parser.add_argument("--copies", type=int, default=10, help="of the million attempts that are queried")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print_overhead(Path(folder), chosen.rounds)
        runs = million()
        print()
        print_writing(runs, Path(folder))
        print_reading(runs, Path(folder) / "large", chosen.copies)


if __name__ == "__main__":
    main()
