"""The simulated server: answers after a drawn latency, and fails as often as it is told to.

Every draw is keyed by (seed, call, attempt), so the same seed gives the same weather to every policy. It waits by the
event loop's clock only: under `llmlab.virtual_time` an hour of traffic takes a second. It needs nothing beyond the
core and no network. These are its settings; at work it is a `MockServer` (`mock_server.py`), or with a queue a
`ServedMock` (`served_mock.py`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypedDict, Unpack

from pydantic import Field, PrivateAttr, SkipValidation, WithJsonSchema, model_validator

from llmlab.backends.distributions import Constant, Distribution, Lognormal
from llmlab.backends.faults import FAULT_SHORTHANDS, Faults, with_fault_shorthands
from llmlab.backends.mock_server import MockServer
from llmlab.backends.per_loop import PerLoop
from llmlab.backends.script import Entry
from llmlab.backends.served_mock import ServedMock
from llmlab.backends.server_model import ServerModel
from llmlab.core.hidden import hidden
from llmlab.core.settings import Settings
from llmlab.core.streams import streaming

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlab.core.backend import AttemptKey, AttemptStream, Outcome, Timeouts
    from llmlab.core.messages import LLMRequest

_TEXT = "This is a simulated answer."


class MockBackend(Settings):
    """A simulated server.

    Every fault's probability is also taken directly, as `timeout_probability=0.2` and its like. Answers are streamed, a
    token at a time and evenly, so the client's `timeouts.first_byte` and `timeouts.between_chunks` hold here too.

    Raises:
        SettingsError: a setting has a wrong name, type or value.
    """

    shorthands: ClassVar[tuple[str, ...]] = tuple(FAULT_SHORTHANDS)

    kind: Literal["mock"] = "mock"
    latency: Distribution = Lognormal(median=0.8, sigma=0.5)
    """How long an answer takes, in seconds; a number means exactly that long."""
    refusal_latency: Distribution = Constant(value=0.02)
    """How long a refusal takes (connection refused, 429, 503, 500, 502, 504), in seconds."""
    first_token_share: float = Field(default=0.25, ge=0, le=1)
    """The share of an answer's latency that passes before its first token."""
    faults: Faults = Faults()
    server: ServerModel | None = None
    """Slots, a queue and a pace; `None` is a server without end, where every request is served at once."""
    seed: int = 0
    """Fixes every draw."""
    model: str = "mock"
    text: Annotated[str | Any, SkipValidation, WithJsonSchema({"type": "string"})] = _TEXT
    """What it answers, or a function of the request that gives it; a `response_format` gets the simplest fitting JSON
    instead."""
    script: tuple[Entry, ...] = ()
    """What the first attempts of every call meet, in order: a fault's name, `"answer"`, or an `Answer` or
    `AttemptFailure`. Over HTTP a client of another make does not say which call a request belongs to: all its requests
    meet the script once, in order of arrival."""

    name: str = "mock"

    _servers: PerLoop[MockServer | ServedMock] = PrivateAttr(default_factory=PerLoop)

    if TYPE_CHECKING:  # the shorthands, and plain numbers for latencies

        def __init__(self, *, seed: int = 0, **settings: Unpack[MockSettings]) -> None: ...

    @model_validator(mode="before")
    @classmethod
    def _take_shorthands(cls, data: Any) -> Any:
        return with_fault_shorthands(data)

    def model_post_init(self, _context: Any) -> None:
        """Refuse a text of another kind."""
        super().model_post_init(_context)
        if not isinstance(self.text, str) and not callable(self.text):
            raise ValueError(f"text must be a str or a function of the request, got a {type(self.text).__name__}")

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """Return what a repr shows: of a text of the user's own, its length."""
        return [(str(name), hidden(value) if name == "text" else value) for name, value in super().__repr_args__()]

    @property
    def simulated(self) -> bool:
        """True: it only ever waits by the event loop's clock."""
        return True

    def session(self) -> MockServer | ServedMock:
        """Return the simulated server of the running event loop."""
        loop = asyncio.get_running_loop()
        server = self._servers.get(loop)
        if server is None or server.settings is not self:
            plain = MockServer(self, loop)
            queues = self.server
            server = plain if queues is None else ServedMock(self, queues, loop, plain.compose)
            self._servers.put(loop, server)
        return server

    async def attempt(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> Outcome:
        """Answer one attempt, or fail as the draw for its key says."""
        return await self.session().attempt(request, timeouts=timeouts, key=key)

    def stream(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> AttemptStream:
        """Answer one attempt a token at a time, or fail as the draw for its key says."""
        return streaming(self.session())(request, timeouts=timeouts, key=key)


class MockSettings(TypedDict, total=False):
    """The settings of a `MockBackend` that `MockLLM` takes as plain keywords."""

    latency: Distribution | float
    refusal_latency: Distribution | float
    first_token_share: float
    faults: Faults
    server: ServerModel | None
    model: str
    text: str | Callable[[LLMRequest], str]
    script: tuple[Any, ...] | list[Any]
    timeout_probability: float
    connection_error_probability: float
    rate_limit_probability: float
    overload_probability: float
    server_error_probability: float
    empty_probability: float
    malformed_probability: float
    truncated_probability: float
    connect_stall_probability: float
    bad_gateway_probability: float
    gateway_timeout_probability: float
    error_in_stream_probability: float
    stall_probability: float
    slow_drip_probability: float
    cut_probability: float
    no_end_marker_probability: float
    invalid_json_probability: float
    wrong_schema_probability: float
    refusal_probability: float
    reset_probability: float
    wrong_content_type_probability: float
    invalid_utf8_probability: float
    malformed_chunk_probability: float
    huge_line_probability: float
