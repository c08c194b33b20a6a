"""Reading JSON requests as Go servers do: what they refuse, in their words (recorded from Ollama)."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from llmlab.wire.dialect import Rejected

_GO_NAMES = ((bool, "bool"), (str, "string"), (int | float, "number"), (list, "array"), (dict, "object"))


def parsed(body: bytes) -> dict[str, Any]:
    """Return the object that a request's body holds.

    Raises:
        Rejected: it holds none.
    """
    if not body.strip():
        raise Rejected(400, "missing request body")
    text = body.decode("utf-8", "replace")
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise Rejected(400, _go_error(text, error)) from None
    except (ValueError, RecursionError):
        raise Rejected(400, "exceeded max depth") from None
    if not isinstance(value, dict):
        raise Rejected(400, f"json: cannot unmarshal {_go_name(value)} into Go value of type api.GenerateRequest")
    return value


def field(body: dict[str, Any], name: str, kind: type | Any, go_type: str, *, of: str, default: Any = None) -> Any:
    """Return a field of a body; `null` and a missing one are the default.

    Raises:
        Rejected: it is of another type.
    """
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        what = _go_name(value)
        raise Rejected(400, f"json: cannot unmarshal {what} into Go struct field {of}.{name} of type {go_type}")
    return value


def stop_words(given: object) -> list[str] | None:
    """Return the texts at which to stop, given as one or as a list; what is neither is passed over."""
    words = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    return [word for word in words if isinstance(word, str)] or None


def role_of(given: object) -> Literal["system", "user", "assistant", "tool"]:
    """Return a turn's role; one that is not known speaks as the user."""
    return next((role for role in _ROLES if role == given), "user")


_ROLES: tuple[Literal["system", "user", "assistant", "tool"], ...] = ("system", "user", "assistant", "tool")


def _no_constant(name: str) -> None:
    """Refuse NaN and Infinity, which are no JSON."""
    raise Rejected(400, f"invalid character {name.lstrip('-')[0]!r} looking for beginning of value")


def _go_name(value: object) -> str:
    return next((name for kind, name in _GO_NAMES if isinstance(value, kind)), "null")


def _go_error(text: str, error: json.JSONDecodeError) -> str:
    found = re.compile(r"\s*,?\s*" if error.msg.startswith("Illegal trailing comma") else r"\s*").match(text, error.pos)
    at = found.end() if found else error.pos
    if at >= len(text) or error.msg.startswith("Unterminated string"):
        return "unexpected EOF"
    # Where a key is wanted, and where a value is; the other places are rare and told alike.
    key = "property name" in error.msg or "Illegal trailing comma before end of object" in error.msg
    where = "beginning of object key string" if key else "beginning of value"
    return f"invalid character {text[at]!r} looking for {where}"
