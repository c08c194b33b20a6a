"""Texts that no repr shows: prompts, answers, and what else is a user's own words or a model's.

Reprs end up in logs, tracebacks and stored notebooks without anybody having asked for it, so they say how long such a
text is. Whoever wants the text itself names it: `request.prompt`, `response.text`.
"""

from __future__ import annotations

import re
from collections.abc import Sized
from typing import Any

PRIVATE = frozenset({"content", "messages", "metadata", "prompt", "requests", "script", "stop", "system", "text"})
"""The names of settings that hold the user's own words or a model's: no error quotes what was given there."""


def may_name_a_fault(text: str) -> bool:
    """Whether an entry of a script is one word: rather a fault's name that is misspelt than the text of an answer."""
    return re.fullmatch(r"\w{1,30}", text) is not None


class _Shown:
    """Something whose repr is this text."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def hidden(value: Any) -> Any:
    """Return what a repr shows instead of a value: how long it is, or of which type; `None` stays."""
    if value is None:
        return None
    if isinstance(value, str):
        return _Shown(f"<{len(value)} characters>")
    if isinstance(value, Sized):
        return _Shown(f"<{len(value)} hidden>")
    return _Shown(f"<{type(value).__name__} hidden>")
