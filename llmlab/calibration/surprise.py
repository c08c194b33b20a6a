"""How surprising the attempts are under a law of service: the entropy of what the law leaves to chance.

Two laws are tried, those of `server_model.py`. By *time*, an attempt's work is drawn, and a fixed share of it passes
before the first token. By *tokens*, each token takes equally long, and what passes before the first goes by the prompt.
The entropy is the differential one of the phases' work, per attempt, estimated from spacings (O. Vasicek, JRSS B 38,
1976, by scipy). The pace at the end of a phase is the density's Jacobian, from work to time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from llmlab.calibration.occupancy import Busy
    from llmlab.calibration.visits import Visits

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

Law = Literal["tokens", "time"]
RESOLUTION = 1e-3
"""Differences below this share of a typical latency are taken for noise of measuring."""
EVIDENCE = 2.0
"""Log likelihood by which a further parameter must better a fit: the likelihood ratio's 95% point (1.92)."""


class Phases(NamedTuple):
    """The work of served attempts before and after their first token; where it is unknown, all of it is `rest`."""

    first: Floats | None
    rest: Floats
    read: Floats
    steps: Floats
    pace: tuple[Floats, Floats]

    @property
    def total(self) -> Floats:
        """All of the work."""
        return self.rest if self.first is None else self.first + self.rest


class Service(NamedTuple):
    """What a server's slots and pace are, and how the attempts went under them.

    Attributes:
        law: whether work goes by tokens.
        slots: how many are served at once.
        slowdown: how much each further one slows all of them.
        surprise: the entropy, in nats an attempt.
        starts: when each attempt began to be served.
        busy: how many were served over time.
        used: the attempts by which it was judged.
    """

    law: Law
    slots: int
    slowdown: float
    surprise: float
    starts: Floats
    busy: Busy
    used: Bools

    def phases(self, visits: Visits, which: Bools | None = None, slowdown: float | None = None) -> Phases:
        """Return the work of attempts; by default those by which it was judged."""
        slowdown = self.slowdown if slowdown is None else slowdown
        chosen, starts = visits.where(self.used if which is None else which), self.starts
        starts = starts[self.used if which is None else which]
        ends = chosen.left
        pace = self.busy.pace_before(ends, slowdown)
        steps = np.maximum(chosen.wrote - 1, 1)
        if np.isnan(chosen.first).any():
            return Phases(None, self.busy.work(starts, ends, slowdown), chosen.read, steps, (pace, pace))
        first = self.busy.work(starts, chosen.first, slowdown)
        rest = self.busy.work(chosen.first, ends, slowdown)
        return Phases(first, rest, chosen.read, steps, (self.busy.pace_before(chosen.first, slowdown), pace))


def surprise_of(service: Service, phases: Phases) -> float:
    """Return the entropy, in nats an attempt, of what the law leaves to chance in the attempts' phases."""
    slow = -float(np.log(phases.pace[1]).mean())
    if phases.first is None:
        return _entropy_of_logs(phases.rest) + slow
    slow -= float(np.log(phases.pace[0]).mean())
    if service.law == "tokens":
        each = _entropy_of_logs(phases.rest / phases.steps) + float(np.log(phases.steps).mean())
        return each + _entropy_of_rest(phases) + slow
    share = np.log(phases.first / phases.rest)
    first = _entropy(share) + float(np.log(phases.first).mean())
    return _entropy_of_logs(phases.rest) + first + slow


def _entropy_of_logs(values: Floats) -> float:
    logs = np.log(np.maximum(values, 1e-12))
    return _entropy(logs) + float(logs.mean())


def _entropy_of_rest(phases: Phases) -> float:
    """Return the entropy of the time to the first token, but for what the prompt's length explains."""
    assert phases.first is not None  # noqa: S101 - for the type checker: the caller has looked
    scale = float(np.median(phases.total))
    line = np.nan_to_num(phases.read)
    left = phases.first
    if np.ptp(line) > 0:
        centred = line - line.mean()
        left = left - centred * float(centred @ left / (centred @ centred))
    return _entropy(left / scale) + float(np.log(scale))


_GOLDEN = 0.6180339887498949


def _entropy(values: Floats) -> float:
    """Return the differential entropy of values that are known to `RESOLUTION`: what is finer is taken as even."""
    spread = (np.arange(1, len(values) + 1) * _GOLDEN) % 1.0 - 0.5
    return float(stats.differential_entropy(values + RESOLUTION * spread))
