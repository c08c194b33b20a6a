"""`python -m tests.benchmarks.local_llm`: a call through LocalLLM beside bare httpx and the `ollama` client."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
from typing import TYPE_CHECKING

from tests.benchmarks.local_llm.measuring import costs, crowd, sync_costs
from tests.benchmarks.local_llm.serving import TOKENS, served

if TYPE_CHECKING:
    from tests.benchmarks.local_llm.measuring import Cost


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.local_llm", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="rounds, the candidates in turns (default: %(default)s)")
    parser.add_argument("--calls", type=int, default=64, help="calls of a round (default: %(default)s)")
    parser.add_argument("--crowd", type=int, default=1000, help="calls made at once (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=64, help="the client's limit for these (default: %(default)s)")
    return parser.parse_args()


def _print_costs(title: str, found: dict[str, Cost]) -> None:
    print(f"\n{title}\n\n| | us per call | CPU us per call | times bare httpx | CPU times bare httpx |")
    print("| --- | --- | --- | --- | --- |")
    for name, cost in found.items():
        print(f"| {name} | {cost.us:.0f} | {cost.cpu_us:.0f} | {cost.times_bare:.2f} | {cost.cpu_times_bare:.2f} |")


def main() -> None:
    """Measure and print everything."""
    chosen = _parsed()
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} cores, load {load}")
    print(f"answers of {TOKENS} tokens from the fault server in a process of its own; CPU is the client's")
    with served() as url:
        for concurrency in (1, 16):
            found = asyncio.run(costs(url, concurrency, chosen.rounds, chosen.calls))
            _print_costs(f"async, {concurrency} at once", found)
        _print_costs("sync, one after another", sync_costs(url, chosen.rounds, chosen.calls))
        came = asyncio.run(crowd(url, chosen.crowd, chosen.limit))
    outcomes = ", ".join(f"{number} {reason}" for reason, number in came.outcomes.most_common())
    print(f"\n{chosen.crowd:,} calls at once, limit {chosen.limit}: {outcomes}; {came.seconds:.2f} s", flush=True)


if __name__ == "__main__":
    main()
