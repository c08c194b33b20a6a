"""What clients recorded, as arrays: the attempts of all runs on one time axis, and which of them were at the server.

Input is what an `Experiment`, a sweep or a `JsonLinesObserver` recorded: data frames, a result, or a place on disk.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from llmlab.analysis.frames import attempts_frame, calls_frame, parameter_columns
from llmlab.analysis.groups import Groups
from llmlab.core.event_log import EventLog
from llmlab.core.events import ATTEMPT_COLUMNS, AttemptEvent
from llmlab.core.settings import SettingsError
from llmlab.core.vocabulary import FailureReason
from llmlab.experiments.sweep_result import SweepResult
from llmlab.observers import read_json_lines

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

Events = SweepResult | EventLog | pd.DataFrame | tuple[pd.DataFrame, pd.DataFrame] | str | os.PathLike[str]
"""What was recorded: a result, a log, attempts (or attempts and calls) as frames, a store's folder, or a file of JSON
lines."""

RUN = "run"
_R = FailureReason
_SPOILT = {_R.EMPTY_OUTPUT, _R.MALFORMED_OUTPUT, _R.TRUNCATED_OUTPUT, _R.REFUSED}
_BROKEN = {_R.CONNECTION_LOST, _R.MALFORMED_RESPONSE}
CUT_SHORT = (_R.ATTEMPT_TIMEOUT, _R.TOTAL_DEADLINE_EXCEEDED, _R.CANCELLED)
"""Reasons of attempts that the client ended; whether the server was at work on them the events do not say."""
_TURNED_AWAY = (429, 503)
_BETWEEN_RUNS = 1.0
"""Seconds between two runs on the common time axis; that nobody is there in between is all that counts."""


class Recording(NamedTuple):
    """What was recorded: attempts and calls, one a row, and what tells runs apart.

    Attributes:
        attempts: the columns of `ATTEMPT_COLUMNS` with the derived ones, in order of their starts within each run.
        calls: likewise; no rows where only attempts were given.
        runs: the columns by whose values runs are told apart.
        settings: those of the experiment by path, where they are known.
    """

    attempts: pd.DataFrame
    calls: pd.DataFrame
    runs: list[str]
    settings: Mapping[str, Any]


def recorded(events: Events) -> Recording:
    """Return what was recorded, from any of the forms that it is kept in.

    Raises:
        SettingsError: there are no attempts, they are of several backends or layers, or the input is of another kind.
        OSError: a file or store cannot be read.
    """
    source = ""
    if isinstance(events, str | os.PathLike):
        source = f"{os.fspath(events)}: "
        events = _read(Path(events))
    attempts, calls, settings = _frames(events)
    missing = [column.name for column in ATTEMPT_COLUMNS if column.name not in attempts.columns]
    if missing:
        raise SettingsError(f"these are no attempts: the columns {', '.join(missing)} are missing")
    if attempts.empty:
        advice = "give what a JsonLinesObserver wrote of some calls" if source else "make some calls, or run longer"
        raise SettingsError(f"{source}there are no attempts to calibrate by; {advice}")
    for column, advice in (("backend", "calibrate one at a time"), ("layer", "take the one that met the server")):
        found = [str(value) for value in attempts[column].unique()]
        if len(found) > 1:
            names = ", ".join(found)
            raise SettingsError(f"attempts of several {column}s: {names}; {advice}: attempts[attempts.{column} == ...]")
    if "latency_s" not in attempts.columns:
        attempts = attempts.assign(
            latency_s=attempts["ended_at_s"] - attempts["started_at_s"], answered=attempts["reason"].isna()
        )
    runs = parameter_columns(attempts)
    refused = attempts["status_code"].isin(_TURNED_AWAY)  # of those who come at once, some are let in first
    keys = [attempts["call"], refused, attempts["started_at_s"], Groups(attempts, runs).codes]
    order = np.lexsort([np.asarray(key) for key in keys])
    return Recording(attempts.iloc[order].reset_index(drop=True), calls, runs, settings)


def _read(path: Path) -> SweepResult | tuple[pd.DataFrame, pd.DataFrame]:
    if path.is_dir():
        return SweepResult.load(path)
    try:
        return _json_lines(path)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise SettingsError(f"{error}; give what a JsonLinesObserver wrote, or a sweep's folder") from None


def _json_lines(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the events of a file; where call numbers begin anew, another run has continued it."""
    log, attempt_runs, call_runs = EventLog(), [], []
    seen: set[tuple[str, int, int]] = set()
    run = 0
    for event in read_json_lines(path):
        if not isinstance(event, AttemptEvent):
            log.on_call(event)
            call_runs.append(run)
            continue
        key = (event.layer, event.call, event.attempt)
        if key in seen:
            run, seen = run + 1, set()
        seen.add(key)
        log.on_attempt(event)
        attempt_runs.append(run)
    attempts, calls = attempts_frame(log), calls_frame(log)
    return attempts.assign(**{RUN: attempt_runs}), calls.assign(**{RUN: call_runs})


def _frames(events: Any) -> tuple[pd.DataFrame, pd.DataFrame, Mapping[str, Any]]:
    if isinstance(events, SweepResult):
        return events.attempts, events.calls, events.settings
    if isinstance(events, EventLog):
        return attempts_frame(events), calls_frame(events), {}
    if isinstance(events, pd.DataFrame):
        return events, pd.DataFrame(), {}
    if isinstance(events, tuple) and len(events) == 2 and all(isinstance(one, pd.DataFrame) for one in events):
        return events[0], events[1], {}
    kinds = "a SweepResult, an EventLog, a frame of attempts, (attempts, calls), or a path"
    raise SettingsError(f"events must be {kinds}, got a {type(events).__name__}")


class Visits(NamedTuple):
    """Attempts as arrays, in order of coming; times in seconds, runs one after another.

    Attributes:
        came, left: when each was sent, and when it ended.
        first: when its first token came; NaN where nobody knows.
        read, wrote: tokens; NaN where nobody knows.
        call: the number of its call. Runs share numbers: those of a sweep share their chance and prompts as well.
        answered: whether it was answered.
        served: whether the server did all its work on it: it was answered, or answered with a text of no use.
        broken: whether its answer broke off.
        cut: whether the client ended it.
        run: the number of its run.
    """

    came: Floats
    left: Floats
    first: Floats
    read: Floats
    wrote: Floats
    call: NDArray[np.int64]
    answered: Bools
    served: Bools
    broken: Bools
    cut: Bools
    run: NDArray[np.int64]

    @property
    def opens(self) -> Bools:
        """Which are the first of their run."""
        return np.asarray(np.diff(self.run, prepend=-1) != 0)

    def where(self, mask: Bools) -> Visits:
        """Return those that a mask selects."""
        return Visits(**{name: values[mask] for name, values in self._asdict().items()})


def visits_of(recording: Recording) -> Visits:
    """Return all attempts of a recording as arrays."""
    attempts = recording.attempts
    run = Groups(attempts, recording.runs).codes
    begun, ended = (attempts[name].to_numpy(dtype=np.float64) for name in ("started_at_s", "ended_at_s"))
    opens = np.diff(run, prepend=-1) != 0
    firsts = np.flatnonzero(opens)
    lasts = np.maximum.reduceat(ended, firsts)
    lengths = lasts - begun[firsts] + _BETWEEN_RUNS
    shift = np.concatenate([[0.0], np.cumsum(lengths)[:-1]]) - begun[firsts] if len(firsts) > 1 else np.zeros(1)
    reason = attempts["reason"].astype(object)
    status = attempts["status_code"].to_numpy()
    answered = reason.isna().to_numpy()
    broken = reason.isin(_BROKEN).to_numpy() | (reason.eq(_R.SERVER_ERROR).to_numpy() & (status == 200))
    came = begun + shift[np.cumsum(opens) - 1]
    return Visits(
        came=came,
        left=ended + shift[np.cumsum(opens) - 1],
        first=came + attempts["time_to_first_token_s"].to_numpy(dtype=np.float64),
        read=attempts["input_tokens"].to_numpy(dtype=np.float64),
        wrote=attempts["output_tokens"].to_numpy(dtype=np.float64),
        call=attempts["call"].to_numpy(dtype=np.int64),
        answered=answered,
        served=answered | reason.isin(_SPOILT).to_numpy(),
        broken=broken,
        cut=reason.isin(CUT_SHORT).to_numpy(),
        run=np.cumsum(opens) - 1,
    )
