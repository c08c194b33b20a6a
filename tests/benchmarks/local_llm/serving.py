"""The fault server, healthy, in a process of its own, so that what it costs is not counted as the client's."""

from __future__ import annotations

import multiprocessing
from contextlib import contextmanager
from typing import TYPE_CHECKING

from llmlab import MockBackend
from llmlab.server.fault_server import FaultServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

TOKENS = 16
"""Of an answer: as many lines, each an HTTP chunk of its own as Ollama sends them; the line with the counts follows."""
TEXT = "word" * TOKENS
MODEL = "bench"


def _serve(pipe: Connection) -> None:
    with FaultServer(MockBackend(latency=0.0, text=TEXT)) as server:
        pipe.send(server.url)
        pipe.recv()  # until the other side is done


@contextmanager
def served() -> Iterator[str]:
    """Give the URL of a server that answers every call at once with `TEXT`."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there,), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        here.send("done")
        process.join(5)
