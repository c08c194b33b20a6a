"""What a policy asks for, setting by setting, and why a client without such a setting cannot do it.

Exporters say which of these wishes their client fulfils. What none of them names is left out, and said to be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from llmlab.core.settings import Settings, changed_settings
from llmlab.core.vocabulary import RETRYABLE, FailureReason

if TYPE_CHECKING:
    from llmlab.core.policy import ClientPolicy
    from llmlab.core.retry import RetryPolicy

_OWN_REASONS = frozenset(
    {
        FailureReason.TOTAL_DEADLINE_EXCEEDED,
        FailureReason.REJECTED_BY_LIMIT,
        FailureReason.CIRCUIT_OPEN,
        FailureReason.BUDGET_EXHAUSTED,
    }
)
"""What a client gives up with by itself: no attempt ever fails so, unless clients are stacked."""

_NO_SUCH = {
    "retry.stop_after": "there is no such bound on retrying",
    "retry.rate_limited_backoff": "after a 429 it waits as after anything else",
    "retry.retry_after": "it does not read Retry-After",
    "attempt_timeout": "it has no timeout of its own; set this one in the client that it calls",
    "total_timeout": "nothing bounds a whole call; put `asyncio.timeout` around it",
    "timeouts.connect": "it has no timeout of its own; set this one in the client that it calls",
    "timeouts.pool": "it has no timeout of its own; set this one in the client that it calls",
    "timeouts.first_byte": "it has no timeout of its own; set this one in the client that it calls",
    "timeouts.between_chunks": "it has no timeout of its own; set this one in the client that it calls",
    "max_concurrency": "nothing limits the attempts in flight; put a semaphore around it",
    "max_queue": "there is no queue to bound",
    "max_queue_wait": "there is no queue to bound",
    "rate_limit": "nothing limits how many attempts and tokens are sent per time",
    "budget": "nothing bounds what all retries together add to the load",
    "breaker": "it has no circuit breaker",
    "throttle": "it does not hold itself back",
    "adaptive_concurrency": "nothing limits the attempts in flight",
    "hedging": "it never sends a second attempt beside a slow one",
}


class RetryAfter(NamedTuple):
    """How a policy takes a server's Retry-After."""

    respected: bool
    longest: float | None
    beyond: str
    jitter: float

    @classmethod
    def of(cls, retry: RetryPolicy) -> RetryAfter:
        """Return a policy's own."""
        longest, beyond = retry.max_retry_after, retry.beyond_max_retry_after if retry.max_retry_after else ""
        return cls(True, longest, beyond, retry.retry_after_jitter) if retry.respect_retry_after else _IGNORED

    def __str__(self) -> str:
        if not self.respected:
            return "ignored"
        longest = f", to {self.longest:g} s (beyond that: {self.beyond})" if self.longest else ""
        jitter = f", plus up to {self.jitter:g} s" if self.jitter else ""
        return f"respected{longest}{jitter}"


_IGNORED = RetryAfter(False, None, "", 0.0)


def wishes(policy: ClientPolicy) -> dict[str, str]:
    """Return what the policy asks for: for each setting that has an effect, its value as a text."""
    retry, timeouts = policy.retry, policy.timeouts
    found: dict[str, object] = {"retry.max_retries": retry.max_retries}
    if retry.max_retries:
        found["retry.backoff"] = backoff_text(policy)
        found["retry.retry_on"] = ", ".join(sorted(retried(retry)))
        found["retry.retry_after"] = RetryAfter.of(retry)
        found["retry.rate_limited_backoff"] = retry.rate_limited_backoff
        found["retry.stop_after"] = retry.stop_after
    found |= {name: getattr(policy, name) for name in ("attempt_timeout", "total_timeout", "max_concurrency")}
    if policy.max_concurrency is not None or policy.adaptive_concurrency is not None:
        found |= {"max_queue": policy.max_queue, "max_queue_wait": policy.max_queue_wait}
    found |= {f"timeouts.{name}": getattr(timeouts, name) for name in type(timeouts).model_fields}
    names = ("rate_limit", "budget", "breaker", "throttle", "adaptive_concurrency", "hedging")
    found |= {name: getattr(policy, name) for name in names}
    return {path: _text(value) for path, value in found.items() if value is not None}


def why_not(path: str) -> str:
    """Say why a client without such a setting does not do this."""
    return _NO_SUCH[path]


def retried(retry: RetryPolicy) -> frozenset[FailureReason]:
    """Return the reasons that an attempt can fail with and that the policy retries."""
    return (RETRYABLE if retry.retry_on is None else retry.retry_on) - _OWN_REASONS


def backoff_text(policy: ClientPolicy) -> str:
    """Return a backoff as a text: `0.5 s, times 2 each, at most 8 s, jitter full`."""
    backoff = policy.retry.backoff
    share = f" {backoff.jitter_share:g}" if backoff.jitter in {"proportional", "symmetric"} else ""
    seconds = f" {backoff.jitter_seconds:g} s" if backoff.jitter == "additive" else ""
    return (
        f"{backoff.base:g} s, times {backoff.factor:g} each, at most {backoff.maximum:g} s, "
        f"jitter {backoff.jitter}{share}{seconds}"
    )


def _text(value: object) -> str:
    if isinstance(value, Settings):
        return ", ".join(f"{name} {_text(entry)}" for name, entry in changed_settings(value).items()) or "on"
    return f"{value:g}" if isinstance(value, float) else str(value)
