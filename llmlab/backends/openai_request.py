"""What is sent to chat completions, without any I/O: from a request and the backend's options to a body.

What comes back is read in `openai_protocol.py`.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmlab.core.messages import LLMRequest


def request_body(
    request: LLMRequest,
    *,
    model: str,
    options: Mapping[str, Any],
    max_tokens_field: str,
    strict_schema: bool,
    include_usage: bool,
) -> bytes:
    """Return the body to post to `/chat/completions`.

    What the request says wins over the same option of the backend.
    """
    given = {
        max_tokens_field: request.max_tokens,
        "temperature": request.temperature,
        "stop": request.stop,
        "seed": request.seed,
        "response_format": _response_format(request, strict=strict_schema),
        "stream_options": {"include_usage": True} if include_usage else None,
    }
    body = {
        **options,
        **{name: value for name, value in given.items() if value is not None},
        "model": model,
        "messages": request.conversation(),
        "stream": True,
    }
    return json.dumps(body, separators=(",", ":"), allow_nan=False).encode("ascii")


def _response_format(request: LLMRequest, *, strict: bool) -> dict[str, Any] | None:
    wanted = request.json_schema()
    if wanted is None:
        return None
    if isinstance(wanted, str):
        return {"type": "json_object"}
    # A name must be given, of at most 64 of these characters.
    name = re.sub(r"[^a-zA-Z0-9_-]+", "_", str(wanted.get("title", "")))[:64] or "answer"
    schema: dict[str, Any] = {"name": name, "schema": wanted}
    return {"type": "json_schema", "json_schema": {**schema, "strict": True} if strict else schema}
