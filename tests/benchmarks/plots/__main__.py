"""`python -m tests.benchmarks.plots`: CPU seconds of each chart of five million events, drawing it included.

A chart should take less than 2 s; ends with 1 if one takes longer. `report` is seven charts.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from tests.benchmarks.plots.charts import charts

if TYPE_CHECKING:
    from collections.abc import Callable

GOAL_S = 2.0
_SEVERAL = {"report"}


def measured(draw: Callable[[], Any], rounds: int) -> float:
    """Return the CPU seconds of the fastest of some rounds."""
    found = []
    for _ in range(rounds):
        began = time.process_time()
        drawn = draw()
        getattr(drawn, "figure", drawn).draw_without_rendering()
        found.append(time.process_time() - began)
    return min(found)


def main() -> int:
    """Print a table, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.plots", description=__doc__)
    parser.add_argument("--events", type=int, default=5_000_000, help="rows of each frame (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="of which the fastest counts")
    parser.add_argument("--only", nargs="+", default=None, metavar="CHART", help="these charts alone")
    wanted = parser.parse_args()
    small = charts(1_000)
    for draw in small.values():  # what is only loaded on first use, such as fonts
        draw()
    slow = []
    print(f"| chart of {wanted.events:,} events | CPU s |\n| --- | --- |")
    for name, draw in charts(wanted.events).items():
        if wanted.only and name not in wanted.only:
            continue
        seconds = measured(draw, wanted.rounds)
        print(f"| {name} | {seconds:.2f} |", flush=True)
        slow += [name] if seconds > GOAL_S and name not in _SEVERAL else []
    print(f"\nslower than {GOAL_S:g} s: {', '.join(slow) or 'none'}")
    return 1 if slow else 0


sys.exit(main())
