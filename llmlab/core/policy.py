"""`ClientPolicy`: everything a client decides by, as one frozen, serialisable value.

The defaults of every policy and of a bare `MockLLM()`, `LocalLLM()` and `OpenAILLM()`, each with its reason:

| setting | default | why |
| --- | --- | --- |
| `retry.max_retries` | 2 | what the openai and anthropic SDKs do: three attempts end most transient failures |
| `retry.backoff` | 0.5 s doubling to 8 s | the same SDKs' numbers |
| `retry.backoff.jitter` | `full` | spreads clients that failed together best (AWS Architecture Blog, 2015) |
| `retry.retry_on` | all retryable reasons | what the same request cannot cure is never sent again |
| `retry.respect_retry_after` | true | the server knows its queue, we guess |
| `attempt_timeout` | 30 s | an interactive user is gone by then; `LocalLLM` takes 120 s: a cold model loads first |
| `total_timeout` | 120 s | without it attempts, waits and backoff add up without bound; `LocalLLM` takes 300 s |
| `timeouts.connect` | 5 s | a server that is there accepts in milliseconds, across the world in one second |
| `timeouts.between_chunks` | 30 s | a stalled stream is noticed before the attempt's end |
| `timeouts.first_byte`, `timeouts.pool` | none | the attempt's timeout covers them |
| `max_concurrency` | none | a laboratory starts unprotected; `LocalLLM` takes 4, since Ollama serves few at once |
| `max_queue`, `max_queue_wait` | none | the total timeout bounds the wait |
| `rate_limit` | none | only you know what your server grants |
| `budget` | none | `max_retries` bounds one call; what all calls together may add depends on the load |
| `breaker`, `throttle` | none | they turn calls away that might have been answered: a choice, not a default |
| `adaptive_concurrency` | none | it takes the place of `max_concurrency` where the right number is not known |
| `hedging` | none | it sends more than was asked for, which costs money |
| `RateLimit.burst` | 1 | attempts are spaced evenly, so no window of `per` seconds ever holds more than `requests` |
| `MockLLM.latency` | lognormal, median 0.8 s, sigma 0.5 | what short answers of a healthy server take |
| `MockLLM.faults` | none | what fails, and how often, is for the experiment to say |
| `MockLLM.seed` | 0 | a laboratory repeats itself; other clients take their jitter from the operating system |
| `LocalLLM.base_url` | none | `OLLAMA_HOST` says where the server is, else it is on this machine at port 11434 |
| `LocalLLM.model` | none | the server's first installed model answers, so that a first try needs no name |
| `OpenAILLM.base_url` | none | `OPENAI_BASE_URL` says where the server is, else it is OpenAI's own |
| `OpenAILLM.model` | none | a server that has one model is asked for its name; one with several wants you to say |
| `OpenAILLM.api_key_env` | `OPENAI_API_KEY` | settings are stored and shown: they name the variable, and hold no key |
| `OpenAILLM.strict_end` | true | a stream without `finish_reason` and `[DONE]` may have been cut on its way |

A policy of your own is a subclass: of `Backoff` with its own `delay`, of `RetryPolicy` with its own `allows` or `wait`,
or of a budget, breaker, throttle, adaptive limit or hedging whose `at_work` returns a state machine of your own.

Look next at `flow.py`, which acts by it, and at `state.py`, which holds what changes.
"""

from __future__ import annotations

from typing import Any, TypedDict

from pydantic import Field

from llmlab.core.adaptive import AdaptiveConcurrency
from llmlab.core.backend import Timeouts
from llmlab.core.breaker import CircuitBreaker
from llmlab.core.budget import RetryBudget
from llmlab.core.hedging import Hedging
from llmlab.core.limits import RateLimit
from llmlab.core.retry import Backoff, RetryPolicy
from llmlab.core.settings import Settings, SettingsError, nearest
from llmlab.core.throttle import AdaptiveThrottle


class ClientPolicy(Settings):
    """How a client behaves: retries, deadlines, limits. All times in seconds; `None` means no bound.

    Raises:
        SettingsError: a setting has a wrong name, type or value.
    """

    retry: RetryPolicy = RetryPolicy()
    attempt_timeout: float | None = Field(default=30.0, gt=0, json_schema_extra={"advice": "use None for no bound"})
    """The longest that one attempt may take, from being handed to the backend to its complete answer."""
    total_timeout: float | None = Field(default=120.0, gt=0, json_schema_extra={"advice": "use None for no bound"})
    """The longest that a call may take over everything: queueing, attempts and backoff."""
    timeouts: Timeouts = Timeouts()
    """Bounds on the phases of one attempt."""
    max_concurrency: int | None = Field(default=None, ge=1, json_schema_extra={"advice": "use None for no limit"})
    """Attempts in flight at once. A slot is held for an attempt only, so a call in backoff holds none."""
    max_queue: int | None = Field(default=None, ge=0)
    """Attempts that may wait for a slot; one more is rejected."""
    max_queue_wait: float | None = Field(default=None, ge=0)
    """The longest wait for a slot; then the call is rejected."""
    rate_limit: RateLimit | None = None
    """How many attempts and tokens may be sent per time."""
    budget: RetryBudget | None = None
    """What all calls together may spend on retries; where it is spent, a failure ends its call."""
    breaker: CircuitBreaker | None = None
    """When to stop sending for a while, because most attempts fail."""
    throttle: AdaptiveThrottle | None = None
    """How early to turn attempts away oneself, because the server turns many away."""
    adaptive_concurrency: AdaptiveConcurrency | None = None
    """A limit on attempts in flight that finds itself; `max_concurrency` bounds it where both are set."""
    hedging: Hedging | None = None
    """When to send a second attempt beside one that is slow."""


class PolicySettings(TypedDict, total=False):
    """The settings that clients take as plain keywords, without building a `ClientPolicy`."""

    max_retries: int
    backoff: Backoff
    attempt_timeout: float | None
    total_timeout: float | None
    timeouts: Timeouts
    max_concurrency: int | None
    max_queue: int | None
    max_queue_wait: float | None
    rate_limit: RateLimit | None


_RETRY_SETTINGS = frozenset({"max_retries", "backoff"})
POLICY_SETTINGS = frozenset(PolicySettings.__annotations__)
"""The names of `PolicySettings`."""


def policy_with(policy: ClientPolicy, settings: dict[str, Any]) -> ClientPolicy:
    """Return the policy with plain keyword settings (`PolicySettings`) put in.

    Raises:
        SettingsError: a name is not one of `POLICY_SETTINGS`, or a value is wrong.
    """
    if not settings:
        return policy
    for name in settings:
        if name not in POLICY_SETTINGS:
            raise SettingsError(f"there is no setting '{name}'; {nearest(name, POLICY_SETTINGS)}")
    retry = {name: value for name, value in settings.items() if name in _RETRY_SETTINGS}
    other = {name: value for name, value in settings.items() if name not in _RETRY_SETTINGS}
    if retry:
        other["retry"] = policy.retry.replace(**retry)
    changed: ClientPolicy = policy.replace(**other)
    return changed
