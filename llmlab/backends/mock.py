"""The simulated server: answers after a drawn latency, and fails as often as it is told to.

Every draw is keyed by (seed, call, attempt), so the same seed gives the same weather to every policy. It waits by the
event loop's clock only: under `llmlab.virtual_time` an hour of traffic takes a second. It needs nothing beyond the
core and no network.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypedDict, Unpack

from pydantic import Field, PrivateAttr, SkipValidation, model_validator

from llmlab.backends.distributions import Distribution, Lognormal
from llmlab.backends.faults import (
    FAULT_SHORTHANDS,
    SPOILS_THE_ANSWER,
    FaultKind,
    Faults,
    drawn,
    refused,
    spoilt,
)
from llmlab.backends.schema_example import schema_example
from llmlab.core.backend import Answer, AttemptFailure
from llmlab.core.chance import Purpose, unit, words
from llmlab.core.messages import Usage
from llmlab.core.settings import Settings, SettingsError
from llmlab.core.timers import sleep_until
from llmlab.core.vocabulary import FinishReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlab.core.backend import AttemptKey, Outcome, Timeouts
    from llmlab.core.messages import LLMRequest

ANSWER = "answer"
"""In a script: answer, whatever the probabilities say."""
_TEXT = "This is a simulated answer."


class _Servers(dict[asyncio.AbstractEventLoop, "MockServer"]):
    """A backend's servers, by event loop. They are no part of its value: neither compared, nor copied, nor pickled."""

    def forget_closed_loops(self) -> None:
        for loop in [loop for loop in self if loop.is_closed()]:
            del self[loop]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Servers)

    __hash__ = None

    def __reduce__(self) -> tuple[type[_Servers], tuple[()]]:
        return _Servers, ()


class MockBackend(Settings):
    """A simulated server.

    Every fault's probability is also taken directly, as `timeout_probability=0.2` and its like.

    Raises:
        SettingsError: a setting has a wrong name, type or value.
    """

    shorthands: ClassVar[tuple[str, ...]] = tuple(FAULT_SHORTHANDS)

    kind: Literal["mock"] = "mock"
    latency: Distribution = Lognormal(median=0.8, sigma=0.5)
    """How long an answer takes, in seconds; a number means exactly that long."""
    refusal_latency: Distribution = Field(default=0.02, validate_default=True)
    """How long a refusal takes (connection refused, 429, 503, 500), in seconds."""
    first_token_share: float = Field(default=0.25, ge=0, le=1)
    """The share of an answer's latency that passes before its first token."""
    faults: Faults = Faults()
    seed: int = 0
    """Fixes every draw."""
    model: str = "mock"
    text: Annotated[str | Any, SkipValidation] = _TEXT
    """What it answers, or a function of the request that gives it; a `response_format` gets the simplest fitting JSON
    instead."""
    script: tuple[Any, ...] = ()
    """What the first attempts of every call meet, in order: a fault's name, `"answer"`, or an `Answer` or
    `AttemptFailure`."""

    name: str = Field(default="mock", exclude=True)

    _servers: _Servers = PrivateAttr(default_factory=_Servers)

    if TYPE_CHECKING:  # the shorthands, and plain numbers for latencies

        def __init__(self, *, seed: int = 0, **settings: Unpack[MockSettings]) -> None: ...

    @model_validator(mode="before")
    @classmethod
    def _take_shorthands(cls, data: Any) -> Any:
        return with_fault_shorthands(data)

    def model_post_init(self, _context: Any) -> None:
        """Refuse a script or text of another kind."""
        super().model_post_init(_context)
        valid = [*FaultKind, ANSWER]
        for entry in self.script:
            if not isinstance(entry, Answer | AttemptFailure) and entry not in valid:
                raise ValueError(f"script: {entry!r} is no Answer, no AttemptFailure and none of {', '.join(valid)}")
        if not isinstance(self.text, str) and not callable(self.text):
            raise ValueError(f"text must be a str or a function of the request, got a {type(self.text).__name__}")

    @property
    def simulated(self) -> bool:
        """True: it only ever waits by the event loop's clock."""
        return True

    def session(self) -> MockServer:
        """Return the simulated server of the running event loop."""
        loop = asyncio.get_running_loop()
        server = self._servers.get(loop)
        if server is None or server.settings is not self:
            self._servers.forget_closed_loops()
            server = self._servers[loop] = MockServer(self, loop)
        return server

    async def attempt(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> Outcome:
        """Answer one attempt, or fail as the draw for its key says."""
        return await self.session().attempt(request, timeouts=timeouts, key=key)


class MockServer:
    """A `MockBackend` at work on one event loop."""

    def __init__(self, settings: MockBackend, loop: asyncio.AbstractEventLoop) -> None:
        self.settings = settings
        self._loop = loop
        self._seed = settings.seed
        self._latency = settings.latency.at
        self._refusal_latency = settings.refusal_latency.at
        self._first_token_share = settings.first_token_share
        self._thresholds = settings.faults.thresholds()
        self._retry_after = settings.faults.retry_after
        self._model = settings.model
        self._text: str | Callable[[LLMRequest], str] = settings.text
        self._script = settings.script
        self._answered: LLMRequest | None = None
        self._text_and_usage = ("", Usage())

    async def attempt(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> Outcome:
        """Answer one attempt, or fail as the script or the draw for its key says."""
        del timeouts
        draws = words(self._seed, key.call, key.attempt, Purpose.SERVER)
        fault = drawn(self._thresholds, unit(draws[0])) if self._thresholds else None
        if key.attempt <= len(self._script):
            entry = self._script[key.attempt - 1]
            if isinstance(entry, AttemptFailure):
                return await self._refuse(entry, draws[1])
            if isinstance(entry, Answer):
                await sleep_until(self._loop, self._loop.time() + self._latency(unit(draws[1])))
                return entry
            fault = None if entry == ANSWER else FaultKind(entry)
        if fault is not None and fault not in SPOILS_THE_ANSWER:
            if fault is FaultKind.TIMEOUT:
                await self._loop.create_future()  # never answers; only a timeout or a cancellation ends this
            return await self._refuse(refused(fault, self._retry_after), draws[1])
        loop = self._loop
        latency = self._latency(unit(draws[1]))
        await sleep_until(loop, loop.time() + latency)
        if request is not self._answered:  # the same request again (a workload's) has the same text and tokens
            self._text_and_usage = self._compose(request)
            self._answered = request
        text, usage = self._text_and_usage
        answer = Answer(text, request.model or self._model, usage, FinishReason.STOP, latency * self._first_token_share)
        return answer if fault is None else spoilt(fault, request, answer)

    async def _refuse(self, failure: AttemptFailure, draw: int) -> AttemptFailure:
        await sleep_until(self._loop, self._loop.time() + self._refusal_latency(unit(draw)))
        return failure

    def _compose(self, request: LLMRequest) -> tuple[str, Usage]:
        schema = request.json_schema()
        if schema is not None:
            text = json.dumps({} if schema == "json" else schema_example(schema))
        elif isinstance(self._text, str):
            text = self._text
        else:
            text = self._text(request)
        return text, Usage(-(-request.characters // 4), -(-len(text) // 4))


def with_fault_shorthands(data: Any) -> Any:
    """Fold `timeout_probability` and its like into `faults`; where both name the same fault, the shorthand wins."""
    if not isinstance(data, dict):
        return data
    given = {FAULT_SHORTHANDS[name]: value for name, value in data.items() if name in FAULT_SHORTHANDS}
    if not given:
        return data
    rest = {name: value for name, value in data.items() if name not in FAULT_SHORTHANDS}
    faults = rest.get("faults", Faults())
    if isinstance(faults, dict):
        faults = Faults(**faults)
    if not isinstance(faults, Faults):
        raise SettingsError(f"faults must be a Faults or a dict, got a {type(faults).__name__}")
    for name, value in data.items():
        if name in FAULT_SHORTHANDS:
            _check_shorthand(name, value)
    return {**rest, "faults": faults.replace(**given)}


def _check_shorthand(name: str, value: Any) -> None:
    """Refuse a wrong probability under the name by which it was given."""
    kind = FAULT_SHORTHANDS[name]
    try:
        Faults(**{kind: value})
    except SettingsError as error:
        raise SettingsError(name + str(error).removeprefix(kind)) from None


class MockSettings(TypedDict, total=False):
    """The settings of a `MockBackend` that `MockLLM` takes as plain keywords."""

    latency: Distribution | float
    refusal_latency: Distribution | float
    first_token_share: float
    faults: Faults
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
