"""What a fault server saw of a client, as values and as a file: JSON lines, one record a line, the header first.

Times are seconds since `Header.started_at`, on the server's clock. No prompt, answer, credential or header of the
client is kept, but for its User-Agent: a body is told from others by a digest under a key that is thrown away, so
retries of one call can be linked and no prompt be guessed. A server writes each record when it is complete: a request
when it has ended, those that are still open when the server stops. `recording_file.py` writes and reads files.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field

from llmlab.core.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

VERSION = 1
"""The version of the format: a reader takes its own only."""


def _one_line(value: object) -> object:
    """Cut a text to a line without control characters: it comes from a client, and goes to a terminal."""
    return "".join(c if c.isprintable() else "?" for c in value[:100]) if isinstance(value, str) else value


def _without_query(value: object) -> object:
    """Leave out what follows the path: some APIs take their key there."""
    return value.partition("?")[0] if isinstance(value, str) else value


Short = Annotated[str, BeforeValidator(_one_line)]
"""A text that is cut to 100 characters, none of them a control character."""
Seconds = Annotated[float, Field(ge=0)]
Number = Annotated[int, Field(ge=0, lt=2**63)]

EndedBy = Literal["server", "broken", "client", "open"]
"""Who ended a response: the server properly (also where the stream lacks its end marker: HTTP was kept), the server by
breaking the connection as a fault demands, the client by closing it before the end, or nobody while it was recorded."""


class Header(Settings):
    """The first record: what was served, and when."""

    record: Literal["header"] = "header"
    format: Literal["llmlab-conduct"] = "llmlab-conduct"
    version: Number = VERSION
    seed: int = 0
    weather: dict[str, Any] = Field(default_factory=dict)
    """The server's settings at the start, as plain data."""
    started_at: Seconds = 0.0
    """When its clock was zero, in seconds since 1970; 0 under virtual time."""
    server: Short = ""
    """What served: its name and version, and the upstream if there was one."""


class WeatherChange(Settings):
    """The server's settings were changed while it ran."""

    record: Literal["weather"] = "weather"
    at_s: Seconds
    weather: dict[str, Any]


class ConnectionOpened(Settings):
    """A client connected. Connections are numbered from 0."""

    record: Literal["connection_opened"] = "connection_opened"
    connection: Number
    at_s: Seconds


class ConnectionClosed(Settings):
    """A connection ended, by whoever closed it first."""

    record: Literal["connection_closed"] = "connection_closed"
    connection: Number
    at_s: Seconds
    by: Literal["client", "server"]


class Request(Settings):
    """One request and what became of it."""

    record: Literal["request"] = "request"
    request: Number
    """Its number, in order of arrival, from 0."""
    connection: Number
    reused: bool
    """Whether the connection had carried a request before this one."""
    arrived_at_s: Seconds
    """When it had been read, its body included."""
    call: Number
    """The key of its chance: the number of the call that it belongs to, if `keyed`; else by order of arrival."""
    attempt: Number = 1
    keyed: bool = False
    """Whether the client sent that key itself (`x-llmlab-attempt`)."""
    claimed_retry: Number | None = None
    """The number of the retry as the client says it (`x-stainless-retry-count`), 0 for a first attempt."""
    client: Short = ""
    """Its User-Agent."""
    method: Short = "POST"
    endpoint: Annotated[Short, BeforeValidator(_without_query)]
    """The path, without its query."""
    streaming: bool | None = None
    """Whether it asked for a stream; `None` where that has no meaning."""
    digest: Short = ""
    """Tells bodies apart (`BodyDigest`); "" for a request without one."""
    fault: Short | None = None
    """What was injected: a `FaultKind`, or the server's own word for what is none."""
    status: Annotated[int, Field(ge=100, le=999)] | None = None
    """The status that was sent; `None` where there was none."""
    retry_after_s: Seconds | None = None
    """The wait that was asked for, as the client could read it, in seconds."""
    head_sent_at_s: Seconds | None = None
    first_chunk_at_s: Seconds | None = None
    """When the first piece of the body was sent."""
    ended_at_s: Seconds | None = None
    """When it was ended, by whom `ended_by` says; `None` if it was still open."""
    ended_by: EndedBy = "open"


class Outcome(Settings):
    """What the client made of a call, as the client itself reports it: a server cannot know that."""

    record: Literal["outcome"] = "outcome"
    outcome: Literal["answered", "failed"]
    started_at_s: float
    """On the server's clock; less than 0 where it was before the recording."""
    ended_at_s: float
    call: Number | None = None
    """The call's number, where the client sent one with its requests (`x-llmlab-attempt`)."""
    error: Short = ""
    """The name of the error, such as the exception's class."""


class End(Settings):
    """The last record: the server stopped, and had written everything. Without it the recording was broken off."""

    record: Literal["end"] = "end"
    at_s: Seconds


Record = Header | WeatherChange | ConnectionOpened | ConnectionClosed | Request | Outcome | End
"""Everything that can stand in a recording."""


class BodyDigest:
    """Tells the bodies of requests apart without keeping them: equal bodies have equal digests, under this key only."""

    def __init__(self, key: bytes) -> None:
        """Take a key of 1 to 64 bytes: random ones for a file, so that nobody can try prompts against it."""
        self._key = key

    def __call__(self, body: bytes) -> str:
        """Return 16 hexadecimal digits; "" for an empty body."""
        return blake2b(body, digest_size=8, key=self._key).hexdigest() if body else ""

    def __repr__(self) -> str:
        return "BodyDigest()"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """All records of one server, by kind.

    Attributes:
        header: what was served.
        requests: every request, in order of arrival.
        opened: when each connection was opened, in seconds, by its number.
        closed: how each closed connection was closed, by its number.
        weather: changes of the server's settings, in order.
        outcomes: what the client reported of its calls, in order.
        ended_at_s: when the recording ended, in seconds; `None` where it was broken off.
        notices: what was passed over in reading it, as sentences.
    """

    header: Header = field(default_factory=Header)
    requests: tuple[Request, ...] = ()
    opened: dict[int, float] = field(default_factory=dict)
    closed: dict[int, ConnectionClosed] = field(default_factory=dict)
    weather: tuple[WeatherChange, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    ended_at_s: float | None = None
    notices: tuple[str, ...] = ()

    @classmethod
    def of(cls, records: Iterable[Record], *, notices: Iterable[str] = ()) -> Recording:
        """Return records as a recording, in whatever order they came.

        Raises:
            ValueError: two requests or two openings or closings of a connection have the same number.
        """
        kinds: dict[type[Record], list[Any]] = {kind: [] for kind in get_args(Record)}
        for record in records:
            kinds[type(record)].append(record)
        return cls(
            header=next(iter(kinds[Header]), Header()),
            requests=tuple(_by_number(kinds[Request], "request").values()),
            opened={
                number: opened.at_s for number, opened in _by_number(kinds[ConnectionOpened], "connection").items()
            },
            closed=_by_number(kinds[ConnectionClosed], "connection"),
            weather=tuple(kinds[WeatherChange]),
            outcomes=tuple(kinds[Outcome]),
            ended_at_s=max((end.at_s for end in kinds[End]), default=None),
            notices=tuple(notices),
        )


def _by_number(records: list[Any], name: str) -> dict[int, Any]:
    """Return records by their number, in its order."""
    found = {getattr(record, name): record for record in records}
    if len(found) < len(records):
        twice = next(n for n, times in Counter(getattr(record, name) for record in records).items() if times > 1)
        raise ValueError(f"the number of a {records[0].record} is used twice: {twice}; these are several recordings")
    return dict(sorted(found.items()))
