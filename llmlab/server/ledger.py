"""The fault server's books: a record for every connection and request, and counts that can be looked at any time.

The records are those that `llmlab judge` reads (`conduct/recording.py`). They go to a file where one is wanted, and the
latest of them stay in memory. A file that takes no more (a full disk) stops no server: it is left as one broken off.
"""

from __future__ import annotations

import itertools
import logging
import secrets
from collections import Counter, deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from llmlab.conduct.recording import BodyDigest, ConnectionClosed, ConnectionOpened, End, Request, WeatherChange
from llmlab.core.retry_after import parse_retry_after

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlab.conduct.recording import EndedBy, Record
    from llmlab.conduct.recording_file import RecordingWriter
    from llmlab.core.backend import AttemptKey
    from llmlab.server.connection import Connection
    from llmlab.server.served import Ending, Served
    from llmlab.wire.simulated_server import Exchange

logger = logging.getLogger("llmlab")

REMEMBERED = 100_000
"""How many records stay in memory."""
_MOST_ENDPOINTS = 50
"""Paths beyond these are counted together: anybody can ask for any path."""
_OTHER = "(other)"

_ENDED_BY: dict[Ending | None, EndedBy] = {
    "complete": "server",
    "client_gone": "client",
    "server_stopped": "open",
    None: "open",
}


class Seen(NamedTuple):
    """What is known of a request when it arrives.

    Attributes:
        number: in order of arrival, from 0.
        key: the key of its chance.
        keyed: whether its client sent that key.
        exchange: its answer, which knows the fault that befalls it.
    """

    number: int
    key: AttemptKey
    keyed: bool
    exchange: Exchange


class Ledger:
    """Keeps the records and the counts of one server. Times are seconds since `origin`, on the loop's clock."""

    def __init__(self, clock: Callable[[], float], write: RecordingWriter | None = None) -> None:
        self._clock = clock
        self._origin = clock()
        self._write = write
        self._digest = write.digest if write is not None else BodyDigest(secrets.token_bytes(32))
        self.records: deque[Record] = deque(maxlen=REMEMBERED)
        self.counts: Counter[tuple[str, int | None, str | None, str]] = Counter()
        self._endpoints: set[str] = set()
        self.requests = 0
        self._numbers = itertools.count()
        self._in_flight: dict[Served, Seen] = {}

    @property
    def in_flight(self) -> int:
        """How many requests have arrived and not ended."""
        return len(self._in_flight)

    def now(self) -> float:
        """Return the time."""
        return self._clock() - self._origin

    def opened(self, number: int) -> None:
        """Note a connection."""
        self._keep(ConnectionOpened(connection=number, at_s=self.now()))

    def closed(self, connection: Connection) -> None:
        """Note that it has ended."""
        self._keep(ConnectionClosed(connection=connection.number, at_s=self.now(), by=connection.closed_by))

    def weather(self, settings: dict[str, Any]) -> None:
        """Note that the settings have changed."""
        self._keep(WeatherChange(at_s=self.now(), weather=settings))

    def arrived(self, served: Served, key: AttemptKey, exchange: Exchange, *, keyed: bool) -> None:
        """Count a request in."""
        self._in_flight[served] = Seen(next(self._numbers), key, keyed, exchange)
        self.requests += 1

    def ended(self, served: Served) -> None:
        """Note what became of a request; one that was never counted in, such as the administrator's, is left out."""
        seen = self._in_flight.pop(served, None)
        if seen is None:
            return
        end = served.end or "server_stopped"
        fault = seen.exchange.fault
        self.counts[self._counted_as(served.request.path), served.status, fault, end] += 1
        self._keep(self._record(served, seen))

    def reset(self) -> None:
        """Forget counts and records; those in a file stay, and requests in flight count as new ones."""
        self.records.clear()
        self.counts.clear()
        self._endpoints.clear()
        self.requests = self.in_flight

    def until_now(self) -> list[Record]:
        """Return the records as if the server stopped now: with the requests in flight, and an end."""
        open_ones = [self._record(served, seen) for served, seen in self._in_flight.items()]
        return [*self.records, *open_ones, End(at_s=self.now())]

    def end(self) -> None:
        """Keep the last record, and close the file."""
        self._keep(End(at_s=self.now()))
        if self._write is not None:
            self._write.close()

    def _keep(self, record: Record) -> None:
        self.records.append(record)
        if self._write is None:
            return
        try:
            self._write(record)
        except OSError as error:
            logger.error("the recording '%s' is broken off (%s); the server goes on", self._write.path, error)  # noqa: TRY400
            self._write.close()
            self._write = None

    def _counted_as(self, path: str) -> str:
        if path not in self._endpoints:
            if len(self._endpoints) >= _MOST_ENDPOINTS or len(path) > 100:
                return _OTHER
            self._endpoints.add(path)
        return path

    def _record(self, served: Served, seen: Seen) -> Request:
        request, origin = served.request, self._origin
        opened_end = served.end in {None, "server_stopped"}
        return Request(
            request=seen.number,
            connection=served.connection,
            reused=served.reused,
            arrived_at_s=served.arrived_at - origin,
            call=seen.key.call,
            attempt=seen.key.attempt,
            keyed=seen.keyed,
            claimed_retry=_number(request.header("x-stainless-retry-count")),
            client=request.header("user-agent") or "",
            method=request.method,
            endpoint=request.path,
            streaming=seen.exchange.streamed,
            digest=self._digest(request.body),
            fault=seen.exchange.fault,
            status=served.status,
            retry_after_s=_retry_after(served),
            head_sent_at_s=_since(served.head_at, origin),
            first_chunk_at_s=_since(served.first_chunk_at, origin),
            ended_at_s=None if opened_end else _since(served.ended_at, origin),
            ended_by=_ENDED_BY.get(served.end, "broken"),
        )


def _since(time: float | None, origin: float) -> float | None:
    return None if time is None else time - origin


def _retry_after(served: Served) -> float | None:
    """Return the wait that was asked for: the exact one where there are two, for a client may keep either."""
    sent = {name.lower(): value for name, value in served.headers}
    exact = _number(sent.get("retry-after-ms"))
    if exact is not None:
        return exact / 1000
    return parse_retry_after(sent["retry-after"], datetime.now(UTC)) if "retry-after" in sent else None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 10 else None
