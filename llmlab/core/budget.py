"""A retry budget: a bucket of tokens that retries draw from, so that they cannot multiply load without bound.

Every retry costs tokens; calls or successes put tokens back. What the field uses can all be written this way:

| scheme | settings |
| --- | --- |
| 10% of requests (Finagle, Envoy, linkerd) | `RetryBudget(capacity=10, per_call=0.1)` |
| 10% of successes (recovers even where the storm feeds itself) | `RetryBudget(capacity=10, per_success=0.1)` |
| AWS SDKs, standard mode | `RetryBudget(capacity=500, retry_cost=5, timeout_cost=10, per_success=1, refund=True)` |
| gRPC (10, 0.1) | `RetryBudget(capacity=10, retry_cost=0, failure_cost=1, per_success=0.1, reserve=5)` |

`RetryBudget` is the setting, `BudgetLevel` the pure state machine. In the long run retries per call are at most
`per_call / retry_cost` (or that share of the successes), beyond the `capacity` spent once. With `refund` only retries
that fail count.
"""

from __future__ import annotations

from pydantic import Field

from llmlab.core.settings import Settings
from llmlab.core.vocabulary import FailureReason

_ROUNDING = 1e-9


class RetryBudget(Settings):
    """How many tokens there are, what a retry costs, and what brings them back. Tokens have no unit."""

    capacity: float = Field(default=10.0, gt=0)
    """The most tokens the bucket holds; it starts full."""
    per_call: float = Field(default=0.0, ge=0)
    """Tokens that each call puts in when it begins."""
    per_success: float = Field(default=0.0, ge=0)
    """Tokens that each answered attempt puts in."""
    retry_cost: float = Field(default=1.0, ge=0)
    """Tokens that a retry takes out."""
    timeout_cost: float | None = Field(default=None, ge=0)
    """Tokens that a retry after a timeout takes out; `None` means `retry_cost`."""
    rate_limited_cost: float | None = Field(default=None, ge=0)
    """Tokens that a retry after `rate_limited` takes out; `None` means `retry_cost`."""
    refund: bool = False
    """Whether a retry that is answered puts back what it took out, instead of `per_success`."""
    failure_cost: float = Field(default=0.0, ge=0)
    """Tokens that each failed attempt takes out, retried or not."""
    reserve: float | None = Field(default=None, ge=0)
    """A retry must leave more than this in the bucket (gRPC: half of it); `None`: it must only have its cost."""

    def at_work(self) -> BudgetLevel:
        """Return the state machine that acts by these settings. A subclass of your own may return one of its own."""
        return BudgetLevel(self)


class BudgetLevel:
    """The tokens left. Invariant: between 0 and the capacity."""

    __slots__ = ("budget", "level")

    def __init__(self, budget: RetryBudget) -> None:
        self.budget = budget
        self.level = budget.capacity

    def _put(self, tokens: float) -> None:
        self.level = max(0.0, min(self.budget.capacity, self.level + tokens))

    def _cost(self, reason: FailureReason) -> float:
        budget = self.budget
        cost = None
        if reason is FailureReason.ATTEMPT_TIMEOUT:
            cost = budget.timeout_cost
        elif reason is FailureReason.RATE_LIMITED:
            cost = budget.rate_limited_cost
        return budget.retry_cost if cost is None else cost

    def call_began(self) -> None:
        """A call begins."""
        self._put(self.budget.per_call)

    def succeeded(self, after: FailureReason | None = None) -> None:
        """An attempt was answered; `after` is the failure whose retry it was, `None` for a first attempt."""
        self._put(self._cost(after) if self.budget.refund and after is not None else self.budget.per_success)

    def failed(self) -> None:
        """An attempt failed."""
        self._put(-self.budget.failure_cost)

    def spend(self, reason: FailureReason) -> bool:
        """Pay for a retry after this failure; False, and nothing paid, where the budget does not allow it."""
        reserve, cost = self.budget.reserve, self._cost(reason)
        left = self.level - cost
        # Sums of floats drift: ten tenths put in must pay for one, and must not lift the level above a reserve of one.
        if left < -_ROUNDING * cost or (reserve is not None and left <= reserve + _ROUNDING * max(1.0, reserve)):
            return False
        self.level = max(0.0, left)
        return True
