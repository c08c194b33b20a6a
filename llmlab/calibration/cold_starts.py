"""Cold starts: the attempts that a model was loaded for, and after how long without work it is unloaded.

Only an attempt that finds nobody else at the server can meet a server without its model. Whether it did shows in the
time to its first token: it is longer than the law of service explains, by more than that of any attempt which came
while others were served.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from llmlab.backends.distributions import Constant, Empirical
from llmlab.calibration.families import fit_distribution
from llmlab.calibration.findings import Found, Unknown, exactly, rounded
from llmlab.calibration.pace import rows_of
from llmlab.calibration.service import idle_before
from llmlab.calibration.surprise import RESOLUTION

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from llmlab.calibration.pace import Pace
    from llmlab.calibration.surprise import Service
    from llmlab.calibration.visits import Visits

    Floats = NDArray[np.float64]

_ENOUGH_FOR_A_FAMILY = 20
_BEYOND = 1.5
"""How many times as large as what is usual an excess must be."""


class ColdStarts(NamedTuple):
    """What was told of cold starts.

    Attributes:
        loads: how long a model was loaded, in seconds, by the place of the attempt that it was loaded for.
        settings: of a `ServerModel`.
        found, unknown: the rows of the report.
    """

    loads: dict[int, float]
    settings: dict[str, Any]
    found: list[Found]
    unknown: list[Unknown]


def cold_starts(visits: Visits, service: Service, pace: Pace) -> ColdStarts:
    """Return which attempts met a server without its model."""
    excess = _excess(visits, service, pace)
    idle, known = idle_before(visits), ~np.isnan(excess)
    alone = np.isinf(idle) | ((idle > 0) & (visits.came > 0))
    usual = excess[known & service.used]
    latency = float(np.median(visits.left - visits.came))
    limit = 10 * RESOLUTION * latency
    if usual.size:
        limit = max(limit, _BEYOND * float(np.quantile(usual, 0.995)))
    cold = known & alone & (excess > limit)
    places = np.flatnonzero(cold)
    if places.size == 0:
        return ColdStarts({}, {}, [], [_not_seen(idle)])
    loads = {int(place): float(excess[place]) for place in places}
    settings, found, unknown = _keep_alive(idle, cold, known & alone)
    values = np.array([rounded(value) for value in excess[places]])
    spread = float(np.ptp(values)) / float(np.median(values))
    how = f"{len(values)} attempts that found the server idle waited longer for their first token"
    if len(values) >= _ENOUGH_FOR_A_FAMILY:
        fit = fit_distribution(values, visits.call[places])
        settings["load_time"], rows = fit.distribution, rows_of(fit, "server.load_time", "s")
    elif spread <= 0.05:
        settings["load_time"] = Constant(value=float(np.median(values)))
        rows = [Found("server.load_time", float(np.median(values)), float(values.min()), float(values.max()), "s", how)]
    else:
        settings["load_time"] = Empirical(values=values.tolist())
        rows = [exactly("server.load_time.p50", float(np.median(values)), "s", how)]
    return ColdStarts(loads, settings, rows + found, unknown)


def _excess(visits: Visits, service: Service, pace: Pace) -> Floats:
    """Return how much later than expected each attempt's service must have begun; NaN where nothing tells."""
    begun = visits.served & ~np.isnan(service.starts) & (visits.left > service.starts)
    timed = bool((~np.isnan(visits.first[service.used])).all())
    if timed:
        begun &= (visits.first > service.starts) & (visits.first < visits.left)
    phases = service.phases(visits, begun)
    until = visits.first[begun] if timed else visits.left[begun]
    clock = service.busy.work_clock(service.slowdown)
    at = np.interp(until, service.busy.times, clock) - pace.before_first_token(phases)
    excess = np.full(len(visits.came), np.nan)
    excess[begun] = np.interp(at, clock, service.busy.times) - service.starts[begun]
    return excess


def _keep_alive(idle: Floats, cold: NDArray[np.bool_], alone: NDArray[np.bool_]) -> tuple[Any, Any, Any]:
    """Return the idle time after which the model was gone, between the longest warm pause and the shortest cold one."""
    paused = alone & np.isfinite(idle)
    warm, gone = idle[paused & ~cold], idle[paused & cold]
    longest = float(warm.max(initial=0.0))
    if gone.size == 0:
        why = f"no model was loaded after a pause; the longest was {longest:.3g} s"
        advice = "pause for longer between calls, or read it from the server's settings"
        return {}, [], [Unknown("server.keep_alive", "never unloaded", why, advice)]
    shortest = float(gone.min())
    if longest > shortest:  # a few cold ones among the warm, or the other way round: halve the mistakes
        longest, shortest = sorted((float(np.quantile(warm, 0.95)), float(np.quantile(gone, 0.05))))
    middle = rounded((longest + shortest) / 2)
    how = "between the longest pause without a load after it and the shortest with one"
    return {"keep_alive": middle}, [Found("server.keep_alive", middle, longest, shortest, "s", how)], []


def _not_seen(idle: Floats) -> Unknown:
    longest = float(np.max(idle[np.isfinite(idle)], initial=0.0))
    why = f"no attempt after a pause stood out; the longest pause was {longest:.3g} s"
    if math.isclose(longest, 0.0):
        why = "the first attempts of the runs did not stand out, and there was no pause"
    advice = "restart the server, or pause for longer than it keeps a model, and make a streamed call"
    return Unknown("server.load_time", "every model is loaded at all times", why, advice)
