"""Recorded HTTP exchanges as values: read from JSON files, and written out as the bytes that went over the wire.

The files name the request (line, headers, body), the response (status line, headers, and the body as one text or as its
HTTP chunks with their times of arrival), and how the body ended. `replay.py` serves them.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable
    from pathlib import Path

Ending = Literal["complete", "cut", "reset", "stall"]
"""How a body ends: as it should; by closing the connection inside it; by resetting it; or not at all."""

_SHIPPED = (
    *("version", "tags", "ps"),
    *("generate_stream", "chat_stream", "missing_model", "busy_503", "error_mid_stream", "cut"),
)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a body: the bytes, and when they came, in seconds after the request."""

    data: bytes
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and what was answered.

    Attributes:
        method: the request's method.
        path: the request's path.
        model: the model that the request's body names; `None` where it names none, or there is no body.
        stream: whether the request asks for a stream; `None` like `model`. Ollama streams unless told otherwise.
        status_line: the answer's first line, without its line end.
        headers: the answer's headers, in order.
        chunks: the answer's body. With `Transfer-Encoding: chunked` each becomes one HTTP chunk.
        ending: how the body ends.
        case: the recording's name.
    """

    method: str
    path: str
    model: str | None
    stream: bool | None
    status_line: str
    headers: tuple[tuple[str, str], ...] = ()
    chunks: tuple[Chunk, ...] = ()
    ending: Ending = "complete"
    case: str = ""

    @property
    def status(self) -> int:
        """The answer's status."""
        return int(self.status_line.split(" ", 2)[1])

    def replace(self, **changes: Any) -> Exchange:
        """Return a copy with these fields changed: another ending, or the answer to another request."""
        return dataclasses.replace(self, **changes)


def recordings(*names: str) -> list[Exchange]:
    """Return the recorded exchanges that come with llmlab, all or those named.

    They are of a real Ollama 0.32. The models: `tiny` answers; `tiny-slow`, asked for a stream, in turn answers, is
    busy (503), dies in the middle of its answer, and loses the connection; `nosuch` is not installed.

    Raises:
        ValueError: there is no recording of a name.
    """
    unknown = sorted(set(names) - set(_SHIPPED))
    if unknown:
        raise ValueError(f"there is no recording '{unknown[0]}'; there are: {', '.join(_SHIPPED)}")
    folder = resources.files("llmlab.server") / "recordings"
    return [exchange for name in names or _SHIPPED for exchange in load(folder / f"{name}.json")]


def load(file: Path | Traversable) -> list[Exchange]:
    """Read the exchanges of one file, in their order."""
    recorded = json.loads(file.read_text(encoding="utf-8"))
    return [_exchange(found, str(recorded.get("case", ""))) for found in _exchanges(recorded)]


def _exchanges(value: Any) -> Iterator[dict[str, Any]]:
    """Find the exchanges in a file: itself, a list of them, or groups of which each shows an example."""
    if isinstance(value, dict):
        if "request" in value and "response" in value:
            yield value
        else:
            value = [value[name] for name in ("exchanges", "groups", "example") if name in value]
    if isinstance(value, list):
        for inner in value:
            yield from _exchanges(inner)


def _exchange(recorded: dict[str, Any], case: str) -> Exchange:
    request, response = recorded["request"], recorded["response"]
    method, path, _ = request["line"].split(" ", 2)
    model, stream = asked_for(request.get("body", "").encode())
    if "raw" in response:
        head, _, body = response["raw"].partition("\r\n\r\n")
        status_line, *lines = head.split("\r\n")
        headers = [tuple(line.split(": ", 1)) for line in lines]
        chunks = [Chunk(body.encode())]
    else:
        status_line = response["status_line"]
        headers = [(name, value) for name, value in response["headers"]]
        chunks = _chunks(response)
    if method != "HEAD":
        headers = _with_true_length(headers, sum(len(chunk.data) for chunk in chunks))
    return Exchange(
        method=method,
        path=path,
        model=model,
        stream=stream,
        status_line=status_line,
        headers=tuple((name, value) for name, value in headers),
        chunks=tuple(chunk for chunk in chunks if chunk.data),
        ending=_ending(response.get("ended", "")),
        case=case,
    )


def asked_for(body: bytes) -> tuple[str | None, bool | None]:
    """Return the model and whether a stream is wanted, from a request's body; `None` for what it does not say."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(value, dict):
        return None, None
    model, stream = value.get("model"), value.get("stream", True)
    return (model if isinstance(model, str) else None), (stream if isinstance(stream, bool) else None)


def _chunks(response: dict[str, Any]) -> list[Chunk]:
    if "chunks" in response:
        # a run of chunks that the recorder left out has no data
        return [Chunk(chunk["data"].encode(), chunk["t"]) for chunk in response["chunks"] if "data" in chunk]
    return [Chunk(response.get("body", "").encode(), response.get("t_headers", 0.0))]


def _with_true_length(headers: list[Any], length: int) -> list[tuple[str, str]]:
    """Correct `Content-Length` where the recorder shortened a body; else nothing changes."""
    return [(name, str(length) if name.lower() == "content-length" else value) for name, value in headers]


def _ending(text: str) -> Ending:
    if "connection ended" in text:
        return "cut"
    return "stall" if "client closed" in text else "complete"
