"""A request as the simulated server sees it."""

from __future__ import annotations

from math import inf
from typing import Any

AWAITS_MODEL, QUEUED, SERVED, ENDED, GONE = range(5)
"""The states of a request. Those of a queue that are `GONE` are skipped when their turn comes."""


class Job:
    """A request at the server.

    `first`, `total` and `gap` are work, in seconds: until its first token, altogether, and between two tokens.
    `first_at` is the time of its first token, once known; `last_token_at` is that of its latest
    one, kept only where someone watches.
    """

    __slots__ = (
        "abandoned",
        "began_at_work",
        "broken",
        "first",
        "first_at",
        "gap",
        "last_token_at",
        "load",
        "model",
        "state",
        "total",
        "waiter",
        "watch",
    )

    def __init__(self, model: str, first: float, total: float, gap: float = inf, load: float = 0.0) -> None:
        self.model = model
        self.first = first
        self.total = total
        self.gap = gap
        self.load = load
        self.began_at_work = 0.0
        self.state = QUEUED
        self.first_at = inf
        self.last_token_at = -inf
        self.abandoned = False
        self.broken = False
        """Whether its answer breaks at its end: its work is wasted."""
        self.watch: Any = None
        """Who watches its tokens; each of them is an event then."""
        self.waiter: Any = None
        """Who waits for its end."""
