"""`python -m tests.benchmarks.virtual_time`: the tables of the guide's page on speed."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import platform
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.benchmarks.virtual_time import workload as w
from tests.benchmarks.virtual_time.overhead import overheads
from tests.benchmarks.virtual_time.processes import Measured, Process, best_of, installed
from tests.benchmarks.virtual_time.variants import VARIANTS

if TYPE_CHECKING:
    from collections.abc import Iterable


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.virtual_time", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="runs of each variant, of which the fastest counts")
    parser.add_argument("--calls", type=int, default=w.CALLS, help="calls in a run (default: %(default)s)")
    parser.add_argument(
        "--large", action="store_true", help="also 1,000,000 calls, and the memory of that many attempts"
    )
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="these variants alone")
    return parser.parse_args()


def compare(names: Iterable[str], calls: int, rounds: int) -> dict[str, Measured]:
    """Run the variants in turns and return each one's fastest run."""
    best: dict[str, Measured] = {}
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(Process(name)) for name in names]
        for _ in range(rounds):
            for process in processes:
                one = process.run(calls, w.USERS)
                best[process.name] = min(one, best.get(process.name, one), key=lambda run: run.cpu_s)
    return best


def disagreements(measured: dict[str, Measured]) -> list[str]:
    """Say which variants of W did not do the same work as the bare simulation, beyond sampling error.

    Attempts per call have a standard deviation of at most 1.2, a call's failure one of sqrt(p): five of the
    difference's standard errors are allowed.
    """
    reference = measured["bare"]
    found = []
    for name, one in measured.items():
        if not VARIANTS[name].is_w:
            continue
        error = math.sqrt(1 / one.calls + 1 / reference.calls)
        shares = (reference.failed_calls / reference.calls, one.failed_calls / one.calls)
        if abs(one.attempts / one.calls - reference.attempts / reference.calls) > 5 * 1.2 * error:
            found.append(f"{name}: {one.attempts / one.calls:.3f} attempts a call")
        if abs(shares[0] - shares[1]) > 5 * math.sqrt(max(*shares, 1 / one.calls)) * error:
            found.append(f"{name}: {shares[1]:.4f} of the calls failed, {shares[0]:.4f} in the bare simulation")
    return found


def print_comparison(names: list[str], calls: int, rounds: int) -> None:
    """Print CPU time per attempt, and its ratios to the bare simulation and to llmlab."""
    here = [name for name in dict.fromkeys(["bare", "llmlab", *names]) if installed(name)]
    measured = compare(here, calls, rounds)
    reference, ours = measured["bare"].us_per_attempt, measured["llmlab"].us_per_attempt
    print("| | us per attempt | attempts per CPU second | times the bare heap | times llmlab |")
    print("| --- | --- | --- | --- | --- |")
    for name, one in sorted(measured.items(), key=lambda item: item[1].us_per_attempt):
        us = one.us_per_attempt
        print(f"| {VARIANTS[name].what} | {us:.1f} | {1e6 / us:,.0f} | {us / reference:.1f} | {us / ours:.1f} |")
    for name in names:
        if not installed(name):
            print(f"| {VARIANTS[name].what} | (not installed) | | | |")
    print("\nThe models agree." if not (wrong := disagreements(measured)) else f"\nNOT THE SAME WORK: {wrong}")


def print_scaling(rounds: int, *, large: bool) -> None:
    """Print the cost per attempt over the number of calls and over the number of users."""
    print("\n| calls | us per attempt |\n| --- | --- |")
    for calls in (1_000, 10_000, 100_000, *([1_000_000] if large else [])):
        us = best_of("llmlab", calls, w.USERS, 1 if calls > 100_000 else rounds).us_per_attempt
        print(f"| {calls:,} | {us:.1f} |", flush=True)
    print("\n| users, all in flight | us per attempt |\n| --- | --- |")
    for users in (1, 10, 100, 1_000, 10_000):
        us = best_of("everybody", max(w.CALLS, 4 * users), users, rounds).us_per_attempt
        print(f"| {users:,} | {us:.1f} |", flush=True)


def print_memory() -> None:
    """Print what a million attempts take."""
    command = [sys.executable, "-m", "tests.benchmarks.virtual_time.memory", "656000"]
    attempts, megabytes = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    print(f"\n{int(attempts):,} attempts, frames included: {float(megabytes):.0f} MB above the imports")


def main() -> None:
    """Measure and print everything."""
    chosen = _parsed()
    print(f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}\n")
    print_comparison(chosen.only, chosen.calls, chosen.rounds)
    print_scaling(chosen.rounds, large=chosen.large)
    if chosen.large:
        print_memory()
    print("\nReal time, above awaiting the backend itself:\n\n| | us per call |\n| --- | --- |")
    for name, us in asyncio.run(overheads()).items():
        print(f"| {name} | {us:.1f} |")


if __name__ == "__main__":
    main()
