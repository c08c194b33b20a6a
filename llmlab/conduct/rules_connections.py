"""Rules on how a client holds a server: not beyond its deadline, not more at once than allowed, nothing left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from llmlab.conduct.verdict import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmlab.conduct.calls import Trial
    from llmlab.conduct.recording import Request
    from llmlab.conduct.standards import Standards

_ENOUGH_REQUESTS = 3


def too_many_in_flight(trial: Trial, standards: Standards) -> Finding:
    """Whether it had more requests in flight at once than is allowed."""
    requests = trial.recording.requests
    if not requests:
        return Finding(rule="too_many_in_flight", ruling="unknown", sentence="There was no request.")
    most, at = _peak(requests)
    allowed = standards.max_in_flight
    if allowed is None:
        sentence = f"At most {most} of its requests were in flight at once; say with max_in_flight what is allowed."
        return Finding(rule="too_many_in_flight", ruling="unknown", sentence=sentence)
    return Finding(
        rule="too_many_in_flight",
        ruling="guilty" if most > allowed else "innocent",
        sentence=f"At most {most} of its requests were in flight at once, {at:.2f} s after the start; {allowed} are "
        "allowed.",
        requests=tuple(r.request for r in requests if r.arrived_at_s <= at < _end(r)) if most > allowed else (),
    )


def _end(request: Request) -> float:
    return float("inf") if request.ended_at_s is None else request.ended_at_s


def _peak(requests: Iterable[Request]) -> tuple[int, float]:
    """Return the most requests in flight at once, and when it was first so many. What ends frees its place at once."""
    turns = sorted(turn for request in requests for turn in ((request.arrived_at_s, 1), (_end(request), -1)))
    most = now = 0
    when = 0.0
    for at, step in turns:
        now += step
        if now > most:
            most, when = now, at
    return most, when


class _Span(NamedTuple):
    """How long a call, or a request that belongs to none, was under way; `last` is its last request."""

    seconds: float
    last: Request
    open: bool


def hung(trial: Trial, standards: Standards) -> Finding:
    """Whether it held on to a call beyond the deadline."""
    spans = _spans(trial)
    if not spans:
        return Finding(rule="hung", ruling="unknown", sentence="There was no request.")
    longest = max(spans, key=lambda span: span.seconds)
    still = " and was still held when the recording ended" if longest.open else ""
    seen = f"The longest call was held for {longest.seconds:.2f} s{still}"
    deadline = standards.deadline
    if deadline is None:
        sentence = f"{seen}; say with the deadline how long a call may take."
        return Finding(rule="hung", ruling="unknown", sentence=sentence, requests=(longest.last.request,))
    late = [span for span in spans if span.seconds > deadline + standards.deadline_tolerance]
    if late:
        return Finding(
            rule="hung",
            ruling="guilty",
            sentence=f"{seen}; {len(late)} of {len(spans)} calls outlasted the deadline of {deadline:g} s (tolerance "
            f"{standards.deadline_tolerance:g} s).",
            requests=tuple(span.last.request for span in late),
        )
    if any(span.open for span in spans):
        sentence = f"{seen}: the recording ended before the deadline of {deadline:g} s; let it run on."
        return Finding(rule="hung", ruling="unknown", sentence=sentence)
    return Finding(rule="hung", ruling="innocent", sentence=f"{seen}; the deadline is {deadline:g} s.")


def _spans(trial: Trial) -> list[_Span]:
    """Return how long each call took; where requests are linked by a guess, how long each of them did."""
    linked = [call.requests for call in trial.calls if call.linked_by != "body"]
    known = {request.request for requests in linked for request in requests}
    alone = [(request,) for request in trial.recording.requests if request.request not in known]
    end = trial.ended_at_s
    spans = []
    for requests in (*linked, *alone):
        ends = [end if request.ended_at_s is None else request.ended_at_s for request in requests]
        last = max(zip(ends, requests, strict=True), key=lambda pair: (pair[0], pair[1].request))[1]
        spans.append(_Span(max(ends) - requests[0].arrived_at_s, last, any(r.ended_at_s is None for r in requests)))
    return spans


def leaked_connections(trial: Trial, standards: Standards) -> Finding:
    """Whether it left connections behind that it neither used nor closed."""
    recording = trial.recording
    if recording.ended_at_s is None:
        sentence = (
            "The recording was broken off, so what was left at its end is not known: stop the server with Ctrl-C."
        )
        return Finding(rule="leaked_connections", ruling="unknown", sentence=sentence)
    if not recording.opened:
        return Finding(rule="leaked_connections", ruling="unknown", sentence="There was no connection.")
    busy = {request.connection for request in recording.requests if request.ended_by == "open"}
    idle = [number for number in recording.opened if number not in recording.closed and number not in busy]
    most, _ = _peak(recording.requests)
    allowed = 0 if standards.client_ended else most
    left = f"{len(idle)} of {len(recording.opened)} connections were left open at the end with nothing in flight"
    if len(idle) > allowed:
        why = "though the client had ended" if standards.client_ended else f"though at most {most} were needed at once"
        last = {request.connection: request.request for request in recording.requests}
        return Finding(
            rule="leaked_connections",
            ruling="guilty",
            sentence=f"{left}, {why}.",
            requests=tuple(last[number] for number in idle if number in last),
        )
    if idle:
        sentence = f"{left}, no more than are needed at once: a pool, unless the client had ended (client_ended)."
        return Finding(rule="leaked_connections", ruling="unknown", sentence=sentence)
    sentence = f"All {len(recording.opened)} connections were closed, or in use at the end."
    return Finding(rule="leaked_connections", ruling="innocent", sentence=sentence)


def no_reuse(trial: Trial, _standards: Standards) -> Finding:
    """Whether every request opened a connection of its own: no offence, but it costs time."""
    requests = trial.recording.requests
    reused = sum(request.reused for request in requests)
    if reused:
        sentence = f"{reused} of {len(requests)} requests used a connection that was there."
        return Finding(rule="no_reuse", ruling="innocent", sentence=sentence)
    closed = trial.recording.closed
    shut = {number for number, one in closed.items() if one.by == "server"}
    chances = [request for request in requests if request.ended_by == "server" and request.connection not in shut]
    if len(chances) < _ENOUGH_REQUESTS:
        sentence = (
            f"It takes {_ENOUGH_REQUESTS} connections that the server left open to tell; there were {len(chances)}."
        )
        return Finding(rule="no_reuse", ruling="unknown", sentence=sentence)
    sentence = f"Each of the {len(requests)} requests opened a connection of its own, which costs time and ports."
    return Finding(rule="no_reuse", ruling="note", sentence=sentence)
