"""The Ollama backend: a frozen setting of which server, model and options, and its sessions, one for each event loop.

    Client(OllamaBackend(model="llama3.2")).generate("Hello")

The native API is used, and no library of Ollama's. How an attempt goes is in `http_stream.py` and `ollama_session.py`,
what is sent and how answers are read in `ollama_protocol.py`, what failures mean in `ollama_failures.py`, addresses in
`ollama_host.py`.
"""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, ClassVar, Literal, Self

import httpx
from pydantic import ConfigDict, Field, StringConstraints, model_validator
from pydantic.json_schema import SkipJsonSchema

from llmlab.backends.http_backend import HTTPBackend, refuse_no_json
from llmlab.backends.ollama_host import parse_host
from llmlab.backends.ollama_session import OllamaSession, Target

# How Ollama (and Go) writes durations: "5m", "1h30m", "-1s". A bare number must be given as a number.
_DURATION = re.compile(r"[-+]?(?:0|(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+)", re.ASCII)


class OllamaBackend(HTTPBackend[OllamaSession]):
    """A model on an Ollama server.

    Args:
        base_url: where the server is, in any spelling of `OLLAMA_HOST`; `None` means what the environment variable
            `OLLAMA_HOST` says when a session begins, else `http://127.0.0.1:11434`.
        model: the model for requests that name none; `None` means the first installed one, asked of the server once.
        options: Ollama's model options, such as `{"num_ctx": 8192}`; what a request says itself wins.
        keep_alive: how long the model stays loaded after a call: seconds, or a text like `"10m"`; negative means for
            ever, `None` leaves it to the server.
        endpoint: `"auto"` sends messages to `/api/chat` and a prompt to `/api/generate`; the others say which to use.
        http_client: your own `httpx.AsyncClient` (for a proxy, authentication, certificates, another transport). Use it
            on one event loop only. It is never closed by llmlab, and is no part of the serialised value.

    Raises:
        SettingsError: a setting has a wrong name, type or value.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    name: ClassVar[str] = "ollama"

    kind: Literal["ollama"] = "ollama"
    base_url: str | None = None
    model: Annotated[str, StringConstraints(min_length=1)] | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    keep_alive: float | str | None = None
    endpoint: Literal["auto", "generate", "chat"] = "auto"
    http_client: SkipJsonSchema[httpx.AsyncClient | None] = Field(default=None, exclude=True, repr=False)

    @model_validator(mode="after")
    def _can_be_sent(self) -> Self:
        if self.base_url is not None:
            parse_host(self.base_url, setting="base_url")
        if isinstance(self.keep_alive, str) and not _DURATION.fullmatch(self.keep_alive):
            raise ValueError(
                f"keep_alive must be seconds or a text like '10m' or '1h30m', got '{self.keep_alive[:60]}'; "
                "use -1 to keep the model for ever"
            )
        refuse_no_json(self.options)
        return self

    def new_session(self) -> OllamaSession:
        """Return a session that nobody else uses."""
        base_url = os.environ.get("OLLAMA_HOST", "") if self.base_url is None else self.base_url
        target = Target(
            base_url=parse_host(base_url, setting="OLLAMA_HOST" if self.base_url is None else "base_url"),
            model=self.model,
            options=self.options,
            keep_alive=self.keep_alive,
            endpoint=self.endpoint,
        )
        return OllamaSession(target, self.http_client)
