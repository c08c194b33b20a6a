"""How much a batch slows each of those in it: sought by the surprise of the attempts, with a jackknife's interval.

Its interval comes from leaving out every tenth call in turn (B. Efron and C. Stein, "The jackknife estimate of
variance", Annals of Statistics 9, 1981): noise of measuring makes the likelihood far too sure of itself.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize, stats

from llmlab.calibration.families import fit_distribution
from llmlab.calibration.surprise import EVIDENCE, surprise_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from llmlab.calibration.surprise import Phases, Service
    from llmlab.calibration.visits import Visits

    Floats = NDArray[np.float64]

_TRIED = (0.0, 0.01, 0.03, 0.1, 0.2, 0.4, 0.7, 1.0, 3.0)
_PARTS = 10


def with_slowdown(visits: Visits, service: Service) -> Service:
    """Return the service with the slowdown that surprises least, of those that are tried for any number of slots."""
    without = surprise_of(service, service.phases(visits))
    if not counts_differ(service, visits):
        return service._replace(surprise=without)
    surprise = _surprise(visits, service)
    values = [without, *(surprise(slowdown) for slowdown in _TRIED[1:])]
    place = int(np.argmin(values))
    return service._replace(slowdown=_TRIED[place], surprise=values[place])


def refined(visits: Visits, service: Service) -> Service:
    """Return the service with its slowdown sought between those that were tried around it."""
    if not counts_differ(service, visits):
        return service
    surprise, place = _surprise(visits, service), _TRIED.index(service.slowdown)
    best, least = _least(surprise, _TRIED[max(place - 1, 0)], _TRIED[min(place + 1, len(_TRIED) - 1)])
    without = surprise(0.0)
    if (without - least) * service.used.sum() < EVIDENCE:
        return service._replace(slowdown=0.0, surprise=without)
    return service._replace(slowdown=best, surprise=least)


def sharpened(visits: Visits, service: Service) -> Service:
    """Return the service with its slowdown by the likelihood of the family that its work is of, where it is of one.

    Where nothing but the whole work is known, that tells more than the entropy, which has to do without a family.
    """
    phases = service.phases(visits)
    if phases.first is not None or not service.slowdown:
        return service
    kind = fit_distribution(phases.total, visits.call[service.used]).distribution.kind
    spread = _SPREADS.get(kind)
    if spread is None:
        return service

    def misfit(slowdown: float) -> float:
        other = service.phases(visits, slowdown=slowdown)
        return spread(other) - float(np.log(other.pace[1]).mean())

    best, _ = _least(misfit, service.slowdown / 2, 2 * service.slowdown)
    return service._replace(slowdown=best)


def slowdown_range(visits: Visits, service: Service) -> tuple[bool, tuple[float, float]]:
    """Return whether a slowdown can be told, and the ends of its 95% interval."""
    if not counts_differ(service, visits):
        return False, (0.0, math.inf)
    best = service.slowdown
    if not best:
        return True, (0.0, _most_unseen(visits, service))
    found = []
    for part in range(_PARTS):
        rest = service._replace(used=service.used & (visits.call % _PARTS != part))
        within = _least(_surprise(visits, rest), best / 2, 2 * best)[0]
        found.append(sharpened(visits, rest._replace(slowdown=within)).slowdown)
    error = math.sqrt((_PARTS - 1) * float(np.var(found)))
    reach = float(stats.t.ppf(0.975, _PARTS - 1)) * error
    return True, (max(best - reach, 0.0), best + reach)


def counts_differ(service: Service, visits: Visits) -> bool:
    """Whether the number served beside an attempt differed enough to tell what it does."""
    chosen = visits.where(service.used)
    counts = service.busy.mean_count(service.starts[service.used], chosen.left)
    return bool(np.ptp(np.quantile(counts, [0.05, 0.95])) > 0.2)


def _surprise(visits: Visits, service: Service) -> Callable[[float], float]:
    return lambda slowdown: surprise_of(service, service.phases(visits, slowdown=slowdown))


def _least(function: Callable[[float], float], low: float, high: float) -> tuple[float, float]:
    """Return where a function is least between two ends, and how much that is."""
    found = optimize.minimize_scalar(function, bounds=(low, high), method="bounded", options={"xatol": 1e-5})
    return float(found.x), float(found.fun)


def _most_unseen(visits: Visits, service: Service) -> float:
    """Return the largest slowdown that the attempts do not rule out, where none was seen (likelihood ratio)."""
    surprise = _surprise(visits, service)
    allowed = surprise(0.0) + EVIDENCE / int(service.used.sum())
    most = _TRIED[-1]
    if surprise(most) <= allowed:
        return math.inf
    return float(optimize.brentq(lambda slowdown: surprise(slowdown) - allowed, 0.0, most, xtol=1e-5))


def _lognormal_spread(phases: Phases) -> float:
    logs = np.log(phases.total)
    return math.log(max(float(logs.std()), 1e-9)) + float(logs.mean())


def _exponential_spread(phases: Phases) -> float:
    return math.log(float(phases.total.mean()))


_SPREADS: dict[str, Callable[[Phases], float]] = {"lognormal": _lognormal_spread, "exponential": _exponential_spread}
"""For a family the negative log likelihood, in nats a value, but for a constant."""
