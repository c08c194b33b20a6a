"""Whether to try again, and how long to wait first: pure decisions.

`Backoff` and `RetryPolicy` are settings that compute; they read no clock, draw no chance and never sleep. The flow
gives them the number of the retry and a uniform draw. Formulas: Marc Brooker, "Exponential Backoff And Jitter", AWS
Architecture Blog, 2015. Look next at `policy.py`, which holds them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llmlab.core.backend import AttemptFailure
from llmlab.core.settings import Settings
from llmlab.core.vocabulary import FailureReason

Jitter = Literal["full", "equal", "decorrelated", "none"]


class Backoff(Settings):
    """How long to wait before a retry, in seconds: `base * factor**(retry - 1)`, capped at `maximum`, then jittered.

    `jitter` with u uniform on (0, 1): `full`: u * d. `equal`: d/2 + u * d/2. `none`: d. `decorrelated`: uniform
    between `base` and three times the wait before (at first three times `base`), capped at `maximum`; `factor` has no
    say.
    """

    base: float = Field(default=0.5, ge=0)
    factor: float = Field(default=2.0, ge=1)
    maximum: float = Field(default=8.0, ge=0)
    jitter: Jitter = "full"

    def delay(self, retry: int, previous: float, u: float) -> float:
        """Return the wait before retry number `retry` (from 1), in seconds, never more than `maximum`.

        Args:
            retry: which retry comes next, from 1.
            previous: the wait before the last retry, in seconds; 0 before the first.
            u: a uniform draw from (0, 1).
        """
        if self.jitter == "decorrelated":
            return min(self.maximum, self.base + u * (3.0 * max(previous, self.base) - self.base))
        try:
            full = min(self.maximum, self.base * self.factor ** (retry - 1))
        except OverflowError:
            full = self.maximum
        if self.jitter == "full":
            return u * full
        return full if self.jitter == "none" else full * (0.5 + 0.5 * u)


class RetryPolicy(Settings):
    """Which failures are tried again, how often, and how long to wait."""

    max_retries: int = Field(default=2, ge=0, json_schema_extra={"advice": "use 0 for a single attempt"})
    """Retries after the first attempt: 2 means up to three attempts."""
    backoff: Backoff = Backoff()
    retry_on: frozenset[FailureReason] | None = None
    """The reasons to retry; `None` means every retryable one (see `vocabulary.REASONS`)."""
    respect_retry_after: bool = True
    """Whether a server's Retry-After replaces the backoff. It wins even over `maximum`: the server knows its queue, we
    guess."""

    def allows(self, failure: AttemptFailure) -> bool:
        """Whether this failure is of a kind to retry."""
        return failure.is_retryable if self.retry_on is None else failure.reason in self.retry_on
