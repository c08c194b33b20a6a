"""Which requests belong to one call: a server sees requests, and conduct is a matter of calls.

In order of trust: the number of the call that llmlab's clients send; what the client reports of a call, where no two
reported calls overlap; the number of the retry that some SDKs send; equal bodies. The last is a guess: a prompt that is
asked again within `link_within` seconds after it failed looks like a retry. The rules say which they had to rely on.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from itertools import accumulate
from math import inf
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from llmlab.conduct.recording import Outcome, Recording, Request

LinkedBy = Literal["key", "outcome", "claim", "body"]
"""What says that requests belong together; see the module."""

CLOCK_TOLERANCE = 0.005
"""Seconds by which a client's clock and the server's may differ, on one machine: some clients count milliseconds."""

_NOTICED_WITHIN = 0.05
"""Seconds until a server notices that a client has closed a connection: its next request may be there before."""


class Retry(NamedTuple):
    """A request whose answer the client could have read, and the first one of its call that it sent afterwards.

    `number` is that of the request in its call, from 1: which retry this is.
    """

    number: int
    before: Request
    after: Request


class Call(NamedTuple):
    """The requests of one call, in order of arrival, and what the client made of them, if it said so."""

    requests: tuple[Request, ...]
    linked_by: LinkedBy
    outcome: Outcome | None = None

    @property
    def retries(self) -> Iterator[Retry]:
        """All retries, in order; a hedge, sent while the one before it was open, is none of that one."""
        arrivals = [request.arrived_at_s for request in self.requests]
        for place, before in enumerate(self.requests):
            next_one = bisect_left(arrivals, told_at(before), lo=place + 1)
            if next_one < len(arrivals):
                yield Retry(place + 1, before, self.requests[next_one])


class Trial(NamedTuple):
    """A recording with its requests as calls; requests without a body (lists of models) belong to none."""

    recording: Recording
    calls: tuple[Call, ...]

    @property
    def ended_at_s(self) -> float:
        """The end of the recording, else the last moment that it knows of."""
        recording = self.recording
        last = [request.ended_at_s or request.arrived_at_s for request in recording.requests]
        known = [*last, *recording.opened.values(), *(closed.at_s for closed in recording.closed.values())]
        return recording.ended_at_s if recording.ended_at_s is not None else max(known, default=0.0)


def told_at(request: Request) -> float:
    """When the client could know how this request ended: with the head of an error, else with the end."""
    if request.status is not None and request.status >= 400 and request.head_sent_at_s is not None:
        return request.head_sent_at_s
    if request.ended_at_s is None:
        return request.arrived_at_s
    if request.ended_by == "client":
        return max(request.arrived_at_s, request.ended_at_s - _NOTICED_WITHIN)
    return request.ended_at_s


def went_wrong(request: Request) -> bool:
    """Whether the answer was not whole and good, so that a client may ask again."""
    return request.fault is not None or request.ended_by != "server" or (request.status or 0) >= 400


def trial(recording: Recording, *, outcomes: Sequence[Outcome] = (), link_within: float = 60.0) -> Trial:
    """Link a recording's requests into calls.

    Args:
        recording: what the server saw.
        outcomes: what the client reports of its calls, beside what the recording holds.
        link_within: seconds after a failure in which an equal body is a retry, where nothing better tells.
    """
    reported = (*recording.outcomes, *outcomes)
    asked = [request for request in recording.requests if request.digest]
    by_key = _by_key([request for request in asked if request.keyed], reported)
    windows = _apart([outcome for outcome in reported if outcome.call is None])
    by_outcome, others = _by_outcome([request for request in asked if not request.keyed], windows)
    guessed = _by_claim_or_body(others, link_within)
    calls = sorted((*by_key, *by_outcome, *guessed), key=lambda call: call.requests[0].request)
    return Trial(recording, tuple(calls))


def _by_key(requests: Sequence[Request], outcomes: Sequence[Outcome]) -> Iterator[Call]:
    """Link by the number of the call; a number of the attempt that does not rise is another client's call."""
    groups: dict[tuple[int, str], list[list[Request]]] = {}
    for request in requests:
        of_call = groups.setdefault((request.call, request.client), [])
        if of_call and request.attempt > of_call[-1][-1].attempt:
            of_call[-1].append(request)
        else:
            of_call.append([request])
    for (number, _), of_call in groups.items():
        said = [outcome for outcome in outcomes if outcome.call == number]
        for group in of_call:
            around = [outcome for outcome in said if _holds(outcome, group[0])]
            yield Call(tuple(group), "key", around[0] if len(around) == 1 else None)


def _apart(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return the reported calls that overlap with no other: only for these the time tells what belongs to them."""
    ordered = sorted(outcomes, key=lambda outcome: outcome.started_at_s)
    ends = accumulate((outcome.ended_at_s for outcome in ordered), max, initial=-inf)  # of all that began before
    starts = [*(outcome.started_at_s for outcome in ordered), inf][1:]
    return [
        outcome
        for outcome, before, after in zip(ordered, ends, starts, strict=False)
        if outcome.started_at_s >= before - CLOCK_TOLERANCE and outcome.ended_at_s <= after + CLOCK_TOLERANCE
    ]


def _holds(outcome: Outcome, request: Request) -> bool:
    return outcome.started_at_s - CLOCK_TOLERANCE <= request.arrived_at_s <= outcome.ended_at_s + CLOCK_TOLERANCE


def _by_outcome(requests: Sequence[Request], windows: Sequence[Outcome]) -> tuple[list[Call], list[Request]]:
    """Return the calls that were reported, and the requests that came in none of them."""
    waiting = deque(windows)
    groups: list[tuple[Outcome, list[Request]]] = []
    others = []
    for request in requests:
        while waiting and _is_over(waiting, request.arrived_at_s):
            waiting.popleft()
        if not waiting or not _holds(waiting[0], request):
            others.append(request)
        elif groups and groups[-1][0] is waiting[0]:
            groups[-1][1].append(request)
        else:
            groups.append((waiting[0], [request]))
    return [Call(tuple(group), "outcome", outcome) for outcome, group in groups], others


def _is_over(windows: Sequence[Outcome], now: float) -> bool:
    """Whether the first reported call had ended: for certain, or because the next had begun."""
    late = now - windows[0].ended_at_s
    return late > CLOCK_TOLERANCE or (late > 0 and len(windows) > 1 and now >= windows[1].started_at_s)


def _by_claim_or_body(requests: Sequence[Request], link_within: float) -> Iterator[Call]:
    """Link equal bodies to one endpoint: by the number of the retry where it is sent, else by what failed before."""
    open_calls: dict[tuple[str, str, str], list[list[Request]]] = {}
    calls: list[list[Request]] = []
    for request in requests:
        candidates = open_calls.setdefault((request.client, request.endpoint, request.digest), [])
        call = next((one for one in candidates if _continues(one[-1], request, link_within)), None)
        if call is None:
            call = []
            calls.append(call)
            candidates.append(call)
        call.append(request)
        # What has ended well takes no more: equal prompts, asked a million times, must not be searched each time.
        candidates[:] = [one for one in candidates if _may_go_on(one[-1], request.arrived_at_s, link_within)]
    for call in calls:
        claimed = all(request.claimed_retry is not None for request in call)
        yield Call(tuple(call), "claim" if claimed else "body")


def _continues(before: Request, request: Request, link_within: float) -> bool:
    if before.claimed_retry is not None and request.claimed_retry is not None:
        return request.claimed_retry == before.claimed_retry + 1
    return went_wrong(before) and told_at(before) <= request.arrived_at_s <= _until(before, link_within)


def _may_go_on(last: Request, now: float, link_within: float) -> bool:
    return went_wrong(last) and now <= _until(last, link_within)


def _until(before: Request, link_within: float) -> float:
    return told_at(before) + (before.retry_after_s or 0.0) + link_within
