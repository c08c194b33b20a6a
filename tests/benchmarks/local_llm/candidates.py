"""Who makes the calls: bare httpx, the `ollama` client, and llmlab's two clients, all with the same request.

Each makes one call, reads the streamed answer to its end and checks that the whole text came. The sync ones stand
beside httpx's sync client, since that is what their users would write instead.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import httpx

from llmlab import AsyncLocalLLM, LLMFailure, LLMRequest, LLMResponse, LocalLLM
from tests.benchmarks.local_llm.serving import MODEL, TEXT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    Call = Callable[[], Awaitable[None]]
    SyncCall = Callable[[], None]

PROMPT = "Why is the sky blue?"
BODY = {"model": MODEL, "prompt": PROMPT, "stream": True, "truncate": False, "options": {}}


def check(text: str) -> None:
    """Refuse an answer that is not whole.

    Raises:
        RuntimeError: it is not.
    """
    if text != TEXT:
        raise RuntimeError(f"the answer is not whole: {text!r}")


def _check_result(result: LLMResponse | LLMFailure) -> None:
    check(result.text if isinstance(result, LLMResponse) else result.message)


@asynccontextmanager
async def bare_httpx(url: str) -> AsyncIterator[Call]:
    """Post the body with one `httpx.AsyncClient`, and read all lines with `aiter_lines` and `json.loads`."""
    async with httpx.AsyncClient(base_url=url) as client:

        async def call() -> None:
            text = ""
            async with client.stream("POST", "/api/generate", json=BODY) as response:
                response.raise_for_status()
                async for line in response.aiter_lines():
                    text += json.loads(line)["response"]
            check(text)

        yield call


@asynccontextmanager
async def ollama_client(url: str) -> AsyncIterator[Call]:
    """Ask the `ollama` package's `AsyncClient` for a stream."""
    import ollama

    client = ollama.AsyncClient(host=url)

    async def call() -> None:
        text = ""
        async for part in await client.generate(model=MODEL, prompt=PROMPT, stream=True):
            text += part.response
        check(text)

    yield call
    await client._client.aclose()


@asynccontextmanager
async def async_local_llm(url: str) -> AsyncIterator[Call]:
    """Ask an `AsyncLocalLLM` with its default retries and deadlines, and a limit of 64."""
    async with AsyncLocalLLM(base_url=url, model=MODEL, max_concurrency=64) as llm:
        request = LLMRequest(prompt=PROMPT)

        async def call() -> None:
            _check_result(await llm.generate(request))

        yield call


@contextmanager
def bare_httpx_sync(url: str) -> Iterator[SyncCall]:
    """Post the body with one `httpx.Client`, and read all lines with `iter_lines` and `json.loads`."""
    with httpx.Client(base_url=url) as client:

        def call() -> None:
            text = ""
            with client.stream("POST", "/api/generate", json=BODY) as response:
                response.raise_for_status()
                for line in response.iter_lines():
                    text += json.loads(line)["response"]
            check(text)

        yield call


@contextmanager
def ollama_client_sync(url: str) -> Iterator[SyncCall]:
    """Ask the `ollama` package's `Client` for a stream."""
    import ollama

    client = ollama.Client(host=url)

    def call() -> None:
        check("".join(part.response for part in client.generate(model=MODEL, prompt=PROMPT, stream=True)))

    yield call
    client._client.close()


@contextmanager
def local_llm(url: str) -> Iterator[SyncCall]:
    """Ask a `LocalLLM` with its defaults."""
    with LocalLLM(base_url=url, model=MODEL) as llm:
        request = LLMRequest(prompt=PROMPT)
        yield lambda: _check_result(llm.generate(request))


BARE = "bare httpx"
CANDIDATES = {BARE: bare_httpx, "`ollama`": ollama_client, "LocalLLM": async_local_llm}
SYNC_CANDIDATES = {BARE: bare_httpx_sync, "`ollama`": ollama_client_sync, "LocalLLM": local_llm}
