"""What a simulated server saw of its clients, request by request: as a recording to be judged, and as a data frame.

The records are those of the fault server (`conduct/recording.py`), kept in memory. Each request counts as a connection
of its own. Bodies are numbered, in order of their first arrival, and not kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmlab.conduct.recording import ConnectionClosed, Recording, Request
from llmlab.wire.exchange import Break, Head

if TYPE_CHECKING:
    import pandas as pd

    from llmlab.conduct.recording import EndedBy
    from llmlab.wire.exchange import HTTPRequest, Step
    from llmlab.wire.simulated_server import Exchange


class ServerRecord:
    """The requests of one event loop, in order of arrival; times are seconds since the first of them."""

    def __init__(self, origin: float) -> None:
        self.origin = origin
        self.lines: list[RequestLine] = []
        self._bodies: dict[bytes, int] = {}

    def begin(self, request: HTTPRequest, exchange: Exchange, now: float) -> RequestLine:
        """Note a request that has arrived."""
        body = f"{self._bodies.setdefault(request.body, len(self._bodies)):x}" if request.body else ""
        line = RequestLine(request, exchange, number=len(self.lines), body=body, origin=self.origin)
        line.arrived_at(now)
        self.lines.append(line)
        return line

    def recording(self) -> Recording:
        """Return what was seen so far, as `conduct` judges it."""
        requests = tuple(line.request() for line in self.lines)
        ended = [(request.request, request.ended_at_s, request.ended_by) for request in requests]
        return Recording(
            requests=requests,
            opened={request.request: request.arrived_at_s for request in requests},
            closed={
                number: ConnectionClosed(connection=number, at_s=at, by="client" if by == "client" else "server")
                for number, at, by in ended
                if at is not None
            },
            ended_at_s=max((at for _, at, _ in ended if at is not None), default=0.0),
        )

    def frame(self) -> pd.DataFrame:
        """Return a row for each request; `NaN` or `None` where there was no such thing."""
        import pandas as pd  # noqa: PLC0415 - a transport is wanted where no frame is

        left_out = {"record", "connection", "reused"}
        columns = [name for name in Request.model_fields if name not in left_out]
        return pd.DataFrame([line.request().model_dump(exclude=left_out) for line in self.lines], columns=columns)


class RequestLine:
    """One request as it goes on."""

    def __init__(self, request: HTTPRequest, exchange: Exchange, *, number: int, body: str, origin: float) -> None:
        self._origin = origin
        self._request = request._replace(body=b"")
        self._exchange = exchange
        self._number = number
        self._body = body
        self._at: dict[str, Any] = {}
        self._head: Head | None = None
        self._ended_by: EndedBy = "open"

    def arrived_at(self, now: float) -> None:
        """Note when it arrived."""
        self._at["arrived_at_s"] = now - self._origin

    def note(self, step: Step | None, now: float) -> None:
        """Note a step, or the end (`None`)."""
        if isinstance(step, Head):
            self._head = step
            self._at["head_sent_at_s"] = now - self._origin
        elif isinstance(step, bytes):
            self._at.setdefault("first_chunk_at_s", now - self._origin)
        elif step is not Break.NO_CONNECTION:
            self.end("server" if step is None else "broken", now)

    def end(self, by: EndedBy, now: float) -> None:
        """Note who ended it; only the first time counts."""
        if self._ended_by == "open":
            self._ended_by = by
            self._at["ended_at_s"] = now - self._origin

    def request(self) -> Request:
        """Return the record of this request."""
        sent, exchange, head = self._request, self._exchange, self._head
        key = exchange.key
        retry = sent.header("x-stainless-retry-count") or ""
        wait = None if head is None else head.header("retry-after-ms")
        optional: dict[str, Any] = {} if key is None else {"attempt": key.attempt, "keyed": exchange.keyed}
        return Request(
            request=self._number,
            connection=self._number,
            reused=False,
            call=self._number if key is None else key.call,
            claimed_retry=int(retry) if retry.isdecimal() and len(retry) < 10 else None,
            client=sent.header("user-agent") or "",
            method=sent.method,
            endpoint=sent.path,
            streaming=exchange.streamed,
            digest=self._body,
            fault=exchange.fault,
            status=None if head is None else head.status,
            retry_after_s=None if wait is None else int(wait) / 1000,
            ended_by=self._ended_by,
            **optional,
            **self._at,
        )
