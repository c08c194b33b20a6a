"""Yesterday's events under another policy: what would have been, and how much of that the log can say.

    counterfactual("events.jsonl", ClientPolicy(retry=RetryPolicy(max_retries=1)))

The calls arrive as they did and every attempt that was recorded ends as it did (`backends/replay.py`). What the log
cannot give is marked, and made up three times: as well as possible, as badly as possible, and as other attempts of the
log, drawn by chance. So a conclusion is an interval, as wide as what is not known. (That yesterday was one day of many
comes on top: see `analysis/compare.py` for that.)

One thing no log can tell: what the server would have made of another load. Here it answers what it answered, however
many attempts meet it. A policy that sends more than yesterday's did looks better here than it would have been where the
server was near its limit, and one that sends less looks worse. To ask that, fit a simulated server and run an
`Experiment`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from llmlab.analysis.frames import attempts_frame, calls_frame
from llmlab.analysis.summaries import summary
from llmlab.backends.recorded_events import RecordedEvents, recorded_events
from llmlab.backends.replay import ReplayBackend, Unknown
from llmlab.core.client import OUTERMOST
from llmlab.core.display import grid
from llmlab.core.event_log import EventLog
from llmlab.core.messages import LLMRequest
from llmlab.core.settings import SettingsError
from llmlab.core.vocabulary import FailureReason
from llmlab.experiments.arrivals import TraceArrivals
from llmlab.experiments.experiment import Experiment
from llmlab.experiments.workload import OpenLoop

if TYPE_CHECKING:
    from llmlab.backends.recorded_events import Events
    from llmlab.backends.replay import MadeUp
    from llmlab.core.policy import ClientPolicy

METRICS = ("success_rate", "attempts_per_call", "latency_p50_s", "latency_p95_s", "wasted_server_s")
"""The columns of `summary` that are compared."""

_SAME_TIME_S = 0.001
_UNSENT = {FailureReason.EMPTY_PROMPT, FailureReason.INVALID_REQUEST}
_UNFITTING = {FailureReason.MALFORMED_OUTPUT, FailureReason.TRUNCATED_OUTPUT}


class Replayed(NamedTuple):
    """One run of yesterday's calls: its frames, each with a column more.

    `attempts` have `unknown`: why the log could not give the answer, nothing where it could. `calls` have `known`:
    whether it gave all of the call's answers.
    """

    calls: pd.DataFrame
    attempts: pd.DataFrame


class Counterfactual(NamedTuple):
    """Yesterday, and what another policy would have made of it.

    Attributes:
        yesterday: what was recorded; everything of it is known.
        best: under the other policy, what is not known being as good as it can be: answered at once.
        worst: the same, what is not known being as bad as it can be: no answer comes.
        resampled: the same, what is not known being drawn from the other attempts of the log.
    """

    yesterday: Replayed
    best: Replayed
    worst: Replayed
    resampled: Replayed

    @property
    def known(self) -> float:
        """The share of calls for which the log gave every answer, whatever was made up for others."""
        every = self.best.calls["known"].to_numpy() & self.worst.calls["known"].to_numpy()
        return float(np.mean(every & self.resampled.calls["known"].to_numpy()))

    @property
    def moved(self) -> float:
        """The share of known answers that were asked for at another time than yesterday, by more than a millisecond."""
        known = self.worst.attempts[self.worst.attempts["unknown"].isna()]
        keys = ["call", "attempt"]
        both = known.merge(self.yesterday.attempts, on=keys, suffixes=("", "_then"))
        if both.empty:
            return 0.0
        return float(np.mean(np.abs(both["started_at_s"] - both["started_at_s_then"]) > _SAME_TIME_S))

    @property
    def unknown(self) -> dict[str, int]:
        """How many attempts were made up in the worst case, by reason."""
        counts = self.worst.attempts["unknown"].value_counts()
        return {str(why): int(counts.get(why, 0)) for why in Unknown if counts.get(why, 0)}

    def table(self) -> pd.DataFrame:
        """Return the comparison: a row for each of `METRICS`, with the columns yesterday, best, resampled and worst."""
        order = {"yesterday": self.yesterday, "best": self.best, "resampled": self.resampled, "worst": self.worst}
        rows = {name: summary(run.calls, run.attempts).iloc[0] for name, run in order.items()}
        return pd.DataFrame({name: [float(row[metric]) for metric in METRICS] for name, row in rows.items()}, METRICS)

    def __str__(self) -> str:
        """Say what is known, compare, and say what no log can tell."""
        return f"{self._heading()}\n\n{self.table().to_string(float_format='{:.4g}'.format)}\n\n{self._caveat()}"

    def _repr_html_(self) -> str:
        table = self.table()
        rows = [[metric, *row] for metric, row in zip(table.index, table.to_numpy().tolist(), strict=True)]
        return grid(self._heading(), ["", *table], rows, note=self._caveat())

    def _heading(self) -> str:
        made_up = ", ".join(f"{count} {why}" for why, count in self.unknown.items()) or "none"
        return (
            f"{len(self.yesterday.calls)} calls of yesterday under another policy; of {self.known:.1%} the log gives "
            f"every answer. Attempts made up in the worst case: {made_up}."
        )

    def _caveat(self) -> str:
        return (
            f"Of the known answers {self.moved:.1%} were asked for at another time than yesterday. The server answers "
            "as it did: what it would have made of another load (its queue, its limits) no log can tell."
        )


def counterfactual(events: Events, policy: ClientPolicy, *, layer: str | None = None, seed: int = 0) -> Counterfactual:
    """Run yesterday's calls under another policy, and mark every answer that the log cannot give.

    Args:
        events: an `EventLog`, a `SweepResult` of one run, the name of a file that a `JsonLinesObserver` wrote, or the
            events themselves; attempts and calls. Calls that had not ended are left out.
        policy: the other policy. Of a policy's limits in tokens the recorded input tokens are taken.
        layer: which client's events, where clients were stacked; `None` means the outermost. What is inside it stays
            as it was.
        seed: fixes the client's own chance (jitter), and what is drawn for unknown answers.

    Raises:
        SettingsError: the events are of no such kind, of several runs, or hold no attempt or no call.
        OSError: the file cannot be read.
    """
    found = recorded_events(events, layer)
    if not found.calls:
        raise SettingsError("the events hold no calls, only attempts; give the EventLog, the file or the SweepResult")
    then = _from_the_start(found)
    workload = OpenLoop(
        arrivals=TraceArrivals(recorded=[call.arrived_at_s for call in then.calls]), requests=_requests(then)
    )

    def under(made_up: MadeUp) -> Replayed:
        backend = ReplayBackend(then.attempts, made_up=made_up, seed=seed)
        log = Experiment(backend=backend, policy=policy, workload=workload, seed=seed).record().log
        return _marked(log, backend.unknown)

    return Counterfactual(_marked(_as_log(then), {}), under("best"), under("worst"), under("resample"))


def _from_the_start(found: RecordedEvents) -> RecordedEvents:
    """Return the events with calls numbered from 0 as they arrived, and the time of the first arrival as 0."""
    calls = sorted(found.calls, key=lambda call: (call.arrived_at_s, call.call))
    start = calls[0].arrived_at_s
    number = {call.call: place for place, call in enumerate(calls)}
    attempts = [_shifted(one, number[one.call], start) for one in found.attempts if one.call in number]
    return RecordedEvents(attempts, [_shifted(call, number[call.call], start) for call in calls])


def _shifted(event: Any, call: int, start: float) -> Any:
    times = {name: getattr(event, name) - start for name in event._fields if name.endswith("_at_s")} if start else {}
    return event._replace(call=call, layer=OUTERMOST, **times)


def _requests(then: RecordedEvents) -> list[LLMRequest]:
    """Return what each call asked, as far as its events tell: its length, whether it wanted JSON, whether it was sent.

    What could not be sent then cannot be sent now, and what did not fit a format had one.
    """
    read: dict[int, float] = {}
    unfitting = set()
    for attempt in then.attempts:
        if attempt.input_tokens == attempt.input_tokens:
            read[attempt.call] = attempt.input_tokens
        if attempt.reason in _UNFITTING and attempt.finish_reason is not None:
            unfitting.add(attempt.call)
    kinds: dict[tuple[int, bool, bool], LLMRequest] = {}
    return [
        kinds.setdefault(kind, _request(*kind))
        for kind in (
            (int(read.get(call.call, 1)), call.call in unfitting, not call.attempts and call.reason in _UNSENT)
            for call in then.calls
        )
    ]


def _request(tokens: int, as_json: bool, unsent: bool) -> LLMRequest:
    if unsent:
        return LLMRequest(prompt="")
    return LLMRequest(prompt="?" * max(1, 4 * tokens), response_format="json" if as_json else None)


def _as_log(then: RecordedEvents) -> EventLog:
    log = EventLog()
    for attempt in then.attempts:
        log.on_attempt(attempt)
    for call in then.calls:
        log.on_call(call)
    return log


def _marked(log: EventLog, unknown: dict[Any, Unknown]) -> Replayed:
    attempts, calls = attempts_frame(log), calls_frame(log)
    keys = zip(attempts["call"], attempts["attempt"], strict=True)
    words = [unknown.get(key) for key in keys]
    attempts["unknown"] = pd.Categorical([None if word is None else str(word) for word in words], list(Unknown))
    calls["known"] = ~calls["call"].isin({call for call, _ in unknown})
    return Replayed(calls.sort_values("call", ignore_index=True), attempts)
