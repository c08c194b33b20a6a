"""The OpenAI-compatible backend: a frozen setting of which server, model and key, and its sessions, one for each loop.

    Client(OpenAIBackend(base_url="http://127.0.0.1:8000/v1", model="qwen")).generate("Hello")

It speaks chat completions, streamed, to whatever serves them (vLLM, llama.cpp, Ollama's `/v1`, a hosted service), and
needs no provider's library. How an attempt goes is in `http_stream.py` and `openai_session.py`, what is sent in
`openai_request.py`, how answers are read in `openai_protocol.py` and `sse.py`, what failures mean in
`openai_failures.py`.
"""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, ClassVar, Literal, Self

import httpx
from pydantic import ConfigDict, Field, SecretStr, StringConstraints, model_validator
from pydantic.json_schema import SkipJsonSchema

from llmlab.backends.http_backend import HTTPBackend, refuse_no_json
from llmlab.backends.http_host import is_loopback, parse_host
from llmlab.backends.openai_session import OpenAISession, Target
from llmlab.core.settings import SettingsError

DEFAULT_URL = "https://api.openai.com/v1"
_OFFICIAL_HOST = "api.openai.com"

# Letters in capitals, as names of environment variables are written: a key given by mistake is seen to be none.
_ENV_NAME = re.compile(r"[A-Z_][A-Z0-9_]{0,99}")
_HEADER_VALUE = re.compile(r"[\x21-\x7e]+")
_OURS = ("messages", "model", "stream", "stream_options")


class OpenAIBackend(HTTPBackend[OpenAISession]):
    """A model on any server that speaks OpenAI's chat completions.

    Args:
        base_url: where the server is, mostly ending in `/v1`; `None` means what the environment variable
            `OPENAI_BASE_URL` says when a session begins, else `https://api.openai.com/v1`.
        model: the model for requests that name none; `None` means the one that the server has, asked once; a server
            with several wants a name.
        api_key_env: the NAME of the environment variable that holds the key. It is read when a session begins and goes
            into the requests' `Authorization` and nowhere else. Where the variable is not set, or with `None`, requests
            go without: a local server wants no key.
        allow_plain_http: whether the key may go unencrypted (`http://`) to another machine.
        organization: sent as `OpenAI-Organization`.
        options: what else the body holds, such as `{"top_p": 0.9}`; what a request says itself wins.
        max_tokens_field: what a request's `max_tokens` is sent as; `"auto"` means `max_completion_tokens` to OpenAI
            itself, whose newer models know no other, and `max_tokens` to everybody else.
        include_usage: whether to ask for token counts (`stream_options`). A server that refuses a request because of it
            is not asked again in this session.
        strict_end: whether a streamed answer is complete only with a `finish_reason` and `[DONE]`, since one that
            misses either may have been cut on its way; `False` takes either of them.
        strict_schema: whether a JSON schema is sent as `strict`, which OpenAI takes only of schemas that require every
            property and allow no other.
        http_client: your own `httpx.AsyncClient` (for a proxy, certificates, another transport). Use it on one event
            loop only. It is never closed by llmlab, and is no part of the serialised value.

    Raises:
        SettingsError: a setting has a wrong name, type or value.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    name: ClassVar[str] = "openai"

    kind: Literal["openai"] = "openai"
    base_url: str | None = None
    model: Annotated[str, StringConstraints(min_length=1)] | None = None
    api_key_env: str | None = "OPENAI_API_KEY"
    allow_plain_http: bool = False
    organization: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    max_tokens_field: Literal["auto", "max_tokens", "max_completion_tokens"] = "auto"
    include_usage: bool = True
    strict_end: bool = True
    strict_schema: bool = False
    http_client: SkipJsonSchema[httpx.AsyncClient | None] = Field(default=None, exclude=True, repr=False)

    @model_validator(mode="after")
    def _can_be_sent(self) -> Self:
        if self.base_url is not None:
            _parse_url(self.base_url, "base_url")
        if self.api_key_env is not None and not _ENV_NAME.fullmatch(self.api_key_env):
            raise ValueError(
                "api_key_env must be the name of an environment variable, in capitals, such as 'OPENAI_API_KEY'; what "
                "was given is not shown, for it may be the key itself"
            )
        if self.organization is not None and not _HEADER_VALUE.fullmatch(self.organization):
            raise ValueError("organization must be of visible ASCII characters, for it is sent as a header")
        for name in _OURS:
            if name in self.options:
                raise ValueError(f"options must not hold '{name}', which llmlab sets itself")
        refuse_no_json(self.options)
        return self

    def new_session(self) -> OpenAISession:
        """Return a session that nobody else uses."""
        if self.base_url is None:
            base_url = _parse_url(os.environ.get("OPENAI_BASE_URL", "").strip() or DEFAULT_URL, "OPENAI_BASE_URL")
        else:
            base_url = _parse_url(self.base_url, "base_url")
        official = httpx.URL(base_url).host == _OFFICIAL_HOST
        field = self.max_tokens_field
        if field == "auto":
            field = "max_completion_tokens" if official else "max_tokens"
        target = Target(
            base_url=base_url,
            key=self._secret(base_url),
            key_env=self.api_key_env,
            organization=self.organization,
            model=self.model,
            options=self.options,
            max_tokens_field=field,
            include_usage=self.include_usage,
            strict_end=self.strict_end,
            strict_schema=self.strict_schema,
        )
        return OpenAISession(target, self.http_client)

    def _secret(self, base_url: str) -> SecretStr | None:
        """Return the key, where there is one and it may be sent."""
        value = os.environ.get(self.api_key_env, "").strip() if self.api_key_env is not None else ""
        if not value:
            return None
        if not _HEADER_VALUE.fullmatch(value):
            raise SettingsError(
                f"{self.api_key_env} must hold a key of visible ASCII characters without blanks; what it holds is not "
                "shown here"
            )
        url = httpx.URL(base_url)
        if url.scheme == "http" and not self.allow_plain_http and not is_loopback(url.host):
            raise SettingsError(
                f"the key in {self.api_key_env} would go unencrypted to {base_url}; use https://, or send no key with "
                "api_key_env=None, or set allow_plain_http=True if that network is your own"
            )
        return SecretStr(value)


def _parse_url(text: str, setting: str) -> str:
    """Return a base URL without a slash at its end, and without the port that its scheme means anyway."""
    url = str(httpx.URL(parse_host(text, setting=setting, port=80))).rstrip("/")
    if url.endswith("/chat/completions"):
        raise SettingsError(f"{setting} must be what stands before /chat/completions, got '{text[:100]}'")
    return url
