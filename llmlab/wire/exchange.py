"""One HTTP exchange in steps, without any socket: a request, and what comes back for it until something breaks.

A server yields `Step`s, each when it is due by the event loop's clock. The normal end of the iteration is the body's
proper end; nothing more that ever comes is an await that never ends; and closing the iterator says that the client is
gone. Who plays the steps decides how one becomes bytes: a transport in memory, or a server on a socket.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple, TypeAlias


class HTTPRequest(NamedTuple):
    """A request as it arrived, with its whole body.

    Attributes:
        method: `"GET"` and its like.
        path: without host and query.
        headers: pairs of name and value; names in lower case.
        body: the bytes that were sent.
        query: what followed the path, after the question mark; some APIs take their key there.
    """

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    query: str = ""

    def header(self, name: str) -> str | None:
        """Return the first value of a header whose name is given in lower case, or `None`."""
        return next((value for given, value in self.headers if given == name), None)


class Head(NamedTuple):
    """A response's status and headers.

    A body whose length is known has a `content-length`; any other is sent in chunks, each `bytes` step as one.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()

    def header(self, name: str) -> str | None:
        """Return the first value of a header, whatever the case of its name, or `None`."""
        return next((value for given, value in self.headers if given.lower() == name.lower()), None)


class Break(StrEnum):
    """How a connection ends that does not end properly; nothing comes after it."""

    REFUSED = "refused"
    """There is no connection: the port is closed."""
    NO_CONNECTION = "no_connection"
    """The connection neither stands nor is refused: packets are dropped, until the client has waited enough."""
    RESET = "reset"
    """The connection is reset (TCP RST)."""
    CUT = "cut"
    """The connection is closed in the middle of the body (TCP FIN without the body's end)."""


Step: TypeAlias = Head | bytes | Break
"""What comes next: the head, then pieces of the body (one HTTP chunk each), or a break at any time."""
