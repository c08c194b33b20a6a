"""Real clients as policies: what their retries, waits and timeouts are when nobody sets anything.

    MockLLM(policy=preset("openai"), overload_probability=0.3)

The numbers were read in the source of the version named:

| preset | version | source |
| --- | --- | --- |
| `openai` | openai 2.54.0 | `openai/_constants.py`, `openai/_base_client.py` |
| `anthropic` | anthropic 2.12.0 | `anthropic/_constants.py`, `anthropic/_base_client.py` |
| `litellm` | litellm 1.106.2, its `Router` | `litellm/router.py`, `calculate_retry_after` in `litellm/utils.py` |
| `ollama-python` | ollama 0.6.3 | `ollama/_client.py`; httpx 0.28.1 `DEFAULT_LIMITS` |
| `aws-standard` | botocore 1.44.5 | `botocore/retries/standard.py`, `quota.py`; the default mode since 1.44 |
| `aws-standard-1.43` | botocore 1.43.0 | the same files: the standard mode as it was before 1.44 |
| `grpc` | gRFC A6, 2024-08-23 | its example (by default nothing is retried); connect: `doc/connection-backoff.md` |
| `tenacity` | tenacity 9.2.1 | a bare `@retry`: `BaseRetrying.__init__` in `tenacity/__init__.py` |
| `stamina` | stamina 26.1.0 | `stamina.retry` and `_compute_backoff` in `stamina/_core.py` |

u is uniform on (0, 1), n counts retries from 1; waits and timeouts are in seconds:

| preset | attempts | wait before a retry | Retry-After | timeouts |
| --- | --- | --- | --- | --- |
| `openai` | 3 | `min(0.5 * 2**(n-1), 8) * (0.75 + 0.25 * u)` | to 120; a longer one ends the call | 600, connect 5 |
| `anthropic` | 3 | `min(0.5 * 2**(n-1), 8) * (0.75 + 0.25 * u)` | whatever it says | 600, connect 5 |
| `litellm` | 3 | `min(0.5 * 2**(n-1), 8) + 0.75 * u` | to 60, plus 0.75 * u; else the wait | 6000 |
| `ollama-python` | 1 | | | none |
| `aws-standard` | 3 | `min(0.05 * 2**(n-1), 20) * u`; after a 429 `min(2**(n-1), 20) * u` | ignored | 60 |
| `aws-standard-1.43` | 3 | `min(2**(n-1), 20) * u` | ignored | 60 |
| `grpc` | 4 | `min(0.1 * 2**(n-1), 1) * (0.8 + 0.4 * u)` | whatever it says (pushback) | connect 20 |
| `tenacity` | no bound | 0 | ignored | none |
| `stamina` | 10 | `min(0.1 * 2**(n-1) + u, 5)` | ignored | no retry after 45 |

Timeouts are those of httpx and urllib3: of each phase (connection, first byte, between two pieces), not of a whole
attempt, so a server that drips holds these clients for ever. Beyond that: `openai` and `anthropic` have 1000
connections and wait 600 s for a free one, `ollama-python` has 100. `aws-standard` has 500 tokens, of which a retry
takes 14 (5 after a 429); in 1.43 it took 5 (10 after a timeout). An answered retry puts back what it took, an answered
first attempt puts back 1. `grpc` starts with 10 tokens; a failure takes 1, an answer puts back 0.1, and at 5 or fewer
nothing is retried.

What a policy does not express:

- All: no client looks into an answer, so one that is empty, malformed or a refusal is not retried; turn that on with
  `retry_on`.
- `openai`, `anthropic`: the server's `x-should-retry`, and retries of 408 and 409. A Retry-After of 0 means the usual
  wait to them, to us none. No free connection within 600 s is a timeout and retried by them; here the call ends with
  `rejected_by_limit`. `anthropic` refuses to send a request without streaming that may take more than ten minutes.
- `litellm`: after its last attempt the Router waits once more, in vain, before it reports the failure (2 to 2.75 s).
  With several deployments it goes to the next at once; one deployment is described here. From the sixth retry on
  our wait is 8.75 s, without jitter. It sets the retries of the SDK below it to 0: `stack("litellm", "openai")` is the
  stack of one who has set `max_retries` for the SDK as well. Without the Router, `litellm.completion` is as `openai`.
- `aws-standard`: `x-amz-retry-after` (milliseconds; it lengthens a wait by 5 s at most), error codes of single
  services, DynamoDB's own numbers.
- `grpc`: after a pushback the backoff starts anew; transparent retries; a failure that it would not retry takes no
  token. UNAVAILABLE is `overloaded`, `rate_limited`, `connection_failed` and `connection_lost` here; 502 and 504 would
  be too, but cannot be told from 500.
- `tenacity`: it never stops. 1000 retries stand for that, so that a simulation does.
- `stamina`: `on=` must be given and decides what is retried; here what the SDKs retry.

A client library's next version may differ; a policy is a value, so `preset("openai").replace(...)` is yours. Look next
at `retry.py`, `budget.py` and `limits.py`, which give the settings their meaning.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from llmlab.core.backend import Timeouts
from llmlab.core.budget import RetryBudget
from llmlab.core.policy import ClientPolicy
from llmlab.core.retry import Backoff, RetryPolicy
from llmlab.core.settings import SettingsError, nearest
from llmlab.core.vocabulary import FailureReason as Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

_GAVE_UP = frozenset(
    {Reason.TOTAL_DEADLINE_EXCEEDED, Reason.REJECTED_BY_LIMIT, Reason.CIRCUIT_OPEN, Reason.BUDGET_EXHAUSTED}
)
"""With what an inner client of a stack gives up. The outer one sees an error like any other, and tries again."""

_TRANSIENT = _GAVE_UP | {
    Reason.ATTEMPT_TIMEOUT,
    Reason.CONNECTION_FAILED,
    Reason.CONNECTION_LOST,
    Reason.RATE_LIMITED,
    Reason.OVERLOADED,
    Reason.SERVER_ERROR,
}
"""No answer in time, no connection, 429 and 5xx: what every one of the SDKs retries."""

_EXCEPTIONS = _TRANSIENT | {
    Reason.INVALID_REQUEST,
    Reason.CONTEXT_LENGTH_EXCEEDED,
    Reason.MODEL_NOT_FOUND,
    Reason.NOT_AUTHORISED,
    Reason.MALFORMED_RESPONSE,
}
"""What an SDK raises, so that a decorator around it that retries any exception tries again."""

_NO_TIMEOUTS = Timeouts(connect=None, between_chunks=None)


def _phases(seconds: float, *, connect: float, pool: float | None = None) -> Timeouts:
    """Return what a read timeout of so many seconds means for the phases of an attempt."""
    return Timeouts(connect=connect, pool=pool, first_byte=seconds, between_chunks=seconds)


def _unbounded(retry: RetryPolicy, timeouts: Timeouts = _NO_TIMEOUTS) -> ClientPolicy:
    """Return a policy without the bounds on attempts and calls that none of these clients has."""
    return ClientPolicy(retry=retry, attempt_timeout=None, total_timeout=None, timeouts=timeouts)


_SDK_BACKOFF = Backoff(base=0.5, maximum=8, jitter="proportional", jitter_share=0.25)


def _generated_sdk(retry: RetryPolicy) -> ClientPolicy:
    """Return what the openai and anthropic SDKs share: they are made by the same generator."""
    policy = _unbounded(retry, _phases(600, connect=5, pool=600))
    limited: ClientPolicy = policy.replace(max_concurrency=1000, max_queue_wait=600.0)
    return limited


def _aws(backoff: Backoff, budget: RetryBudget, rate_limited_backoff: Backoff | None = None) -> ClientPolicy:
    retry = RetryPolicy(
        max_retries=2,
        backoff=backoff,
        rate_limited_backoff=rate_limited_backoff,
        retry_on=_TRANSIENT,
        respect_retry_after=False,
    )
    policy: ClientPolicy = _unbounded(retry, _phases(60, connect=60)).replace(budget=budget)
    return policy


def _grpc() -> ClientPolicy:
    unavailable = {Reason.OVERLOADED, Reason.RATE_LIMITED, Reason.CONNECTION_FAILED, Reason.CONNECTION_LOST}
    retry = RetryPolicy(
        max_retries=3,
        backoff=Backoff(base=0.1, maximum=1, jitter="symmetric", jitter_share=0.2),
        retry_on=_GAVE_UP | unavailable,
    )
    budget = RetryBudget(capacity=10, retry_cost=0, failure_cost=1, per_success=0.1, reserve=5)
    policy: ClientPolicy = _unbounded(retry, Timeouts(connect=20, between_chunks=None)).replace(budget=budget)
    return policy


PRESETS: Mapping[str, ClientPolicy] = MappingProxyType(
    {
        "openai": _generated_sdk(
            RetryPolicy(
                max_retries=2,
                backoff=_SDK_BACKOFF,
                retry_on=_TRANSIENT,
                max_retry_after=120,
                beyond_max_retry_after="give_up",
            )
        ),
        "anthropic": _generated_sdk(RetryPolicy(max_retries=2, backoff=_SDK_BACKOFF, retry_on=_TRANSIENT)),
        "litellm": _unbounded(
            RetryPolicy(
                max_retries=2,
                # 8.75: litellm caps the wait at 8 and adds the jitter then, `additive` caps their sum
                backoff=Backoff(base=0.5, maximum=8.75, jitter="additive", jitter_seconds=0.75),
                retry_on=_TRANSIENT,
                max_retry_after=60,
                retry_after_jitter=0.75,
            ),
            _phases(6000, connect=6000, pool=6000),
        ),
        "ollama-python": _unbounded(RetryPolicy(max_retries=0)).replace(max_concurrency=100),
        "aws-standard": _aws(
            Backoff(base=0.05, maximum=20, jitter="full"),
            RetryBudget(capacity=500, retry_cost=14, rate_limited_cost=5, per_success=1, refund=True),
            rate_limited_backoff=Backoff(base=1, maximum=20, jitter="full"),
        ),
        "aws-standard-1.43": _aws(
            Backoff(base=1, maximum=20, jitter="full"),
            RetryBudget(capacity=500, retry_cost=5, timeout_cost=10, per_success=1, refund=True),
        ),
        "grpc": _grpc(),
        "tenacity": _unbounded(
            RetryPolicy(
                max_retries=1000,
                backoff=Backoff(base=0, maximum=0, jitter="none"),
                retry_on=_EXCEPTIONS,
                respect_retry_after=False,
            )
        ),
        "stamina": _unbounded(
            RetryPolicy(
                max_retries=9,
                stop_after=45,
                backoff=Backoff(base=0.1, maximum=5, jitter="additive", jitter_seconds=1),
                retry_on=_TRANSIENT,
                respect_retry_after=False,
            )
        ),
    }
)
"""The presets by name."""


def preset(name: str) -> ClientPolicy:
    """Return how a real client behaves by default: `openai`, `anthropic`, `litellm`, `ollama-python`, ...

    Args:
        name: one of `PRESETS`; the module's docstring has the numbers, their sources, and what is left out.

    Raises:
        SettingsError: there is no preset of this name.
    """
    if name not in PRESETS:
        raise SettingsError(f"there is no preset '{name}'; {nearest(str(name), PRESETS)}")
    return PRESETS[name]


def stack(*names: str) -> list[ClientPolicy]:
    """Return the presets of clients that call each other, from the outside in: `stack("stamina", "litellm", "openai")`.

    The last is the one that talks to the server. A client is a backend itself, so a stack is built from the inside; in
    an experiment its inner clients are values (`backends/layer.py`):

        application, router, sdk = stack("stamina", "litellm", "openai")
        AsyncClient(AsyncClient(AsyncClient(backend, sdk), router), application)
        Experiment(backend=Layer(Layer(backend, sdk, name="sdk"), router, name="router"), policy=application)

    Raises:
        SettingsError: there is no preset of a name, or no name is given.
    """
    if not names:
        raise SettingsError(f"stack needs the name of at least one preset; valid: {', '.join(sorted(PRESETS))}")
    return [preset(name) for name in names]
