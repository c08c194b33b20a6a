"""How a server serves: its slots, how a batch slows it, and whether work goes by tokens, from attempts alone.

Two laws are tried, those of `server_model.py`. By *time*, an attempt's work is drawn, and a fixed share of it passes
before the first token. By *tokens*, each token takes equally long, and what passes before the first goes by the prompt.
For each number of slots `occupancy.py` says when each attempt began and how many were served beside it; the slots, the
slowdown and the law chosen are those under which the phases are least surprising: least differential entropy, per
attempt, of what the law leaves to chance. Waiting that is taken for work adds to the entropy, since the entropy of a
sum is never less than that of its parts. The change of pace at an attempt's end is the density's Jacobian.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from scipy import optimize, stats

from llmlab.calibration.occupancy import Busy, most_present, service_starts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from llmlab.calibration.visits import Visits

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

Law = Literal["tokens", "time"]
RESOLUTION = 1e-3
"""Differences below this share of a typical latency are taken for noise of measuring."""
EVIDENCE = 2.0
"""Log likelihood by which a further parameter must better a fit: the likelihood ratio's 95% point (1.92)."""
_SLOWDOWNS = (0.0, 0.01, 0.03, 0.1, 0.2, 0.4, 0.7, 1.0, 3.0)
_REFINED = 4
_SHORTEST = 1e-7
"""Seconds; a phase that is shorter is none: all of an answer came at once."""
_SHORT_PAUSES = 0.25
"""The share of attempts, after the shortest pauses, that no model can have been loaded for."""
_FEWEST = 8
_OVERTAKING = 0.2
_ALL_CANDIDATES = 40


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


class Candidates(NamedTuple):
    """What fits best, and what else might be.

    Attributes:
        best: the service that surprises least.
        by_slots: the least surprise for each number of slots tried, in nats an attempt.
        most_present: how many attempts were at the server at once, at the most.
        slots_told: whether fewer slots than that fit better for certain.
        slots_range: the numbers of slots that fit almost as well, from the least to the most.
        slowdown_told: whether the number served at once differed enough to tell a slowdown.
        slowdown_range: the ends of its 95% interval (likelihood ratio).
    """

    best: Service
    by_slots: dict[int, float]
    most_present: int
    slots_told: bool
    slots_range: tuple[int, int]
    slowdown_told: bool
    slowdown_range: tuple[float, float]


def fit_service(visits: Visits) -> Candidates | None:
    """Return the slots, the slowdown and the law under which attempts are least surprising; `None` if they are too few.

    It leaves out those that a model may have been loaded for; `refit` takes them in, once that is known.

    Args:
        visits: the attempts that were at the server, in order of coming.
    """
    most = most_present(visits.came, visits.left)
    usable = _usable(visits, cautious=True)
    if usable.sum() < _FEWEST:
        return None
    fits: dict[int, Service] = {}
    for numbers in (_to_try(most), None):
        for slots in _between(fits, most) if numbers is None else numbers:
            found = _best_for(visits, slots, usable, {})
            if found is not None:
                fits[slots] = found
    if not fits:
        return None
    for slots in sorted(fits, key=lambda slots: fits[slots].surprise)[:_REFINED]:
        fits[slots] = _refined(visits, fits[slots])
    surprises = {slots: fits[slots].surprise for slots in sorted(fits)}
    count = int(usable.sum())
    best = min(surprises, key=lambda slots: surprises[slots])
    near = [slots for slots, surprise in surprises.items() if (surprise - surprises[best]) * count < EVIDENCE]
    told = max(near) < most
    chosen = fits[best if told else most]
    slowed, ends = _slowdown_range(visits, chosen)
    return Candidates(chosen, surprises, most, told, (min(near), max(near)), slowed, ends)


def refit(visits: Visits, candidates: Candidates, loads: Mapping[int, float]) -> Candidates:
    """Return the candidates with the best one fitted to all attempts.

    Args:
        visits: the attempts.
        candidates: what was found by those that no model can have been loaded for.
        loads: for attempts that a model was loaded for, by their place, how long that took.
    """
    best = _best_for(visits, candidates.best.slots, _usable(visits, cautious=False), loads)
    if best is None:
        return candidates
    best = _refined(visits, best)
    slowed, ends = _slowdown_range(visits, best)
    return candidates._replace(best=best, slowdown_told=slowed, slowdown_range=ends)


def _usable(visits: Visits, *, cautious: bool) -> Bools:
    """Return which attempts tell of the service: those that were answered in full.

    Args:
        visits: the attempts.
        cautious: whether to leave out those that a model may have been loaded for, if enough others are left.
    """
    usable = visits.served & (visits.left > visits.came)
    if (~np.isnan(visits.first[usable])).mean() > 0.5:
        usable &= (visits.left - visits.first > _SHORTEST) & (visits.first - visits.came > _SHORTEST)
    if not cautious:
        return usable
    idle = idle_before(visits)
    paused = idle[np.isfinite(idle)]
    short = float(np.quantile(paused, _SHORT_PAUSES, method="lower")) if paused.size else 0.0
    settled = usable & ~_beginning(visits) & (idle <= short)
    return settled if settled.sum() >= _FEWEST else usable


def idle_before(visits: Visits) -> Floats:
    """Return for how long nobody had been at the server when each came: infinite for the first of a run, 0 for most."""
    earlier = np.concatenate([[-np.inf], np.maximum.accumulate(visits.left)[:-1]])
    idle: Floats = np.maximum(visits.came - earlier, 0.0)
    idle[visits.opens] = np.inf
    return idle


def _beginning(visits: Visits) -> Bools:
    """Return which attempts came before the first of their run left: a model may have been loaded for them."""
    opens = visits.opens
    ended = np.minimum.reduceat(np.where(visits.served, visits.left, np.inf), np.flatnonzero(opens))
    return np.asarray(visits.came < ended[np.cumsum(opens) - 1])


def _to_try(most: int) -> list[int]:
    if most <= _ALL_CANDIDATES:
        return list(range(1, most + 1))
    return sorted({*np.unique(np.geomspace(1, most, _ALL_CANDIDATES).round().astype(int)).tolist(), most})


def _between(fits: Mapping[int, Service], most: int) -> Sequence[int]:
    """Return the numbers of slots around the best of those tried that were left out."""
    if most <= _ALL_CANDIDATES or not fits:
        return ()
    tried = sorted(fits)
    place = tried.index(min(fits, key=lambda slots: fits[slots].surprise))
    low, high = tried[max(place - 1, 0)], tried[min(place + 1, len(tried) - 1)]
    return [int(slots) for slots in np.unique(np.linspace(low, high, _ALL_CANDIDATES).round()) if slots not in fits]


def _best_for(visits: Visits, slots: int, usable: Bools, loads: Mapping[int, float]) -> Service | None:
    """Return the service with so many slots; `None` where attempts would have left before their turn came."""
    starts = service_starts(visits.came, visits.left, slots, loads)
    unserved = np.isnan(starts)
    if (unserved & visits.served).sum() > max(_OVERTAKING / slots * visits.served.sum(), 0):
        return None
    used = usable & ~unserved & (visits.left > starts)
    if not np.isnan(visits.first[used]).all():
        used &= visits.first > starts
    if used.sum() < 0.9 * usable.sum() or used.sum() < _FEWEST:
        return None
    plain = Service("time", slots, 0.0, np.inf, starts, Busy.of(starts, visits.left), used)
    found = [_with_slowdown(visits, plain._replace(law=law)) for law in _laws(visits, used)]
    return min(found, key=lambda fit: fit.surprise)


def _laws(visits: Visits, used: Bools) -> list[Law]:
    known = ~np.isnan(visits.first[used]) & (visits.wrote[used] >= 2)
    return ["time", "tokens"] if known.all() else ["time"]


def _with_slowdown(visits: Visits, service: Service) -> Service:
    """Return the service with the slowdown that surprises least, of those that are tried for any number of slots."""
    without = surprise_of(service, service.phases(visits))
    if not _counts_differ(service, visits):
        return service._replace(surprise=without)

    def surprise(slowdown: float) -> float:
        return surprise_of(service, service.phases(visits, slowdown=slowdown))

    values = [without, *(surprise(slowdown) for slowdown in _SLOWDOWNS[1:])]
    place = int(np.argmin(values))
    return service._replace(slowdown=_SLOWDOWNS[place], surprise=values[place])


def _refined(visits: Visits, service: Service) -> Service:
    """Return the service with its slowdown sought between those that were tried around it."""
    if not _counts_differ(service, visits):
        return service

    def surprise(slowdown: float) -> float:
        return surprise_of(service, service.phases(visits, slowdown=slowdown))

    place = _SLOWDOWNS.index(service.slowdown)
    ends = (_SLOWDOWNS[max(place - 1, 0)], _SLOWDOWNS[min(place + 1, len(_SLOWDOWNS) - 1)])
    found = optimize.minimize_scalar(surprise, bounds=ends, method="bounded", options={"xatol": 1e-5})
    without = surprise(0.0)
    if (without - float(found.fun)) * service.used.sum() < EVIDENCE:
        return service._replace(slowdown=0.0, surprise=without)
    return service._replace(slowdown=float(found.x), surprise=float(found.fun))


def _counts_differ(service: Service, visits: Visits) -> bool:
    chosen = visits.where(service.used)
    counts = service.busy.mean_count(service.starts[service.used], chosen.left)
    return bool(np.ptp(np.quantile(counts, [0.05, 0.95])) > 0.2)


def _slowdown_range(visits: Visits, service: Service) -> tuple[bool, tuple[float, float]]:
    """Return whether a slowdown can be told, and the slowdowns that fit almost as well."""
    if not _counts_differ(service, visits):
        return False, (0.0, np.inf)
    allowed = service.surprise + EVIDENCE / int(service.used.sum())

    def excess(slowdown: float) -> float:
        return float(surprise_of(service, service.phases(visits, slowdown=slowdown)) - allowed)

    best = service.slowdown
    low = 0.0 if excess(0.0) <= 0 else float(optimize.brentq(excess, 0.0, best, xtol=1e-5))
    top = 2 * best + 0.5
    high = np.inf if excess(top) <= 0 else float(optimize.brentq(excess, best, top, xtol=1e-5))
    return True, (low, high)


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
