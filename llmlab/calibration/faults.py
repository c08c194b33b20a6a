"""The faults behind the failures: from reasons and statuses back through the table of `fault_kinds.py`.

Several faults can look the same to a client. The report names the one that is put into the backend, and those that it
cannot be told from. Failures that come of the server's state (`refusals.py`), of the client or of the request are no
faults.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from llmlab.analysis.stats import wilson
from llmlab.backends.fault_kinds import FAULTS, FaultKind
from llmlab.backends.fault_schedule import Burst
from llmlab.calibration.bursts import Bursts, fit_bursts
from llmlab.calibration.findings import Found, Unknown, exactly, rounded
from llmlab.core.vocabulary import FailureReason

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from llmlab.calibration.visits import Visits

    Bools = NDArray[np.bool_]

_R, _K = FailureReason, FaultKind
_ENOUGH_BURSTS = 10
_ALIKE = {
    (_R.ATTEMPT_TIMEOUT, 0): (_K.TIMEOUT, _K.STALL, _K.SLOW_DRIP, _K.CONNECT_STALL),
    (_R.ATTEMPT_TIMEOUT, 200): (_K.STALL, _K.SLOW_DRIP),
    (_R.CONNECTION_FAILED, 0): (_K.CONNECTION_ERROR, _K.CONNECT_STALL),
}
"""Faults of whom the table says that a client's own bounds decide what it meets; the first is put in."""
_NOT_OF_THE_SERVER = {
    _R.INVALID_REQUEST: "the requests",
    _R.CONTEXT_LENGTH_EXCEEDED: "the requests",
    _R.MODEL_NOT_FOUND: "the requests",
    _R.NOT_AUTHORISED: "the credentials",
    _R.CANCELLED: "the caller",
    _R.CRASHED: "a bug",
    _R.TOTAL_DEADLINE_EXCEEDED: "the caller's deadline",
}


class FaultMix(NamedTuple):
    """The faults that were told.

    Attributes:
        settings: of a `Faults`.
        found, unknown: the rows of the report.
    """

    settings: dict[str, Any]
    found: list[Found]
    unknown: list[Unknown]


def kinds_of(reason: str, status: int) -> tuple[FaultKind, ...]:
    """Return the faults that a client meets as this reason and status: the likeliest first; none for other failures."""
    word = FailureReason(reason)
    if (word, status) in _ALIKE:
        return _ALIKE[word, status]
    same = [kind for kind, row in FAULTS.items() if row.reason == word]
    exact = [kind for kind in same if FAULTS[kind].status_code in {status, None}]
    return tuple(exact or [kind for kind in same if FAULTS[kind].status_code is not None and status >= 500][:1])


def fault_mix(attempts: pd.DataFrame, visits: Visits, natural: Bools) -> FaultMix:
    """Return how probable each fault is, and in which bursts it comes.

    Args:
        attempts: the recorded attempts.
        visits: the same as arrays.
        natural: which failures come of the server's state.
    """
    kinds, others = _by_kind(attempts, natural)
    before = np.zeros(len(natural), dtype=np.bool_)
    for (kind, *_), met in kinds.items():
        if FAULTS[kind].place in {"connection", "refusal"}:
            before |= met
    settings: dict[str, Any] = {}
    found, unknown, schedule = [], list(others), []
    for alike, met in sorted(kinds.items(), key=lambda item: list(FaultKind).index(item[0][0])):
        kind = alike[0]
        early = FAULTS[kind].place in {"connection", "refusal"}
        looked = np.ones_like(met) if early else ~natural & ~before
        seen = 1.0 if early else 1.0 - float(before.mean())
        bursts = fit_bursts(visits.came[looked], met[looked], visits.where(looked).opens)
        if bursts is None:
            found.append(_probability(kind, met, looked, seen))
            settings[kind] = found[-1].value
        else:
            rows = _burst_rows(kind, bursts)
            found += rows
            schedule.append(_burst(kind, bursts))
            settings |= {str(kind): bursts.otherwise} if bursts.otherwise > 1e-4 else {}
            unknown += _few_bursts(kind, bursts)
        if len(alike) > 1:
            names = ", ".join(alike[1:])
            unknown.append(Unknown(f"faults.{kind}", f"all of them are {kind}", f"{names} would look the same", ""))
    settings |= {"schedule": tuple(schedule)} if schedule else {}
    retry_after, rows = _retry_after(attempts, before, natural)
    return FaultMix(settings | retry_after, found + rows, unknown)


def _by_kind(attempts: pd.DataFrame, natural: Bools) -> tuple[dict[tuple[FaultKind, ...], Bools], list[Unknown]]:
    reasons, statuses = attempts["reason"].astype(object).to_numpy(), attempts["status_code"].to_numpy()
    failed = ~attempts["answered"].to_numpy() & ~natural
    kinds: dict[tuple[FaultKind, ...], Bools] = {}
    others = []
    for reason, status in sorted({(str(reasons[place]), int(statuses[place])) for place in np.flatnonzero(failed)}):
        met = failed & (reasons == reason) & (statuses == status)
        alike = kinds_of(reason, status)
        if alike and reason not in _NOT_OF_THE_SERVER:
            kinds[alike] = kinds.get(alike, np.zeros_like(met)) | met
        else:
            whose = _NOT_OF_THE_SERVER.get(FailureReason(reason), "the client")
            why = f"{met.sum():,} attempts ended with it; it comes of {whose}"
            others.append(Unknown(f"faults ({reason})", "left out", why, ""))
    return kinds, others


def _probability(kind: FaultKind, met: Bools, looked: Bools, seen: float) -> Found:
    count, total = int(met.sum()), int(looked.sum())
    ends = wilson(count, total)
    how = f"{count:,} of {total:,} attempts"
    low, high = seen * float(ends.low), seen * float(ends.high)
    return Found(f"faults.{kind}", rounded(seen * count / total), low, high, "", how)


def _burst(kind: FaultKind, bursts: Bursts) -> Burst:
    return Burst(
        kind=kind, mean_good=bursts.mean_good, mean_bad=bursts.mean_bad, probability=min(bursts.probability, 1.0)
    )


def _burst_rows(kind: FaultKind, bursts: Bursts) -> list[Found]:
    how = f"failures come together (runs test); about {bursts.bad_times:.0f} bad times"
    reach = math.exp(1.96 / math.sqrt(max(bursts.bad_times, 1)))
    lengths = (("mean_good", bursts.mean_good), ("mean_bad", bursts.mean_bad))
    rows = [Found(f"faults.schedule.{kind}.{name}", s, s / reach, s * reach, "s", how) for name, s in lengths]
    rows.append(exactly(f"faults.schedule.{kind}.probability", bursts.probability, "", how))
    if bursts.otherwise > 1e-4:
        rows.append(exactly(f"faults.{kind}", bursts.otherwise, "", "outside of the bad times"))
    return rows


def _few_bursts(kind: FaultKind, bursts: Bursts) -> list[Unknown]:
    if bursts.bad_times >= _ENOUGH_BURSTS:
        return []
    why = f"only about {bursts.bad_times:.0f} bad times were seen, so their lengths are known roughly"
    hours = _ENOUGH_BURSTS * (bursts.mean_good + bursts.mean_bad)
    return [Unknown(f"faults.schedule.{kind}", "as found", why, f"measure for {hours:,.0f} s or longer")]


def _retry_after(attempts: pd.DataFrame, before: Bools, natural: Bools) -> tuple[dict[str, Any], list[Found]]:
    """Return the Retry-After that comes with refusals by chance, and with which of them."""
    asked = attempts["retry_after_s"].to_numpy(dtype=np.float64)
    sent = before & ~natural & ~np.isnan(asked)
    if not sent.any():
        return {}, []
    some = attempts[sent]
    pairs = sorted(
        {(str(reason), int(status)) for reason, status in zip(some["reason"], some["status_code"], strict=True)}
    )
    kinds = [
        kind for reason, status in pairs for kind in kinds_of(reason, status)[:1] if FAULTS[kind].place == "refusal"
    ]
    wait = rounded(float(np.median(asked[sent])))
    how = f"{sent.sum():,} refusals: {', '.join(kinds)}"
    return {"retry_after": wait, "retry_after_with": tuple(kinds)}, [exactly("faults.retry_after", wait, "s", how)]
