"""An Ollama server in a process of its own, so that what it costs is not counted as the client's."""

from __future__ import annotations

import json
import multiprocessing
from contextlib import contextmanager
from typing import TYPE_CHECKING

from llmlab.server.recording import Chunk, Exchange
from llmlab.server.replay import ReplayServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

TOKENS = 16
"""Lines of text in an answer, each an HTTP chunk of its own as Ollama sends them; the line with the counts follows."""
MODEL = "bench"


def _answer() -> Exchange:
    """Return the answer to every call: the shape and headers of a recorded one."""
    common = {"model": MODEL, "created_at": "2026-11-22T18:14:48.168653427Z"}
    lines = [{**common, "response": f" word{number}", "done": False} for number in range(TOKENS)]
    counts = {"total_duration": 2776760, "load_duration": 663475, "prompt_eval_count": 23, "eval_count": TOKENS}
    last = {**common, "response": "", "done": True, "done_reason": "stop", "context": list(range(602, 642)), **counts}
    return Exchange(
        method="POST",
        path="/api/generate",
        model=None,
        stream=None,
        status_line="HTTP/1.1 200 OK",
        headers=(
            ("Content-Type", "application/x-ndjson"),
            ("Date", "Sun, 22 Nov 2026 18:14:48 GMT"),
            ("Transfer-Encoding", "chunked"),
        ),
        chunks=tuple(Chunk(json.dumps(line, separators=(",", ":")).encode() + b"\n") for line in [*lines, last]),
    )


def _serve(pipe: Connection) -> None:
    with ReplayServer([_answer()]) as server:
        pipe.send(server.url)
        pipe.recv()  # until the other side is done


@contextmanager
def served() -> Iterator[str]:
    """Give the URL of a server that answers every `/api/generate` at once with `TOKENS` tokens."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there,), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        here.send("done")
        process.join(5)
