"""The ready-made clients: `MockLLM`, `LocalLLM` and `OpenAILLM`, and their async twins.

Each is a `Client` (or `AsyncClient`) over one backend, with the backend's and the policy's settings as plain keywords:

    MockLLM(timeout_probability=0.2, max_retries=5).generate("Hello")

The defaults of a bare client: `MockLLM()` is a `MockBackend()` (no faults, latencies lognormal with a median of 0.8 s,
seed 0, so every run is the same) under `ClientPolicy()`. `LocalLLM()` is an `OllamaBackend()` (the server that
`OLLAMA_HOST` names, its first installed model) under `LOCAL_POLICY`: what a model on one's own machine needs.
`OpenAILLM()` is an `OpenAIBackend()` (the server that `OPENAI_BASE_URL` names, with the key in `OPENAI_API_KEY`) under
`ClientPolicy()`, whose table is in `llmlab.core.policy`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, cast

from llmlab.backends.mock import MockBackend, MockSettings
from llmlab.backends.ollama import OllamaBackend
from llmlab.backends.openai import OpenAIBackend
from llmlab.core.backend import AttemptFailure
from llmlab.core.client import AsyncClient
from llmlab.core.messages import LLMFailure
from llmlab.core.policy import POLICY_SETTINGS, ClientPolicy, PolicySettings, policy_with
from llmlab.core.settings import SettingsError, kind_of, nearest
from llmlab.core.vocabulary import Fate
from llmlab.sync import Client

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmlab.backends.ollama_description import ServerDescription
    from llmlab.backends.ollama_inquiry import WarmUp
    from llmlab.backends.ollama_session import OllamaSession
    from llmlab.core.events import Observer
    from llmlab.core.state import ClientState

LOCAL_POLICY = ClientPolicy(attempt_timeout=120.0, total_timeout=300.0, max_concurrency=4)
"""For a model on one's own machine: it loads for up to a minute when cold, writes slowly, and serves few requests at
once."""


class ClientSettings(TypedDict, total=False):
    """The settings of a client itself."""

    policy: ClientPolicy | None
    observers: Iterable[Observer]
    seed: int | None
    state: ClientState | None
    layer: str


class _MockKeywords(MockSettings, PolicySettings, ClientSettings, total=False):
    """Everything that `AsyncMockLLM` takes."""


class _SyncMockKeywords(_MockKeywords, total=False):
    """Everything that `MockLLM` takes."""

    real_time: bool


class OllamaSettings(TypedDict, total=False):
    """The settings of an `OllamaBackend` that `LocalLLM` takes as plain keywords."""

    base_url: str | None
    model: str | None
    options: dict[str, Any]
    keep_alive: str | float | None
    endpoint: str
    http_client: Any


class _LocalKeywords(OllamaSettings, PolicySettings, ClientSettings, total=False):
    """Everything that `LocalLLM` and `AsyncLocalLLM` take."""


class OpenAISettings(TypedDict, total=False):
    """The settings of an `OpenAIBackend` that `OpenAILLM` takes as plain keywords."""

    base_url: str | None
    model: str | None
    api_key_env: str | None
    allow_plain_http: bool
    organization: str | None
    options: dict[str, Any]
    max_tokens_field: str
    include_usage: bool
    strict_end: bool
    strict_schema: bool
    http_client: Any


class _OpenAIKeywords(OpenAISettings, PolicySettings, ClientSettings, total=False):
    """Everything that `OpenAILLM` and `AsyncOpenAILLM` take."""


class MockLLM(Client):
    """A client of the simulated server. Calls return at once; their latencies are virtual.

    Takes, as keywords: a `MockBackend`'s settings (`latency`, `timeout_probability`, `script`, ...), a policy's
    (`max_retries`, `attempt_timeout`, `max_concurrency`, ...) or a whole `policy`, and `observers`, `seed` (of server
    and client; 0), `state`, `layer`, `real_time`.

    Raises:
        SettingsError: a setting has a wrong name, type or value.
    """

    def __init__(self, **settings: Unpack[_SyncMockKeywords]) -> None:
        backend, client = _mock(dict(settings), "real_time")
        super().__init__(backend, **client)


class AsyncMockLLM(AsyncClient):
    """`MockLLM` for async code. It takes the running loop's time: real, or virtual under `llmlab.virtual_time.run`."""

    def __init__(self, **settings: Unpack[_MockKeywords]) -> None:
        backend, client = _mock(dict(settings))
        super().__init__(backend, **client)


class LocalLLM(Client):
    """A client of a local Ollama; `describe()` says what the server is, and `warm_up()` loads a model beforehand.

    Takes, as keywords: an `OllamaBackend`'s settings (`model`, `base_url`, `options`, ...), a policy's (`max_retries`,
    `attempt_timeout`, `max_concurrency`, ...) or a whole `policy` (default `LOCAL_POLICY`), and `observers`, `seed`
    (of the jitter), `state`, `layer`.

    Raises:
        SettingsError: a setting has a wrong name, type or value.
    """

    def __init__(self, **settings: Unpack[_LocalKeywords]) -> None:
        backend, client = _local(dict(settings))
        super().__init__(backend, **client)

    def describe(self) -> ServerDescription:
        """Return what the server says of itself: version, installed and loaded models; see `AsyncLocalLLM.describe`."""
        return self._runner().run(lambda: _describe(self._client))

    def warm_up(self, model: str | None = None) -> WarmUp | LLMFailure:
        """Load a model, so that the first call does not wait for it; see `AsyncLocalLLM.warm_up`."""
        return self._runner().run(lambda: _warm_up(self._client, model))


class AsyncLocalLLM(AsyncClient):
    """`LocalLLM` for async code."""

    def __init__(self, **settings: Unpack[_LocalKeywords]) -> None:
        backend, client = _local(dict(settings))
        super().__init__(backend, **client)

    async def describe(self) -> ServerDescription:
        """Return what the server says of itself: its version, the models installed and those loaded.

        Where no server answers, the description says so: `ok` is false, and `problems` has the reason. What a server
        leaves unanswered for 10 seconds is `None`, with its problem.
        """
        return await _describe(self)

    async def warm_up(self, model: str | None = None) -> WarmUp | LLMFailure:
        """Load a model, so that the first call does not wait for it, and return how long that took or why it failed.

        It asks once, within the policy's `total_timeout`, beside the client's limits, and is no call: there are no
        retries and no events. The model is loaded with the client's `options` and kept for its `keep_alive`.

        Args:
            model: its name; `None` means the client's, else the first one installed.

        Raises:
            TypeError: `model` is no name.
        """
        return await _warm_up(self, model)


_DESCRIBED_WITHIN = 10.0  # seconds for each of the listings, which a server answers at once even where it is busy


async def _describe(client: AsyncClient) -> ServerDescription:
    return await _session(client).describe(client.policy.timeouts, _DESCRIBED_WITHIN)


async def _warm_up(client: AsyncClient, model: str | None) -> WarmUp | LLMFailure:
    given: object = model  # whatever a caller without a type checker gives
    if given is not None and not (isinstance(given, str) and given):
        raise TypeError(f"model must be a model's name, or None for the client's own, got {model!r}")
    loop = asyncio.get_running_loop()
    began = loop.time()
    done = await _session(client).warm_up(model, client.policy.timeouts, client.policy.total_timeout)
    if not isinstance(done, AttemptFailure):
        return done
    return LLMFailure(
        reason=done.reason,
        retryable=done.is_retryable,
        message=done.message,
        fate=Fate.RETRIES_EXHAUSTED if done.is_retryable else Fate.NOT_RETRYABLE,
        attempts=1,
        latency=loop.time() - began,
        status_code=done.status_code,
        retry_after=done.retry_after,
        last_reason=done.reason,
        cause=done.cause,
    )


def _session(client: AsyncClient) -> OllamaSession:
    """Return the session that the client's calls use, which its `aclose` closes."""
    return cast("OllamaSession", client.flow().backend)


class OpenAILLM(Client):
    """A client of any server that speaks OpenAI's chat completions: vLLM, llama.cpp, Ollama's `/v1`, a hosted service.

    Takes, as keywords: an `OpenAIBackend`'s settings (`base_url`, `model`, `api_key_env`, ...), a policy's
    (`max_retries`, `attempt_timeout`, `max_concurrency`, ...) or a whole `policy`, and `observers`, `seed` (of the
    jitter), `state`, `layer`.

    Raises:
        SettingsError: a setting has a wrong name, type or value.
    """

    def __init__(self, **settings: Unpack[_OpenAIKeywords]) -> None:
        backend, client = _openai(dict(settings))
        super().__init__(backend, **client)


class AsyncOpenAILLM(AsyncClient):
    """`OpenAILLM` for async code."""

    def __init__(self, **settings: Unpack[_OpenAIKeywords]) -> None:
        backend, client = _openai(dict(settings))
        super().__init__(backend, **client)


_CLIENT_SETTINGS = frozenset(ClientSettings.__annotations__)
_PARTS = frozenset(ClientPolicy.model_fields) - POLICY_SETTINGS
"""What a policy has and no client takes as a keyword of its own."""


def _mock(settings: dict[str, Any], *also: str) -> tuple[MockBackend, dict[str, Any]]:
    if settings.get("seed") is None:
        settings["seed"] = 0
    backend, client = _sorted_out(settings, frozenset(MockSettings.__annotations__), ClientPolicy(), *also)
    return MockBackend(seed=settings["seed"], **backend), client


def _local(settings: dict[str, Any]) -> tuple[OllamaBackend, dict[str, Any]]:
    backend, client = _sorted_out(settings, frozenset(OllamaSettings.__annotations__), LOCAL_POLICY)
    return OllamaBackend(**backend), client


def _openai(settings: dict[str, Any]) -> tuple[OpenAIBackend, dict[str, Any]]:
    backend, client = _sorted_out(settings, frozenset(OpenAISettings.__annotations__), ClientPolicy())
    return OpenAIBackend(**backend), client


def _sorted_out(
    settings: dict[str, Any], of_backend: frozenset[str], default: ClientPolicy, *also: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Divide plain keywords into the backend's and the client's, the policy's put into a policy."""
    of_client = _CLIENT_SETTINGS.union(also)
    for name in settings:
        if name not in of_backend | POLICY_SETTINGS | of_client:
            valid = nearest(name, of_backend | POLICY_SETTINGS | of_client)
            part = f"it is a part of `policy`: policy=ClientPolicy({name}=...); " if name in _PARTS else ""
            raise SettingsError(f"there is no setting '{name}'; {part}{valid}")
    policy = settings.get("policy")
    if policy is None:
        policy = default
    if not isinstance(policy, ClientPolicy):
        raise SettingsError(f"policy must be a ClientPolicy, got {kind_of(policy)}")
    client = {name: value for name, value in settings.items() if name in of_client}
    plain = {name: value for name, value in settings.items() if name in POLICY_SETTINGS}
    client["policy"] = policy_with(policy, plain)
    return {name: value for name, value in settings.items() if name in of_backend}, client
