"""Who was being served when: the queue of a server, reconstructed from when its clients came and went.

A client sees its own wait and service as one time. All clients together tell them apart: under first come, first served
with c slots, an attempt begins to be served as soon as it has come and fewer than c of those before it are still there.
So for each number of slots the beginnings follow from what was recorded, and only for the right one do they fit
together (`service.py`). (The converse of Lindley's recursion; Kiefer and Wolfowitz, Trans. AMS 78, 1955.)
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_NO_WORK = 1e-12
_LEAVES, _LOADED, _COMES = range(3)  # of things at one instant, the server's come before the clients'


def service_starts(came: Floats, left: Floats, slots: int, loads: Mapping[int, float] | None = None) -> Floats:
    """Return when each attempt began to be served, in seconds; NaN for those that left before their turn.

    Args:
        came: when each came to the server, in order.
        left: when each left, in whatever way.
        slots: how many are served at once, first come, first served.
        loads: for attempts that a model was loaded for, by their place, how long that took: nobody is served meanwhile.
    """
    starts = [float("nan")] * len(came)
    line: deque[int] = deque()
    serving: set[int] = set()
    loading = -1
    for time, what, place in _events(came, left, loads or {}):
        if what == _COMES:
            line.append(place)
            if place in (loads or {}):
                loading = place
        elif what == _LOADED:
            loading = -1 if loading == place else loading
        elif place in serving:
            serving.remove(place)
        else:
            line.remove(place)
        while line and len(serving) < slots and loading < 0:
            begun = line.popleft()
            serving.add(begun)
            starts[begun] = time
    return np.array(starts)


def _events(came: Floats, left: Floats, loads: Mapping[int, float]) -> list[tuple[float, int, int]]:
    """Return all that happens, in order. An attempt that left in the instant in which it came never was there."""
    present = [place for place in range(len(came)) if left[place] > came[place]]
    events = [(float(came[place]), _COMES, place) for place in present]
    events += [(float(left[place]), _LEAVES, place) for place in present]
    events += [(float(came[place]) + load, _LOADED, place) for place, load in loads.items()]
    return sorted(events)


def most_present(came: Floats, left: Floats) -> int:
    """Return how many attempts were at the server at once, at the most."""
    times = np.concatenate([left, came])
    steps = np.repeat([-1, 1], [len(left), len(came)])
    order = np.argsort(times, kind="stable")  # who leaves at an instant does so before another comes
    return int(np.max(np.cumsum(steps[order]), initial=0))


class Busy(NamedTuple):
    """How many were being served over time: `serving[i]` from `times[i]` up to the next of the times."""

    times: Floats
    serving: NDArray[np.int64]

    @classmethod
    def of(cls, starts: Floats, left: Floats) -> Busy:
        """Return how many were being served, by when each began and left."""
        begun = ~np.isnan(starts)
        times = np.concatenate([starts[begun], left[begun]])
        steps = np.repeat([1, -1], [begun.sum(), begun.sum()])
        moments, place = np.unique(times, return_inverse=True)
        changes = np.bincount(place, weights=steps, minlength=len(moments))
        return cls(moments, np.cumsum(changes).astype(np.int64))

    def pace(self, slowdown: float) -> Floats:
        """Return the work done per second for each of those served, between the times; see `server_model.py`."""
        return 1.0 / (1.0 + slowdown * np.maximum(self.serving - 1, 0))

    def work_clock(self, slowdown: float) -> Floats:
        """Return what a clock shows at the times that goes at this pace: differences of it are work."""
        return np.concatenate([[0.0], np.cumsum(np.diff(self.times) * self.pace(slowdown)[:-1])])

    def work(self, begin: Floats, end: Floats, slowdown: float) -> Floats:
        """Return the work that was done from each beginning to its end: positive, whatever rounding did."""
        if not slowdown:
            return np.maximum(end - begin, _NO_WORK)
        clock = self.work_clock(slowdown)
        done = np.interp(end, self.times, clock) - np.interp(begin, self.times, clock)
        return np.maximum(np.asarray(done, dtype=np.float64), _NO_WORK)

    def pace_before(self, moment: Floats, slowdown: float) -> Floats:
        """Return the pace just before each moment."""
        places = np.maximum(np.searchsorted(self.times, moment, side="left") - 1, 0)
        return self.pace(slowdown)[places]

    def mean_count(self, begin: Floats, end: Floats) -> Floats:
        """Return how many were served on average from each beginning to its end."""
        area = np.concatenate([[0.0], np.cumsum(np.diff(self.times) * self.serving[:-1])])
        covered = np.interp(end, self.times, area) - np.interp(begin, self.times, area)
        return np.asarray(covered / np.maximum(end - begin, 1e-12), dtype=np.float64)
