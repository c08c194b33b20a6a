"""What becomes of one request at a server, filled in as it happens: recordings and counts are made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from llmlab.wire.exchange import HTTPRequest

Ending = Literal["complete", "client_gone", "refused", "reset", "cut", "server_stopped", "crashed"]
"""How an answer ended: whole; its client went first; one of the breaks; the server was stopped; or a bug ended it."""


class Served:
    """What becomes of one request, filled in as it happens; times are on the event loop's clock.

    Attributes:
        request: what came in.
        connection: the connection's number.
        reused: whether an earlier request came over the same connection.
        arrived_at: when the whole request was there.
        status: the status that was sent; `None` before.
        headers: the headers that were sent.
        head_at: when the status was sent.
        first_chunk_at: when the first piece of the body was sent.
        ended_at: when the answer ended.
        end: how it ended.
    """

    __slots__ = (
        "arrived_at",
        "connection",
        "end",
        "ended_at",
        "first_chunk_at",
        "head_at",
        "headers",
        "request",
        "reused",
        "status",
    )

    def __init__(self, request: HTTPRequest, connection: int, *, reused: bool, arrived_at: float) -> None:
        self.request = request
        self.connection = connection
        self.reused = reused
        self.arrived_at = arrived_at
        self.status: int | None = None
        self.headers: tuple[tuple[str, str], ...] = ()
        self.head_at: float | None = None
        self.first_chunk_at: float | None = None
        self.ended_at: float | None = None
        self.end: Ending | None = None
