"""How a server serves: its slots, how a batch slows it, and whether work goes by tokens, from attempts alone.

For each number of slots `occupancy.py` says when each attempt began and how many were served beside it; the slots, the
slowdown and the law chosen are those under which the attempts are least surprising (`surprise.py`). Waiting that is
taken for work adds to the entropy, since the entropy of a sum is never less than that of its parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from llmlab.calibration.occupancy import Busy, most_present, service_starts
from llmlab.calibration.slowdown import refined, sharpened, slowdown_range, with_slowdown
from llmlab.calibration.surprise import EVIDENCE, Law, Service

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from llmlab.calibration.visits import Visits

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

_REFINED = 4
_SHORTEST = 1e-7
"""Seconds; a phase that is shorter is none: all of an answer came at once."""
_SHORT_PAUSES = 0.25
"""The share of attempts, after the shortest pauses, that no model can have been loaded for."""
_FEWEST = 8
_OVERTAKING = 0.2
_FITTING = 0.67
"""The share of attempts that must have had their first token after their turn came. Not all of them: a busy client may
see the end of one answer after the first token of the next."""
_ALL_CANDIDATES = 40


class Candidates(NamedTuple):
    """What fits best, and what else might be.

    Attributes:
        best: the service that surprises least.
        most_present: how many attempts were at the server at once, at the most.
        slots_told: whether fewer slots than that fit better for certain.
        slots_range: the numbers of slots that fit almost as well, from the least to the most.
        slowdown_told: whether the number served at once differed enough to tell a slowdown.
        slowdown_range: the ends of its 95% interval (likelihood ratio).
    """

    best: Service
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
        fits[slots] = refined(visits, fits[slots])
    surprises = {slots: fits[slots].surprise for slots in sorted(fits)}
    count = int(usable.sum())
    best = min(surprises, key=lambda slots: surprises[slots])
    near = [slots for slots, surprise in surprises.items() if (surprise - surprises[best]) * count < EVIDENCE]
    told = max(near) < most
    chosen = fits[best if told else most]
    slowed, ends = slowdown_range(visits, chosen)
    return Candidates(chosen, most, told, (min(near), max(near)), slowed, ends)


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
    best = sharpened(visits, refined(visits, best))
    slowed, ends = slowdown_range(visits, best)
    return candidates._replace(best=best, slowdown_told=slowed, slowdown_range=ends)


def _usable(visits: Visits, *, cautious: bool) -> Bools:
    """Return which attempts tell of the service: those that were answered in full.

    Args:
        visits: the attempts.
        cautious: whether to leave out those that a model may have been loaded for, if enough others are left.
    """
    usable = visits.served & (visits.left > visits.came)
    if (~np.isnan(visits.first[usable])).sum() > 0.5 * usable.sum():
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
    if used.sum() < _FITTING * usable.sum() or used.sum() < _FEWEST:
        return None
    plain = Service("time", slots, 0.0, np.inf, starts, Busy.of(starts, visits.left), used)
    found = [with_slowdown(visits, plain._replace(law=law)) for law in _laws(visits, used)]
    return min(found, key=lambda fit: fit.surprise)


def _laws(visits: Visits, used: Bools) -> list[Law]:
    known = ~np.isnan(visits.first[used]) & (visits.wrote[used] >= 2)
    return ["time", "tokens"] if known.all() else ["time"]
