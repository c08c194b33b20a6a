"""The fault server: a simulated model server on a real socket, for trying out any client in any language.

    with FaultServer(MockBackend(timeout_probability=0.2), record="conduct.jsonl") as server:
        openai.OpenAI(base_url=server.openai_url, api_key="any").chat.completions.create(...)

It speaks Ollama's API and OpenAI's chat completions, and misbehaves as its `MockBackend` says: the same faults, queue
and chance as in a simulation (`wire/simulated_server.py`), down to the wire (`connection.py`). What befalls an attempt
is drawn from the seed and the attempt's key. llmlab's clients send that key; requests of others are numbered in order
of arrival, so they meet the same again where they come one after another.

While a `connection_error` is scheduled for certain (a `Window` of probability 1), the port is really closed; a single
one is a reset, since a server cannot tell which request a connection will carry before it stands.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, asynccontextmanager
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, TypeVar

from llmlab import __version__
from llmlab.backends.mock import MockBackend
from llmlab.conduct.judge import judge
from llmlab.conduct.recording import Header, Recording
from llmlab.conduct.recording import Request as RequestRecord
from llmlab.conduct.recording_file import RecordingWriter
from llmlab.conduct.standards import Standards
from llmlab.core.backend import ATTEMPT_HEADER, parse_attempt_header
from llmlab.core.settings import kind_of
from llmlab.core.timers import sleep_until
from llmlab.server.admin import WEATHER, administer, in_short, is_for_admin, weather_data
from llmlab.server.hosting import HostedServer
from llmlab.server.ledger import Ledger
from llmlab.server.upstream import Upstream, checked, connections
from llmlab.server.windows import closed_times
from llmlab.wire.exchange import Head
from llmlab.wire.simulated_server import ANSWERS, SimulatedServer, key_by_arrival

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
    from pathlib import Path

    import httpx

    from llmlab.conduct.recording import Outcome, Record
    from llmlab.conduct.verdict import Verdict
    from llmlab.server.admin import Reply
    from llmlab.server.connection import Connection
    from llmlab.server.served import Served
    from llmlab.wire.exchange import Step
    from llmlab.wire.simulated_server import Exchange

T = TypeVar("T")

_LARGEST_CALL = 2**63


class FaultServer(HostedServer):
    """A misbehaving model server on this machine, on a thread of its own while its `with` block runs.

    It can be looked at and changed from any thread, and from other processes over HTTP (`admin.py`).

    Args:
        backend: how it behaves; `None` is a healthy `MockBackend()`.
        host: the address to listen on; this machine alone unless you name another.
        port: the port; 0 takes a free one.
        record: a file to record into, for `llmlab judge`; there must be none of its name yet.
        upstream: the address of a real server, whose answers are passed on where no fault comes before; `upstream.py`
            says which faults are possible in front of one.

    Raises:
        TypeError: the backend is no `MockBackend`.
        SettingsError: the host or the port cannot be one, or the backend asks for what is not possible in front of a
            real server.
    """

    def __init__(
        self,
        backend: MockBackend | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        record: str | Path | None = None,
        upstream: str | None = None,
    ) -> None:
        super().__init__(host, port)
        self._backend = MockBackend() if backend is None else backend
        if not isinstance(self._backend, MockBackend):
            raise TypeError(f"backend must be a MockBackend, got {kind_of(backend)}")
        self._record = record
        self._upstream = None if upstream is None else checked(upstream, self._backend)
        self._service: SimulatedServer | Upstream
        self._http: httpx.AsyncClient | None = None
        self._session: Any = None
        self._started_at = 0.0
        self._ledger = Ledger(time.monotonic)
        self._arrivals = self._arrivals_before = 0
        self._windows: asyncio.Task[None] | None = None

    @property
    def backend(self) -> MockBackend:
        """How it behaves now."""
        return self._backend

    @property
    def openai_url(self) -> str:
        """What an OpenAI client takes as its `base_url`."""
        return f"{self.url}/v1"

    @property
    def requests(self) -> list[RequestRecord]:
        """The records of the requests that have ended, in the order of their ends, the latest 100,000."""
        return [record for record in list(self._ledger.records) if isinstance(record, RequestRecord)]

    def recording(self) -> Recording:
        """Return all that was recorded so far, of the latest 100,000 events, for `llmlab.conduct`.

        While the server runs, it is what a recording would be that ended now: requests in flight are open ones.
        """
        return Recording.of([self._header(), *self._on_its_loop(self._records)])

    def verdict(self, *, outcomes: Iterable[Outcome] = (), **standards: Any) -> Verdict:
        """Judge how the client has behaved so far, as `llmlab judge` would.

            assert (verdict := fault_server.verdict(deadline=10.0)).passed, str(verdict)

        With `client_ended=True`, connections that the client has just closed are given 2 s to be seen closed.

        Args:
            outcomes: what the client reports of its calls.
            standards: what is asked of it, as keywords of `Standards`.

        Raises:
            SettingsError: there is no such standard, or its value is wrong.
        """
        asked = Standards(**standards)
        if asked.client_ended:
            self.wait_until_closed()
        return judge(self.recording(), asked, outcomes=outcomes)

    def wait_for_requests(self, number: int, timeout: float = 2.0) -> bool:
        """Wait until so many requests have ended, at most `timeout` seconds; return whether it came to that."""
        return self._wait_for(lambda: self._ledger.requests - self._ledger.in_flight >= number, timeout)

    def weather(self, **changes: Any) -> MockBackend:
        """Change settings of its backend, such as `timeout_probability=0.2`, and return the backend then in force.

        Requests that have arrived keep the settings that they met. A queue, and the times of a schedule, begin anew.

        Raises:
            SettingsError: a setting has a wrong name, type or value; nothing is changed.
        """
        changed: MockBackend = self._backend.replace(**changes)
        if self._upstream is not None:
            checked(self._upstream, changed)
        if self._loop is None:
            self._backend = changed
        else:
            self._on_its_loop(lambda: self.change(changed))
        return changed

    def reset(self) -> None:
        """Set the counts and the order of arrival back to nothing; a file keeps what it has."""
        self._on_its_loop(self._reset)

    def state(self) -> dict[str, Any]:
        """Return what it has done so far, as plain data."""
        ledger = self._ledger
        counts = [
            {"endpoint": endpoint, "status": status, "fault": fault, "ended": end, "requests": number}
            for (endpoint, status, fault, end), number in ledger.counts.most_common()
        ]
        return {
            "url": self.url,
            "upstream": self._upstream,
            "seed": self._backend.seed,
            "uptime_s": round(ledger.now(), 3),
            "listening": self._listener is not None,
            "recording": None if self._record is None else str(self._record),
            "connections": {"open": self.open_connections, "accepted": self.connections},
            "requests": {
                "total": ledger.requests,
                "in_flight": ledger.in_flight,
                "waiting": self._waiting(),
                "counts": counts,
            },
            "weather_path": WEATHER,
            "weather_in_short": in_short(self._backend),
        }

    def __repr__(self) -> str:
        return f"FaultServer({self.url!r}, {self._backend!r})"

    # ---- requests

    def answer(self, served: Served) -> AsyncGenerator[Step]:
        """Answer a request as the simulated server does, or as its administrator."""
        request = served.request
        if is_for_admin(request):
            return _whole(administer(request, self))
        said = parse_attempt_header(request.header(ATTEMPT_HEADER) or "")
        keyed = said is not None and said.call < _LARGEST_CALL
        by_arrival = key_by_arrival(self._backend, self._arrivals, since=self._arrivals_before)
        key = said if said is not None and keyed else by_arrival
        if not keyed and request.path in ANSWERS:
            self._arrivals += 1
        exchange = self._service.exchange(request, key)
        self._ledger.arrived(served, key, exchange, keyed=keyed)
        self._notify()
        return _as_servers_send(exchange)

    def ended(self, served: Served) -> None:
        """Record what became of a request."""
        with self._changed:
            self._ledger.ended(served)
            self._changed.notify_all()

    def opened(self, connection: Connection) -> int:
        """Record a connection."""
        number = super().opened(connection)
        self._ledger.opened(number)
        return number

    def closed(self, connection: Connection) -> None:
        """Record its end."""
        self._ledger.closed(connection)
        super().closed(connection)

    # ---- its own affairs, on its loop

    @asynccontextmanager
    async def _at_work(self) -> AsyncIterator[None]:
        self._started_at = time.time()
        write = None if self._record is None else RecordingWriter(self._record, self._header())
        self._ledger = Ledger(asyncio.get_running_loop().time, write)
        self._arrivals = 0
        self._http = None if self._upstream is None else connections(self._upstream)
        self._put_into_force(self._backend)
        try:
            yield
        finally:
            if self._windows is not None:
                self._windows.cancel()
            if self._http is not None:
                await self._http.aclose()
            self._ledger.end()

    def change(self, backend: MockBackend) -> None:
        """Put another backend into force; on the server's own loop."""
        if self._upstream is not None:
            checked(self._upstream, backend)
        self._put_into_force(backend)
        self._ledger.weather(weather_data(backend))

    def _put_into_force(self, backend: MockBackend) -> None:
        self._backend = backend
        self._arrivals_before = self._arrivals
        simulated = SimulatedServer(backend, wall_clock=time.time)
        self._service = simulated
        if self._upstream is not None and self._http is not None:
            self._service = Upstream(self._upstream, simulated, self._http)
        self._session = backend.session()  # the times of its schedule count from here
        if self._windows is not None:
            self._windows.cancel()
            self._resume()
        self._windows = asyncio.create_task(self._close_in_windows(backend))

    async def _close_in_windows(self, backend: MockBackend) -> None:
        """Close the port while every connection is to be refused, and open it again."""
        loop = asyncio.get_running_loop()
        origin = loop.time()
        for start, end in closed_times(backend.faults):
            await sleep_until(loop, origin + start)
            self._suspend()
            await sleep_until(loop, origin + end)
            self._resume()

    def _waiting(self) -> int | None:
        """Return how many requests wait in the simulated server; `None` where it has no queue."""
        machine = getattr(self._session, "machine", None)
        return None if machine is None else machine.waiting

    def _reset(self) -> None:
        self._arrivals = self._arrivals_before = 0
        self._ledger.reset()

    def _header(self) -> Header:
        return Header(
            seed=self._backend.seed,
            weather=weather_data(self._backend),
            started_at=self._started_at,
            server=f"llmlab {__version__}" + (f" in front of {self._upstream}" if self._upstream else ""),
        )

    def _records(self) -> list[Record]:
        return list(self._ledger.records) if self._loop is None else self._ledger.until_now()

    def _on_its_loop(self, work: Callable[[], T]) -> T:
        """Do something on the server's loop and wait for it; here and now where it does not run."""
        loop = self._loop
        if loop is None or asyncio._get_running_loop() is loop:
            return work()

        async def do() -> T:
            return work()

        return asyncio.run_coroutine_threadsafe(do(), loop).result()


async def _whole(reply: Reply) -> AsyncGenerator[Step]:
    yield reply.head
    yield reply.body


async def _as_servers_send(steps: Exchange) -> AsyncGenerator[Step]:
    """Give heads the look that they have on the wire: names as Go's servers write them, and the date."""
    async with aclosing(steps):
        async for step in steps:
            yield _dated(step) if isinstance(step, Head) else step


def _dated(head: Head) -> Head:
    (kind, *others) = ((name.title(), value) for name, value in head.headers)
    return Head(head.status, (kind, ("Date", formatdate(usegmt=True)), *others))
