"""A script's entries as data: what an attempt meets, where it is written in a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from llmlab.backends.fault_kinds import FaultKind
from llmlab.core.backend import Answer, AttemptFailure
from llmlab.core.messages import Usage
from llmlab.core.settings import Settings, nearest
from llmlab.core.vocabulary import FailureReason, FinishReason

ANSWER = "answer"
"""In a script: answer, whatever the probabilities say."""


class ScriptedAnswer(Settings):
    """An `Answer` as a table."""

    kind: Literal["answer"] = "answer"
    text: str
    model: str = ""
    usage: Usage = Usage()
    finish_reason: FinishReason = FinishReason.STOP
    time_to_first_token: float | None = None


class ScriptedFailure(Settings):
    """An `AttemptFailure` as a table."""

    kind: Literal["failure"] = "failure"
    reason: FailureReason
    message: str
    status_code: int | None = None
    retry_after: float | None = None
    cause: None = None
    """An exception, which only Python can give."""
    retryable: bool | None = None


_KINDS: dict[str, tuple[type[Settings], type[Answer | AttemptFailure]]] = {
    "answer": (ScriptedAnswer, Answer),
    "failure": (ScriptedFailure, AttemptFailure),
}


def script_entries(given: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a script, with entries made from tables where they are given so.

    Raises:
        ValueError: an entry is none.
    """
    return tuple(_entry(one) for one in given)


def _entry(given: Any) -> Any:
    if isinstance(given, Mapping):
        kind = given.get("kind")
        if kind not in _KINDS:
            raise ValueError(f"an entry's kind must be known, got {kind!r}; {nearest(str(kind), _KINDS)}")
        settings, entry = _KINDS[kind]
        checked = settings(**given)
        return entry(**{name: getattr(checked, name) for name in entry._fields})
    valid = [*FaultKind, ANSWER]
    if not isinstance(given, Answer | AttemptFailure) and given not in valid:
        raise ValueError(f"{given!r} is no Answer, no AttemptFailure and none of {', '.join(valid)}")
    return given
