"""What a server says of itself and its models, in Ollama's words and in OpenAI's; none of it takes a model's work."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

from llmlab.backends.ollama_description import tagged
from llmlab.wire import ollama, openai
from llmlab.wire.dialect import Body, compact

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

VERSION = "0.32.15"
"""The version of Ollama whose recordings the shapes are taken from."""
_CONTEXT = 2048
_SIZE = 449297
_KEEP_ALIVE = 300.0
_DETAILS = {
    "parent_model": "",
    "format": "gguf",
    "family": "llama",
    "families": ["llama"],
    "parameter_size": "212K",
    "quantization_level": "F16",
}


class Listing:
    """The answers to `GET` requests and to `POST /api/show`.

    Args:
        models: the names of the models that are there.
        clock: seconds since 1970.
        began: when the server did, on that clock.
    """

    def __init__(self, models: Sequence[str], clock: Callable[[], float], began: float) -> None:
        self._models = [tagged(name) for name in models]
        self._clock = clock
        self._began = began

    def root(self) -> Body:
        """`GET /`: a sign of life."""
        return Body("text/plain; charset=utf-8", b"Ollama is running")

    def version(self) -> Body:
        """`GET /api/version`."""
        return Body(ollama.JSON, compact({"version": VERSION}))

    def tags(self) -> Body:
        """`GET /api/tags`: the models that are there."""
        details = {**_DETAILS, "context_length": _CONTEXT, "embedding_length": 64}
        models = [
            {
                "name": name,
                "model": name,
                "modified_at": ollama.timestamp(self._began),
                "size": _SIZE,
                "digest": _digest(name),
                "details": details,
                "capabilities": ["completion"],
            }
            for name in self._models
        ]
        return Body(ollama.JSON, compact({"models": models}))

    def loaded(self) -> Body:
        """`GET /api/ps`: the models that are loaded."""
        models = [
            {
                "name": name,
                "model": name,
                "size": _SIZE,
                "digest": _digest(name),
                "details": _DETAILS,
                "expires_at": ollama.timestamp(self._clock() + _KEEP_ALIVE),
                "size_vram": 0,
                "context_length": _CONTEXT,
            }
            for name in self._models
        ]
        return Body(ollama.JSON, compact({"models": models}))

    def show(self, name: str) -> Body:
        """`POST /api/show`: one model."""
        shown: dict[str, Any] = {
            "modelfile": f"FROM {tagged(name)}\n",
            "parameters": f"num_ctx                        {_CONTEXT}",
            "template": "{{ .Prompt }}",
            "details": _DETAILS,
            "model_info": {
                "general.architecture": "llama",
                "general.parameter_count": 211904,
                "llama.context_length": _CONTEXT,
                "llama.embedding_length": 64,
            },
            "modified_at": ollama.timestamp(self._began),
            "capabilities": ["completion"],
        }
        return Body(ollama.JSON, compact(shown))

    def v1_models(self) -> Body:
        """`GET /v1/models`."""
        return Body(openai.JSON, compact({"object": "list", "data": [self._v1(name) for name in self._models]}) + b"\n")

    def v1_model(self, name: str) -> Body:
        """`GET /v1/models/NAME`: one model."""
        return Body(openai.JSON, compact(self._v1(tagged(name))) + b"\n")

    def _v1(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": int(self._began), "owned_by": "library"}


def _digest(name: str) -> str:
    return sha256(name.encode()).hexdigest()
