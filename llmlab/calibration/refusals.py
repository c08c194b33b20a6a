"""Refusals that come of the server's state: a queue that is full (503), a rate limit that is used up (429).

What is refused by chance hits an empty server as often as a full one. A bound on the queue refuses everyone who finds
it full and no one else; a rate limit names a Retry-After that falls while one waits and grows with what is let in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from llmlab.calibration.findings import Found, Unknown, exactly, rounded
from llmlab.core.vocabulary import FailureReason

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from llmlab.calibration.visits import Visits

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

_FEWEST = 10
_MOST_MISSES = 0.02
_CLOSE = 0.02
"""How far off a rate limit's Retry-After may be, as a share of the time that one request refills."""


class Refusals(NamedTuple):
    """What was told of the server's own refusals.

    Attributes:
        natural: which attempts were refused by the server's state.
        settings: of a `ServerModel`.
        found, unknown: the rows of the report.
    """

    natural: Bools
    settings: dict[str, Any]
    found: list[Found]
    unknown: list[Unknown]


def refusals(attempts: pd.DataFrame, visits: Visits, at_server: Bools, slots: int | None) -> Refusals:
    """Return which attempts the server refused because of its state.

    Args:
        attempts: the recorded attempts.
        visits: the same as arrays.
        at_server: which of them were at the server.
        slots: how many it serves at once; `None` where that was not told.
    """
    reason = attempts["reason"].astype(object)
    busy = _full_queue(visits, at_server, reason.eq(FailureReason.OVERLOADED).to_numpy(), slots)
    limited = reason.eq(FailureReason.RATE_LIMITED).to_numpy()
    rate = _rate_limit(visits, at_server, limited, attempts["retry_after_s"].to_numpy(dtype=np.float64))
    return Refusals(
        busy.natural | rate.natural,
        {**busy.settings, **rate.settings},
        busy.found + rate.found,
        busy.unknown + rate.unknown,
    )


def _present_before(visits: Visits, at_server: Bools) -> NDArray[np.int64]:
    """Return how many were at the server when each came."""
    come_before = np.concatenate([[0], np.cumsum(at_server)[:-1]])
    left_before = np.searchsorted(np.sort(visits.left[at_server]), visits.came, side="right")
    return np.maximum(come_before - left_before, 0)  # who takes no time has left when it comes


def _full_queue(visits: Visits, at_server: Bools, refused: Bools, slots: int | None) -> Refusals:
    nothing = Refusals(np.zeros(len(refused), dtype=np.bool_), {}, [], [])
    if refused.sum() < _FEWEST:
        return nothing
    present = _present_before(visits, at_server)
    room = int(present[at_server].max()) + 1
    full = refused & (present >= room)
    allowed = _MOST_MISSES * full.sum()
    if full.sum() < max(_FEWEST, 0.5 * refused.sum()) or (at_server & (present >= room)).sum() > allowed:
        return nothing
    queue = max(room - (room if slots is None else slots), 0)
    how = f"{full.sum():,} refusals with {room} at the server, none with fewer than that but by chance"
    rows = [exactly("server.queue", queue, "requests", how)]
    settings: dict[str, Any] = {"queue": queue}
    if slots is None:
        settings["slots"] = room
        rows.append(exactly("server.slots", room, "requests", "nobody waited, and who found as many there was refused"))
    return Refusals(full, settings, rows, [])


def _rate_limit(visits: Visits, at_server: Bools, refused: Bools, asked: Floats) -> Refusals:
    nothing = Refusals(np.zeros(len(refused), dtype=np.bool_), {}, [], [])
    told = refused & ~np.isnan(asked)
    if told.sum() < _FEWEST or np.ptp(asked[told]) <= 1e-3 * float(np.median(asked[told])):
        return nothing  # always the same Retry-After, or none: by chance, as far as anyone can see
    let_in = np.concatenate([[0], np.cumsum(at_server)[:-1]])
    due, count, run = visits.came + asked, let_in, visits.run
    places = np.flatnonzero(told)
    steps = np.diff(count[places])
    same = (np.diff(run[places]) == 0) & (steps > 0)
    unknown = Unknown(
        "server.tokens_per_minute",
        "no limit on tokens; such refusals are taken for chance",
        "the server's Retry-After differs, and not as that of a limit on requests does",
        "requests of one length, so that a limit on tokens is one on requests",
    )
    if same.sum() < _FEWEST:
        return nothing._replace(unknown=[unknown])
    each = np.diff(due[places])[same] / steps[same]
    interval = float(np.median(each))
    if interval <= 0 or float(np.quantile(np.abs(each - interval), 0.5)) > _CLOSE * interval:
        return nothing._replace(unknown=[unknown])
    burst = _burst(visits, at_server, told, asked, interval)
    rate = rounded(60 / interval)
    ends = 60 / np.quantile(each, [0.75, 0.25])
    how = f"the Retry-After of {told.sum():,} refusals grew by {interval:.4g} s with each request let in"
    found = [
        Found("server.requests_per_minute", rate, float(ends[0]), float(ends[1]), "1/min", how),
        exactly("server.limit_burst", burst, "s", "the requests that were let in before the first was refused"),
    ]
    return Refusals(told, {"requests_per_minute": rate, "limit_burst": burst}, found, [])


def _burst(visits: Visits, at_server: Bools, told: Bools, asked: Floats, interval: float) -> float:
    """Return the token bucket's size in seconds, from when it would have been full again; see `server_limits.py`."""
    sizes = []
    full_at, opens = -np.inf, visits.opens
    for place in range(len(told)):
        now = visits.came[place]
        if opens[place]:
            full_at = -np.inf
        if told[place]:
            sizes.append(full_at + interval - now - asked[place])
        elif at_server[place]:
            full_at = max(full_at, now) + interval
    return rounded(max(float(np.median(sizes)), interval))
