"""What the tests of the Ollama backend share: answers to replay, made up or recorded, and one attempt at a server."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from llmlab.backends.ollama import OllamaBackend
from llmlab.core.backend import AttemptKey, Outcome, Timeouts
from llmlab.core.messages import LLMRequest
from llmlab.server.recording import Chunk, Ending, Exchange, load

RECORDINGS = Path(__file__).parent / "data" / "ollama"
KEY = AttemptKey(0, 1)
HELLO = LLMRequest(prompt="Hello")

# The recorder shortened long lists inside JSON; without the note about it the JSON can be read again.
_CUT = re.compile(rb", \.\.\.CUT: \d+ numbers in all\.\.\.")


def recorded(case: str) -> list[Exchange]:
    """Read a recording's exchanges with Ollama's own endpoints."""
    return [
        exchange.replace(chunks=tuple(Chunk(_CUT.sub(b"", chunk.data), chunk.at) for chunk in exchange.chunks))
        for exchange in load(RECORDINGS / f"{case}.json")
        if not exchange.path.startswith("/v1")
    ]


def line(text: str = "", **more: Any) -> bytes:
    """Return one line of an answer of /api/generate."""
    return json.dumps({"model": "m", "response": text, "done": False, **more}).encode() + b"\n"


LAST = line(done=True, done_reason="stop", prompt_eval_count=3, eval_count=2)


def answer(
    *chunks: bytes,
    status: str = "200 OK",
    headers: tuple[tuple[str, str], ...] = (),
    kind: str | None = "application/x-ndjson",
    ending: Ending = "complete",
    path: str = "/api/generate",
    method: str = "POST",
) -> Exchange:
    """Make up an answer, sent as these HTTP chunks, to any request for the path."""
    content_type = (("Content-Type", kind),) if kind is not None else ()
    return Exchange(
        method=method,
        path=path,
        model=None,
        stream=None,
        status_line=f"HTTP/1.1 {status}",
        headers=(*content_type, *headers, ("Transfer-Encoding", "chunked")),
        chunks=tuple(Chunk(chunk) for chunk in chunks),
        ending=ending,
    )


def tags(*names: str, **more: Any) -> Exchange:
    """Make up the answer of /api/tags."""
    return listing("/api/tags", *({"name": name, **more} for name in names))


def listed(*models: Any) -> bytes:
    """Return the body of a listing of models."""
    return json.dumps({"models": models}).encode()


def listing(path: str, *models: Any) -> Exchange:
    """Make up the answer of /api/tags or /api/ps."""
    return answer(listed(*models), kind="application/json; charset=utf-8", path=path, method="GET")


def attempt(url: str, request: LLMRequest = HELLO, *, timeouts: Timeouts | None = None, **settings: Any) -> Outcome:
    """Make one attempt on an event loop of its own, and close everything."""

    async def once() -> Outcome:
        session = OllamaBackend(**{"base_url": url, "model": "m", **settings}).session()
        try:
            return await session.attempt(request, timeouts=timeouts or Timeouts(), key=KEY)
        finally:
            await session.aclose()

    return asyncio.run(once())
