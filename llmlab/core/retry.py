"""Whether to try again, and how long to wait first: pure decisions.

`Backoff` and `RetryPolicy` are settings that compute; they read no clock, draw no chance and never sleep. The flow
gives them the number of the retry and a uniform draw. Formulas: Marc Brooker, "Exponential Backoff And Jitter", AWS
Architecture Blog, 2015, and the real clients in `presets.py`. Look next at `policy.py`, which holds them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llmlab.core.backend import AttemptFailure
from llmlab.core.settings import Settings
from llmlab.core.vocabulary import BackoffSource, FailureReason

Jitter = Literal["full", "equal", "decorrelated", "none", "proportional", "symmetric", "additive"]


class Backoff(Settings):
    """How long to wait before a retry, in seconds: `base * factor**(retry - 1)`, capped at `maximum`, then jittered.

    `jitter`, with d the capped wait, u uniform on (0, 1) and s the `jitter_share`:

    - `full`: u * d. `equal`: d/2 + u * d/2. `none`: d.
    - `decorrelated`: uniform between `base` and three times the wait before (at first three times `base`), capped at
      `maximum`; `factor` has no say.
    - `proportional`: d * (1 - s * (1 - u)), from (1 - s) * d to d (the openai and anthropic SDKs).
    - `symmetric`: d * (1 + s * (2 * u - 1)), from (1 - s) * d to (1 + s) * d: the one that may exceed `maximum` (gRPC).
    - `additive`: `base * factor**(retry - 1) + u * jitter_seconds`, capped at `maximum` as a whole (tenacity's
      `wait_exponential_jitter`, stamina).
    """

    base: float = Field(default=0.5, ge=0)
    factor: float = Field(default=2.0, ge=1)
    maximum: float = Field(default=8.0, ge=0)
    jitter: Jitter = "full"
    jitter_share: float = Field(default=0.25, ge=0, le=1)
    """The share of the wait that `proportional` and `symmetric` jitter move it by, from 0 to 1."""
    jitter_seconds: float = Field(default=1.0, ge=0)
    """The most that `additive` jitter adds."""

    def delay(self, retry: int, previous: float, u: float) -> float:
        """Return the wait before retry number `retry` (from 1), in seconds, 0 or more.

        It is never more than `maximum`; with `symmetric` jitter, never more than `maximum * (1 + jitter_share)`.

        Args:
            retry: which retry comes next, from 1.
            previous: the wait before the last retry, in seconds; 0 before the first.
            u: a uniform draw from (0, 1).
        """
        jitter = self.jitter
        if jitter == "decorrelated":
            return min(self.maximum, self.base + u * (3.0 * max(previous, self.base) - self.base))
        try:
            uncapped = self.base * self.factor ** (retry - 1)
        except OverflowError:
            uncapped = self.maximum if self.base else 0.0
        full = min(self.maximum, uncapped)
        if jitter == "full":
            return u * full
        if jitter == "equal":
            return full * (0.5 + 0.5 * u)
        if jitter == "proportional":
            return full * (1.0 - self.jitter_share * (1.0 - u))
        if jitter == "symmetric":
            return full * (1.0 + self.jitter_share * (2.0 * u - 1.0))
        return min(self.maximum, uncapped + u * self.jitter_seconds) if jitter == "additive" else full


class RetryPolicy(Settings):
    """Which failures are tried again, how often, and how long to wait."""

    max_retries: int = Field(default=2, ge=0, json_schema_extra={"advice": "use 0 for a single attempt"})
    """Retries after the first attempt: 2 means up to three attempts."""
    stop_after: float | None = Field(default=None, gt=0, json_schema_extra={"advice": "use None for no such bound"})
    """Seconds since the call began after which a failure is not retried; unlike `total_timeout` it cuts nothing off."""
    backoff: Backoff = Backoff()
    rate_limited_backoff: Backoff | None = None
    """The backoff after `rate_limited`; `None` means `backoff`."""
    retry_on: frozenset[FailureReason] | None = None
    """The reasons to retry; `None` means every retryable one (see `vocabulary.REASONS`)."""
    respect_retry_after: bool = True
    """Whether a server's Retry-After replaces the backoff. It wins even over `maximum`: the server knows its queue, we
    guess."""
    max_retry_after: float | None = Field(default=None, gt=0, json_schema_extra={"advice": "use None for no limit"})
    """The longest Retry-After that is respected, in seconds."""
    beyond_max_retry_after: Literal["backoff", "give_up"] = "backoff"
    """What a longer one means: wait as if there were none, or do not retry."""
    retry_after_jitter: float = Field(default=0.0, ge=0)
    """Seconds: a uniform draw from 0 to this is added to a Retry-After, so that not all come together."""

    def allows(self, failure: AttemptFailure) -> bool:
        """Whether this failure is of a kind to retry."""
        if self.beyond_max_retry_after == "give_up" and self._asks_too_much(failure):
            return False
        return failure.is_retryable if self.retry_on is None else failure.reason in self.retry_on

    def exhausted(self, attempts: int, elapsed: float) -> bool:
        """Whether no retry is left after this many attempts, `elapsed` seconds after the call began."""
        return attempts > self.max_retries or (self.stop_after is not None and elapsed >= self.stop_after)

    def wait(self, failure: AttemptFailure, retry: int, previous: float, u: float) -> tuple[float, BackoffSource]:
        """Return the wait before retry number `retry`, in seconds, and what it comes from.

        Args:
            failure: what the last attempt met; one that this policy allows to retry.
            retry: which retry comes next, from 1.
            previous: the wait before the last retry, in seconds; 0 before the first.
            u: a uniform draw from (0, 1).
        """
        asked = failure.retry_after
        if asked is not None and self.respect_retry_after and not self._asks_too_much(failure):
            return max(0.0, asked) + u * self.retry_after_jitter, BackoffSource.RETRY_AFTER  # max: not NaN either
        backoff = self.backoff
        if self.rate_limited_backoff is not None and failure.reason is FailureReason.RATE_LIMITED:
            backoff = self.rate_limited_backoff
        return backoff.delay(retry, previous, u), BackoffSource.BACKOFF

    def _asks_too_much(self, failure: AttemptFailure) -> bool:
        longest, asked = self.max_retry_after, failure.retry_after
        return longest is not None and asked is not None and self.respect_retry_after and asked > longest
