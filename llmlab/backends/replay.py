"""`ReplayBackend`: answers as recorded, so that yesterday's events can be met again, by the same client or another.

The attempt number n of call number k gets the outcome that it had, after the time that it took. Under the policy and
seed of the recording everything is as it was, to the byte. Under another policy a client may ask for what the log does
not hold; such an answer is made up, in a way that is chosen, and *marked* in `unknown`, with the reason. No log can say
what the server would have made of another load: here it answers what it answered, whoever else asks.

Events hold neither requests nor texts nor models. So an answer is filled with a text of its recorded length in tokens,
or the simplest JSON that fits the request's `response_format`; and another prompt than yesterday's cannot be noticed,
and gets yesterday's answer. Look next at `experiments/counterfactual.py`.
"""

from __future__ import annotations

import asyncio
import json
from enum import StrEnum
from hashlib import blake2b
from math import inf, isnan
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from llmlab.backends.per_loop import PerLoop
from llmlab.backends.recorded_events import recorded_events
from llmlab.backends.schema_example import schema_example
from llmlab.backends.waiting import tell
from llmlab.core.backend import Answer, AttemptFailure, AttemptKey
from llmlab.core.chance import Purpose, uniform
from llmlab.core.messages import Usage
from llmlab.core.settings import SettingsError, nearest
from llmlab.core.vocabulary import FailureReason, FinishReason

if TYPE_CHECKING:
    from llmlab.backends.recorded_events import Events
    from llmlab.core.backend import Outcome, Timeouts
    from llmlab.core.events import AttemptEvent
    from llmlab.core.messages import LLMRequest

MadeUp = Literal["recorded", "best", "worst", "resample"]
"""How an answer that the log cannot give is made up.

| | an attempt that the log has not | one that yesterday's client gave up too early |
| --- | --- | --- |
| `recorded` | no answer comes | fails when it was given up |
| `best` | answered at once | answered when it was given up |
| `worst` | no answer comes | no answer comes |
| `resample` | as another attempt of the log, drawn by chance | as one drawn from those that took longer |

Where no answer comes the client's own timeout ends the attempt; a client without one gets a timeout after the longest
time that an attempt of the log took.
"""


class Unknown(StrEnum):
    """Why a log cannot give an answer."""

    NOT_RECORDED = "not_recorded"
    """The log has no such attempt."""
    CUT_SHORT = "cut_short"
    """Yesterday's client stopped waiting (a timeout, a cancellation, a crash) before this one would."""
    OTHER_CIRCUMSTANCES = "other_circumstances"
    """One of the two ran as a hedge, beside another attempt, and the other did not."""
    OTHER_REQUEST = "other_request"
    """The recorded text did not fit its `response_format`, and this request has none."""


_GIVEN_UP = frozenset({FailureReason.ATTEMPT_TIMEOUT, FailureReason.TOTAL_DEADLINE_EXCEEDED})
_ABANDONED = frozenset({FailureReason.CANCELLED, FailureReason.CRASHED})
_UNFITTING = frozenset({FailureReason.MALFORMED_OUTPUT, FailureReason.TRUNCATED_OUTPUT})
_TIMED_OUT = AttemptFailure(FailureReason.ATTEMPT_TIMEOUT, "no answer came, as far as the recording goes")
_FILLER = "(not recorded) "
_SLACK = 0.01
"""A client that waits longer by less than this share waits as long as yesterday's: real clocks are not exact."""


class ReplayBackend:
    """Answers attempts as they were recorded.

        ReplayBackend("events.jsonl")

    Args:
        events: an `EventLog`, a `SweepResult` of one run, the name of a file that a `JsonLinesObserver` wrote, a data
            frame of attempts, or the events themselves.
        made_up: how an answer that the log cannot give is made up: "recorded", "best", "worst" or "resample".
        layer: which client's attempts, where clients were stacked; `None` means the outermost.
        seed: fixes the draws of "resample".

    Attributes:
        unknown: why the log could not give an answer, for each attempt of all runs so far where that was so.

    Raises:
        SettingsError: the events are of no such kind, of several runs, or hold no attempt.
        OSError: the file cannot be read.
    """

    simulated = True

    def __init__(
        self, events: Events, *, made_up: MadeUp = "recorded", layer: str | None = None, seed: int = 0
    ) -> None:
        if made_up not in get_args(MadeUp):
            raise SettingsError(
                f"made_up must be one of its words, got {made_up!r}; {nearest(str(made_up), get_args(MadeUp))}"
            )
        given: object = seed  # whatever a caller without a type checker gives
        if not isinstance(given, int):
            raise SettingsError(f"seed must be a whole number, got {seed!r}")
        attempts = recorded_events(events, layer).attempts
        self.name = attempts[0].backend
        self.made_up = made_up
        self.seed = seed
        self.unknown: dict[AttemptKey, Unknown] = {}
        self._recorded = {(event.call, event.attempt): event for event in attempts}
        self._sessions: PerLoop[ReplaySession] = PerLoop()

    @property
    def fingerprint(self) -> str:
        """What decides its answers, as one short text."""
        content = repr((sorted(self._recorded.items()), self.made_up, self.seed))
        return blake2b(content.encode(), digest_size=16).hexdigest()

    def session(self) -> ReplaySession:
        """Return what answers attempts on the running event loop."""
        loop = asyncio.get_running_loop()
        return self._sessions.get(loop) or self._sessions.put(loop, ReplaySession(self, self._recorded, loop))

    async def attempt(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> Outcome:
        """Answer one attempt as it was recorded."""
        return await self.session().attempt(request, timeouts=timeouts, key=key)

    def __repr__(self) -> str:
        calls = len({call for call, _ in self._recorded})
        return f"<ReplayBackend: {calls} calls, {len(self._recorded)} attempts; else {self.made_up}>"


class _Coming(NamedTuple):
    """What comes of an attempt, and when, on the loop's clock; `until` is when the log's knowledge of it ends."""

    outcome: Outcome
    at: float
    until: float = inf


class ReplaySession:
    """A `ReplayBackend` at work on one event loop."""

    def __init__(
        self,
        settings: ReplayBackend,
        recorded: dict[tuple[int, int], AttemptEvent],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._settings = settings
        self._recorded = recorded
        self._loop = loop
        self._open: dict[int, int] = {}
        """For each call with attempts in progress, how many."""
        self._by_duration = sorted(recorded.values(), key=_duration)
        self._longest = _duration(self._by_duration[-1])

    async def attempt(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> Outcome:
        """Answer one attempt as it was recorded."""
        told, timer = self.begin(request, timeouts, key, inf)
        try:
            return await told
        except asyncio.CancelledError:
            timer.cancel()
            raise

    def begin(
        self, request: LLMRequest, timeouts: Timeouts, key: AttemptKey, limit: float
    ) -> tuple[asyncio.Future[Outcome], asyncio.TimerHandle]:
        """Begin one attempt: a future of its outcome, told at `limit` at the latest, and its timer."""
        del timeouts  # an attempt that broke one of these bounds is recorded as such
        loop = self._loop
        told: asyncio.Future[Outcome] = loop.create_future()
        coming = self._coming(request, key, loop.time(), limit)
        if coming.until < limit:
            timer = loop.call_at(coming.until, self._log_ends, told, request, key, limit)
        else:
            timer = loop.call_at(min(coming.at, limit), tell, told, coming.outcome)
        self._open[key.call] = self._open.get(key.call, 0) + 1
        told.add_done_callback(lambda _: self._ended(key.call))
        return told, timer

    def _ended(self, call: int) -> None:
        self._open[call] -= 1
        if not self._open[call]:
            del self._open[call]

    def _coming(self, request: LLMRequest, key: AttemptKey, now: float, limit: float) -> _Coming:
        event = self._recorded.get(key)
        if event is None:
            return self._made_up(Unknown.NOT_RECORDED, request, key, limit)
        if event.hedge != (key.call in self._open):
            return self._made_up(Unknown.OTHER_CIRCUMSTANCES, request, key, limit)
        if event.reason in _UNFITTING and event.finish_reason is not None and request.response_format is None:
            return self._made_up(Unknown.OTHER_REQUEST, request, key, limit)
        # To the byte where it begins at the recorded time: adding a difference again may round otherwise.
        end = event.ended_at_s if now == event.started_at_s else now + _duration(event)
        if event.reason in _GIVEN_UP or event.reason in _ABANDONED:
            grace = end + _SLACK * _duration(event)
            if limit <= grace:
                return _Coming(_TIMED_OUT, limit)
            # Whoever abandoned it then will do so again, if anybody does: at that very moment, so look after it.
            return _Coming(_TIMED_OUT, limit, end if event.reason in _GIVEN_UP else grace)
        return _Coming(_outcome(event, request), end)

    # ---- what the log cannot give

    def _log_ends(self, told: asyncio.Future[Outcome], request: LLMRequest, key: AttemptKey, limit: float) -> None:
        """Go on with an attempt that yesterday's client gave up here, while this one waits on."""
        if told.done():
            return
        event = self._recorded[key]
        coming = self._made_up(Unknown.CUT_SHORT, request, key, limit, _duration(event))
        if self._settings.made_up == "recorded" and event.reason in _GIVEN_UP:
            coming = _Coming(_TIMED_OUT._replace(status_code=event.status_code or None), self._loop.time())
        self._loop.call_at(min(coming.at, limit), tell, told, coming.outcome)

    def _made_up(
        self, why: Unknown, request: LLMRequest, key: AttemptKey, limit: float, lasted: float = 0.0
    ) -> _Coming:
        """Return what is made up for an attempt, and mark it; `lasted` is for how many seconds the log knows it."""
        self._settings.unknown[key] = why
        now = self._loop.time()
        if self._settings.made_up == "best":
            return _Coming(Answer(_text(request, None)), now)
        if self._settings.made_up == "resample":
            longer = [event for event in self._by_duration if _duration(event) > lasted]
            u = uniform(self._settings.seed, key.call, key.attempt, Purpose.SERVER)
            if longer:
                drawn = longer[int(u * len(longer))]
                return _Coming(_outcome(drawn, request), now - lasted + _duration(drawn))
        return _Coming(_TIMED_OUT, limit if limit < inf else now + self._longest)


def _duration(event: AttemptEvent) -> float:
    return event.ended_at_s - event.started_at_s


def _outcome(event: AttemptEvent, request: LLMRequest) -> Outcome:
    """Return what an attempt ended with. One whose text was of no use ended with an answer, and again it is of none."""
    reason, finish = event.reason, event.finish_reason
    if reason is not None and (reason in _GIVEN_UP or reason in _ABANDONED):
        return _TIMED_OUT
    if finish is None:
        asked = None if isnan(event.retry_after_s) else event.retry_after_s
        why = reason or FailureReason.SERVER_ERROR
        return AttemptFailure(why, f"{why}, as recorded", event.status_code or None, asked)
    written = None if isnan(event.output_tokens) else int(event.output_tokens)
    read = None if isnan(event.input_tokens) else int(event.input_tokens)
    useless = _FILLER if reason in _UNFITTING else ""
    text = _text(request, written) if reason is None else useless
    first = None if isnan(event.time_to_first_token_s) else event.time_to_first_token_s
    return Answer(text, "", Usage(read, written), FinishReason(finish), first)


def _text(request: LLMRequest, tokens: int | None) -> str:
    schema = request.json_schema()
    if schema is not None:
        return json.dumps({} if schema == "json" else schema_example(schema))
    length = 4 * (tokens or 4)
    return (_FILLER * (length // len(_FILLER) + 1))[:length]
