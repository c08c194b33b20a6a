"""A script's entries as data: what an attempt meets, where it is written in a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, WithJsonSchema

from llmlab.backends.fault_kinds import FaultKind
from llmlab.core.backend import Answer, AttemptFailure
from llmlab.core.hidden import hidden, may_name_a_fault
from llmlab.core.messages import Usage
from llmlab.core.settings import Settings, nearest
from llmlab.core.vocabulary import FailureReason, FinishReason

ANSWER = "answer"
"""In a script: answer, whatever the probabilities say."""


_TOKENS = {"anyOf": [{"type": "integer"}, {"type": "null"}]}
_USAGE = {
    "type": "object",
    "properties": {"input_tokens": _TOKENS, "output_tokens": _TOKENS},
    "additionalProperties": False,
}


class ScriptedAnswer(Settings):
    """An `Answer` as a table."""

    kind: Literal["answer"] = "answer"
    text: str
    model: str = ""
    usage: Annotated[Usage, WithJsonSchema(_USAGE)] = Usage()
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


def _as_entry(given: Any) -> Any:
    if isinstance(given, Mapping):
        kind = given.get("kind")
        if kind not in _KINDS:
            raise ValueError(f"an entry's kind must be known, got {kind!r}; {nearest(str(kind), _KINDS)}")
        settings, entry = _KINDS[kind]
        checked = settings(**given)
        return entry(**{name: getattr(checked, name) for name in entry._fields})
    valid = [*FaultKind, ANSWER]
    if not isinstance(given, Answer | AttemptFailure) and given not in valid:
        shown = given if isinstance(given, str) and may_name_a_fault(given) else hidden(given)
        raise ValueError(f"{shown!r} is no Answer, no AttemptFailure and none of {', '.join(valid)}")
    return given


Entry = Annotated[
    Any,
    BeforeValidator(_as_entry, json_schema_input_type=FaultKind | Literal["answer"] | ScriptedAnswer | ScriptedFailure),
]
"""A fault's name, `"answer"`, an `Answer` or an `AttemptFailure`; in a file these two are tables."""
