"""Workload W, which every variant runs: a closed loop against a server that is slow, and sometimes never answers.

Each of `USERS` makes a call, waits for its end and makes the next. A call has up to `1 + MAX_RETRIES` attempts with
full jitter between them, each of which holds one of `SLOTS` slots.
"""

from __future__ import annotations

from typing import NamedTuple

CALLS = 20_000
USERS = 64
SLOTS = 32
MEDIAN_S = 1.0
SIGMA = 0.8
ATTEMPT_TIMEOUT_S = 2.0
TIMEOUT_PROBABILITY = 0.2
MAX_RETRIES = 3
TOTAL_TIMEOUT_S = 60.0
BACKOFF_BASE_S = 0.5
BACKOFF_MAXIMUM_S = 8.0


class Tally(NamedTuple):
    """What a variant must agree on with the others, within sampling error."""

    attempts: int
    failed_calls: int


def tally(rows: list[tuple[int, int, float, float, bool]], calls: int) -> Tally:
    """Count rows (call, attempt, start, end, answered): a call has failed if no attempt of it was answered."""
    return Tally(len(rows), calls - sum(row[4] for row in rows))


def full_jitter(u: float, attempt: int) -> float:
    """Return the backoff after this attempt (from 0), given a uniform draw."""
    return u * min(BACKOFF_MAXIMUM_S, BACKOFF_BASE_S * 2.0**attempt)
