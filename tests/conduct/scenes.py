"""Recordings written by hand: what a client did, as a list of requests."""

from llmlab.conduct.judge import judge
from llmlab.conduct.recording import ConnectionClosed, ConnectionOpened, End, Header, Outcome, Recording, Request
from llmlab.conduct.standards import Standards

SOON = 0.001
"""Seconds that a server takes to refuse."""


def asked(at, *, status=200, lasts=SOON, body="a", **changes):
    """One request, answered whole unless told otherwise; its number and connection are given by `recorded`."""
    ended_by = changes.pop("ended_by", "server")
    ended = None if ended_by == "open" else at + lasts
    fields = {
        "arrived_at_s": at,
        "status": status,
        "head_sent_at_s": None if status is None else at + min(lasts, SOON),
        "ended_at_s": ended,
        "ended_by": ended_by,
        "digest": body,
        "client": "acme/1.0",
        "endpoint": "/api/chat",
    }
    return fields | changes


def refused(at, *, status=503, fault="overload", **changes):
    return asked(at, status=status, fault=fault, **changes)


def cut(at, *, fault="cut", ended_by="broken", **changes):
    return asked(at, fault=fault, ended_by=ended_by, **changes)


def keyed(call, attempt, made):
    """The same request, sent by a client that says which call and attempt it is."""
    return made | {"call": call, "attempt": attempt, "keyed": True}


def outcome(started, ended, what="answered", **changes):
    return Outcome(outcome=what, started_at_s=started, ended_at_s=ended, **changes)


def recorded(requests, *, outcomes=(), end=100.0, left_open=(), one_connection=True):
    """A recording of these requests, over one connection or each over its own, closed by the client at the end."""
    made = [
        Request(
            **{
                "request": number,
                "connection": 0 if one_connection else number,
                "reused": one_connection and number > 0,
                "call": number,
            }
            | fields
        )
        for number, fields in enumerate(sorted(requests, key=lambda fields: fields["arrived_at_s"]))
    ]
    first = {request.connection: request.arrived_at_s for request in reversed(made)}
    opened = [ConnectionOpened(connection=number, at_s=at) for number, at in first.items()]
    closed = [
        ConnectionClosed(connection=number, at_s=end or 99.0, by="client")
        for number in first
        if number not in left_open
    ]
    ending = [] if end is None else [End(at_s=end)]
    return Recording.of([Header(), *opened, *made, *closed, *outcomes, *ending])


def found(rule, requests, *, outcomes=(), standards=None, **scene):
    """What a rule finds of a recording of these requests."""
    return judge(recorded(requests, outcomes=outcomes, **scene), Standards(**(standards or {})))[rule]
