"""Peak memory of a large run, frames included, above what the imports take: run in a process of its own."""

from __future__ import annotations

import resource
import sys

from tests.benchmarks.virtual_time.llmlab_client import experiment


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def main(calls: int) -> None:
    """Print the attempts made and the megabytes they took."""
    small = experiment(100).run()  # what is loaded on first use belongs to the baseline
    assert len(small.attempts) + len(small.calls)
    before = _peak_mb()
    result = experiment(calls).run()
    attempts, answered = result.attempts, result.calls
    assert len(answered) == calls
    print(len(attempts), _peak_mb() - before)


if __name__ == "__main__":
    main(int(sys.argv[1]))
