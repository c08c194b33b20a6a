"""`calibrate`: recorded events in, a simulated server out.

The order of the work: which attempts were at the server (`visits.py`), its slots and pace (`service.py`, `pace.py`),
its cold starts (`cold_starts.py`), which refusals come of its state (`refusals.py`), and at last, of what is left, the
faults (`faults.py`). Each step says what it found and what it could not tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from llmlab.backends.distributions import Constant
from llmlab.backends.faults import FAULTS, Faults
from llmlab.backends.mock import MockBackend
from llmlab.backends.server_model import ServerModel
from llmlab.calibration.calibration import Calibration
from llmlab.calibration.cold_starts import ColdStarts, cold_starts
from llmlab.calibration.faults import fault_mix, kinds_of
from llmlab.calibration.findings import Found, Unknown, exactly, found_frame, rounded, unknown_frame
from llmlab.calibration.pace import Pace, output_tokens, pace_of, refusal_time, rows_of
from llmlab.calibration.refusals import Refusals, refusals
from llmlab.calibration.service import Candidates, fit_service, refit
from llmlab.calibration.surprise import EVIDENCE
from llmlab.calibration.traffic import policy_seen, requests_like, traffic_of
from llmlab.calibration.visits import CUT_SHORT, Events, Visits, recorded, visits_of
from llmlab.core.settings import SettingsError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from llmlab.calibration.families import Fit
    from llmlab.calibration.visits import Recording
    from llmlab.core.policy import ClientPolicy

    Bools = NDArray[np.bool_]

_NO_BOUND = 100_000
"""Slots of a server of which nobody has seen that it has too few."""
_RUNS_UP_TO = 0.8
"""Where answers take up to this share of what a client waits for, those it did not wait for were slow and not lost."""
_SERVICE_TIME = "server.service_time"
_TOKENS_OF_TEXT = 7
"""Of a `MockBackend`'s own text."""


def calibrate(events: Events) -> Calibration:
    """Return a simulated server that behaves as the recorded one did, with a report of what is known of it.

        calibration = calibrate("events.jsonl")     # what a JsonLinesObserver wrote in your application
        calibration.predict(1, 4, 16)               # throughput, p50, p95 and failure rate by users
        calibration.validate("other.jsonl")         # measured against predicted

    It takes a load with more users than the server has slots to tell the slots, one with a single user to tell the
    pace of one request, prompts of different lengths for the prefill rate, and streamed answers for most of it:
    `calibration.unknown` says what was missing. About 2,000 attempts of several loads serve well.

    Args:
        events: a `SweepResult` (also `Experiment.run()`), an `EventLog`, a frame of attempts, frames
            `(attempts, calls)`, the folder of a stored sweep, or a file that a `JsonLinesObserver` wrote.

    Raises:
        SettingsError: there are no attempts, none was answered, or they are of several backends or layers.
        OSError: a store cannot be read.
    """
    recording = recorded(events)
    visits = visits_of(recording)
    if not visits.answered.any():
        raise SettingsError("no attempt was answered, so nothing can be told of the server; record some that were")
    fit = _fit_server(visits)
    told = fit.candidates.best.slots if fit.candidates is not None and fit.candidates.slots_told else None
    refused = refusals(recording.attempts, visits, fit.at_server, told)
    natural = refused.natural | (visits.cut & fit.at_server)
    faults = fault_mix(recording.attempts, visits, natural)
    tokens, token_rows = output_tokens(visits)
    settings, rows = _backend_settings(fit, refused, tokens), fit.pace.found
    if "latency" in settings:
        rows = [row._replace(parameter=row.parameter.replace(_SERVICE_TIME, "latency")) for row in rows]
    took = _refusals_took(recording.attempts)
    if took is not None:
        settings["refusal_latency"] = took.distribution
    backend = MockBackend(faults=Faults(**faults.settings), **settings)
    found = _slots_rows(fit.candidates) + rows + token_rows + fit.cold.found + refused.found
    found += [] if took is None else rows_of(took, "refusal_latency", "s")
    unknown = _slots_unknown(fit.candidates, refused) + fit.pace.unknown + fit.cold.unknown + refused.unknown
    return Calibration(
        backend=backend,
        report=found_frame(found + faults.found),
        unknown=unknown_frame(unknown + fit.unknown + faults.unknown),
        policy=_policy(recording),
        requests=requests_like(visits.call, visits.read),
        attempts=len(recording.attempts),
    )


class _ServerFit(NamedTuple):
    """The server without its faults: `at_server` are the attempts that it is fitted to."""

    at_server: Bools
    candidates: Candidates | None
    pace: Pace
    cold: ColdStarts
    unknown: list[Unknown]


def _fit_server(visits: Visits) -> _ServerFit:
    """Return the server under which the attempts are least surprising."""
    reached = visits.served | visits.broken
    at_server, unknown = reached, []
    candidates = fit_service(visits.where(reached))
    if visits.cut.any():
        with_cut = fit_service(visits.where(reached | visits.cut))
        if _were_there(visits, candidates, with_cut):
            at_server, candidates = reached | visits.cut, with_cut
            why = f"the {visits.cut.sum():,} attempts that the client ended look like slow answers"
            unknown.append(Unknown("faults.timeout", "0", why, "the same load with a longer attempt_timeout"))
    present = visits.where(at_server)
    if candidates is None:
        return _too_few(visits, at_server)
    pace = pace_of(present, candidates.best)
    cold = cold_starts(present, candidates.best, pace)
    candidates = refit(present, candidates, cold.loads)
    return _ServerFit(at_server, candidates, pace_of(present, candidates.best), cold, unknown)


def _were_there(visits: Visits, without: Candidates | None, with_cut: Candidates | None) -> bool:
    """Whether attempts that their client ended had been at the server: it fits better so, or answers come as late."""
    if with_cut is None or without is None:
        return with_cut is not None
    gain = (without.best.surprise - with_cut.best.surprise) * with_cut.best.used.sum()
    if abs(gain) > EVIDENCE and (with_cut.slots_told or without.slots_told):
        return bool(gain > 0)
    took = visits.left - visits.came
    return bool(took[visits.answered].max() > _RUNS_UP_TO * np.median(took[visits.cut]))


def _too_few(visits: Visits, at_server: Bools) -> _ServerFit:
    """Return a server of which only that is known that it has answered."""
    middle = float(np.median((visits.left - visits.came)[visits.answered]))
    count = int(visits.answered.sum())
    found = [exactly("server.service_time.value", middle, "s", f"the median of {count} answers")]
    why = f"only {count} attempts were answered"
    unknown = [Unknown("server", "every answer takes equally long", why, "record 100 answered calls or more")]
    pace = Pace({"service_time": Constant(value=middle)}, None, found, unknown)
    return _ServerFit(at_server, None, pace, ColdStarts({}, {}, [], []), [])


def _backend_settings(fit: _ServerFit, refused: Refusals, tokens: Any) -> dict[str, Any]:
    """Return the settings of the backend but for its faults: with a server model where there is anything to put in."""
    settings: dict[str, Any] = {} if fit.pace.share is None else {"first_token_share": fit.pace.share}
    server = {**fit.cold.settings, **refused.settings}
    candidates = fit.candidates
    if candidates is not None and candidates.slots_told:
        server["slots"] = candidates.best.slots
    if candidates is not None and candidates.best.slowdown:
        server["batch_slowdown"] = rounded(candidates.best.slowdown)
    constant = isinstance(tokens, Constant)
    if not server and "service_time" in fit.pace.settings and (tokens is None or constant):
        if constant and round(tokens.value) != _TOKENS_OF_TEXT:
            settings["text"] = "word" * round(tokens.value)
        return {**settings, "latency": fit.pace.settings["service_time"]}
    if tokens is not None:
        server["output_tokens"] = tokens
    return {**settings, "server": ServerModel(**{"slots": _NO_BOUND, **server, **fit.pace.settings})}


def _refusals_took(attempts: pd.DataFrame) -> Fit | None:
    """Return how long a refusal takes."""
    reasons, statuses = attempts["reason"].astype(object).to_numpy(), attempts["status_code"].to_numpy()
    at_once = np.zeros(len(attempts), dtype=np.bool_)
    for place in np.flatnonzero(~attempts["answered"].to_numpy()):
        if reasons[place] not in CUT_SHORT:
            kinds = kinds_of(reasons[place], int(statuses[place]))
            at_once[place] = bool(kinds) and (FAULTS[kinds[0]].place == "refusal" or kinds[0] == "connection_error")
    return refusal_time(attempts["latency_s"].to_numpy()[at_once], attempts["call"].to_numpy()[at_once])


def _slots_rows(candidates: Candidates | None) -> list[Found]:
    if candidates is None:
        return []
    rows: list[Found] = []
    if candidates.slots_told:
        how = f"under {candidates.best.slots} the {candidates.best.used.sum():,} answers are least surprising"
        rows.append(Found("server.slots", candidates.best.slots, *candidates.slots_range, "requests", how))
    if candidates.slowdown_told:
        low, high = candidates.slowdown_range
        how = "how much longer work took while more were served"
        rows.append(Found("server.batch_slowdown", candidates.best.slowdown, low, high, "", how))
    return rows


def _slots_unknown(candidates: Candidates | None, refused: Refusals) -> list[Unknown]:
    if candidates is None:
        return []
    rows, most = [], candidates.most_present
    if not candidates.slots_told and "slots" not in refused.settings:
        why = f"never more than {most} were at the server at once, and nobody waited for a slot"
        advice = f"{2 * most} users or more, until throughput no longer grows"
        rows.append(Unknown("server.slots", "no bound", why, advice))
    if not candidates.slowdown_told:
        why = "as many were served at once all the time"
        advice = "2 users or more" if most == 1 else "1 user as well"
        rows.append(Unknown("server.batch_slowdown", "0, at the pace that was seen", why, advice))
    return rows


def _policy(recording: Recording) -> ClientPolicy:
    if recording.calls.empty:
        return policy_seen(recording.attempts)
    return traffic_of(recording, None).policy
