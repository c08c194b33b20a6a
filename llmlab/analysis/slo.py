"""What a service has to keep (`SLO`), and the numbers that settings are judged by (`CRITERIA`).

A criterion is one number of a setting with a direction: more successes are better, fewer seconds and attempts are. The
same words name it in an SLO and in `recommend(minimise=...)`. Look next at `recommend.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from llmlab.analysis.metrics import Over
from llmlab.core.settings import Settings, SettingsError, nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Criterion(NamedTuple):
    """One number that settings are judged by.

    `name` is its word in an SLO and in `minimise`; `column` its column in tables; `quantile` is that of a latency.
    """

    name: str
    column: str
    label: str
    unit: Literal["share", "s", ""]
    more_is_better: bool = False
    quantile: float | None = None


SUCCESS = Criterion("success_rate", "success_rate", "success rate", "share", more_is_better=True)
LATENCIES = tuple(
    Criterion(f"p{q}_latency_s", f"latency_p{q}_s", f"p{q} latency", "s", quantile=q / 100) for q in (50, 90, 95, 99)
)
P95_LATENCY = LATENCIES[2]
AMPLIFICATION = Criterion("max_amplification", "attempts_per_call", "attempts per call", "")

CRITERIA: tuple[Criterion, ...] = (SUCCESS, *LATENCIES, AMPLIFICATION)
"""Every criterion, in the order in which a setting is judged: the first that is missed is the reason against it."""


class SLO(Settings):
    """What a service has to keep: a share of calls answered, latencies, and how much load retries may add.

        SLO(success_rate=0.99, p95_latency_s=5, max_amplification=1.3)

    Raises:
        SettingsError: nothing is asked for, or a value is out of range.
    """

    success_rate: float | None = Field(
        default=None, gt=0, lt=1, json_schema_extra={"advice": "no number of calls can show that none ever fails"}
    )
    """The share of calls, from 0 to 1, that must be answered."""
    p50_latency_s: float | None = Field(default=None, gt=0)
    """What half of the latencies must not exceed, in seconds."""
    p90_latency_s: float | None = Field(default=None, gt=0)
    """What 90% of the latencies must not exceed, in seconds."""
    p95_latency_s: float | None = Field(default=None, gt=0)
    """What 95% of the latencies must not exceed, in seconds."""
    p99_latency_s: float | None = Field(default=None, gt=0)
    """What 99% of the latencies must not exceed, in seconds."""
    max_amplification: float | None = Field(default=None, ge=1)
    """The most attempts per call, on average; 1 is no retries at all."""
    latency_over: Over = "all"
    """Which calls the latencies are taken over. A failed call has kept its caller waiting too, so "all" by default."""

    def model_post_init(self, _context: Any) -> None:
        """Refuse an SLO that asks for nothing."""
        if not self.targets():
            names = ", ".join(criterion.name for criterion in CRITERIA)
            raise ValueError(f"an SLO must ask for something; give at least one of {names}")

    def targets(self) -> dict[Criterion, float]:
        """Return what is asked for, by criterion, in the order in which settings are judged."""
        given = {criterion: getattr(self, criterion.name) for criterion in CRITERIA}
        return {criterion: float(target) for criterion, target in given.items() if target is not None}

    def counts(self, answered: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which calls the latencies are taken over, of calls that were answered or not."""
        return {"all": np.ones_like(answered), "answered": answered, "failed": ~answered}[self.latency_over]


def checked_slo(given: object) -> SLO:
    """Return what has to be kept.

    Raises:
        SettingsError: it is no SLO.
    """
    if not isinstance(given, SLO):
        raise SettingsError(f"slo must be an SLO, such as SLO(success_rate=0.99), got a {type(given).__name__}")
    return given


_MINIMISED = {"failure_rate": SUCCESS, **{each.name: each for each in LATENCIES}, "amplification": AMPLIFICATION}


def minimised(name: object) -> Criterion:
    """Return the criterion that `minimise` names: `failure_rate`, `amplification`, or a latency as in an SLO.

    Raises:
        SettingsError: there is none of this name.
    """
    if not isinstance(name, str) or name not in _MINIMISED:
        raise SettingsError(f"minimise cannot be {name!r}; {nearest(str(name), _MINIMISED)}")
    return _MINIMISED[name]
