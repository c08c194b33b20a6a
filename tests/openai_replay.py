"""What the tests of the OpenAI-compatible backend share: answers to replay, and one attempt at a server."""

import asyncio
import json
from pathlib import Path
from typing import Any

from llmlab.backends.openai import OpenAIBackend
from llmlab.core.backend import AttemptKey, Outcome, Timeouts
from llmlab.core.messages import LLMRequest
from llmlab.server.recording import Ending, Exchange, load
from tests import ollama_replay

RECORDINGS = Path(__file__).parent / "data" / "openai"
KEY = AttemptKey(0, 1)
HELLO = LLMRequest(prompt="Hello")
DONE = b"data: [DONE]\n\n"


def recorded(case: str) -> list[Exchange]:
    """Read a recording's exchanges."""
    return load(RECORDINGS / f"{case}.json")


def event(value: Any) -> bytes:
    """Return a server-sent event whose data is this, as JSON."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def chunk(text: str | None = None, *, finish: str | None = None, **delta: Any) -> bytes:
    """Return one event of a streamed answer."""
    content = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": {**content, **delta}, "finish_reason": finish}
    return event({"id": "1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]})


def usage(read: Any = 3, written: Any = 2) -> bytes:
    """Return the event with the token counts."""
    counts = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": 5}
    return event({"id": "1", "object": "chat.completion.chunk", "model": "m", "choices": [], "usage": counts})


LAST = chunk(finish="stop") + usage() + DONE


def whole(text: str | None = "ab", *, finish: str | None = "stop", **more: Any) -> bytes:
    """Return an answer that is one JSON object."""
    message = {"role": "assistant", "content": text, **more}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    counts = {"prompt_tokens": 3, "completion_tokens": 2}
    return json.dumps({"object": "chat.completion", "model": "m", "choices": [choice], "usage": counts}).encode()


def answer(
    *chunks: bytes,
    status: str = "200 OK",
    headers: tuple[tuple[str, str], ...] = (),
    kind: str | None = "text/event-stream; charset=utf-8",
    ending: Ending = "complete",
    path: str = "/v1/chat/completions",
    method: str = "POST",
) -> Exchange:
    """Make up an answer, sent as these HTTP chunks, to any request for the path."""
    return ollama_replay.answer(
        *chunks, status=status, headers=headers, kind=kind, ending=ending, path=path, method=method
    )


def refusal(status: str, body: Any = b"", headers: tuple[tuple[str, str], ...] = ()) -> Exchange:
    """Make up an error answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return answer(data, status=status, headers=headers, kind="application/json")


def models(*names: str, **more: Any) -> Exchange:
    """Make up the answer of /v1/models."""
    body = json.dumps({"object": "list", "data": [{"id": name, "object": "model"} for name in names]}).encode()
    return answer(body, kind="application/json", path="/v1/models", method="GET", **more)


def attempt(url: str, request: LLMRequest = HELLO, *, timeouts: Timeouts | None = None, **settings: Any) -> Outcome:
    """Make one attempt on an event loop of its own, and close everything; `url` is the server's, without `/v1`."""

    async def once() -> Outcome:
        session = OpenAIBackend(**{"base_url": f"{url}/v1", "model": "m", **settings}).session()
        try:
            return await session.attempt(request, timeouts=timeouts or Timeouts(), key=KEY)
        finally:
            await session.aclose()

    return asyncio.run(once())
