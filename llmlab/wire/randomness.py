"""The randomness of foreign clients, fixed: most draw the jitter of their backoff from Python's global generator."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def seeded_random(seed: int = 0) -> Iterator[None]:
    """Let code inside draw the same numbers from Python's `random` in every run, and give back its state afterwards.

        with seeded_random(7):
            run(storm(), executor="inline")

    For clients that are not llmlab's: llmlab draws from nothing global.
    """
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)
