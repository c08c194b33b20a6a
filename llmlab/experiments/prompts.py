"""The user's own prompts as the requests of a workload.

    ClosedLoop(requests=prompts("prompts.jsonl"))

Nothing of a prompt ever stands in an error. How files are read stands in `rows.py`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llmlab.core.messages import LLMRequest
from llmlab.core.settings import SettingsError
from llmlab.experiments.rows import MAX_LINE_BYTES, described, field, rows

if TYPE_CHECKING:
    from llmlab.experiments.rows import Source

# What a field must be, since the settings' own words would show the value that is wrong.
_WANTED = {
    "prompt": "a text",
    "model": "a text that is not empty",
    "system": "a text",
    "messages": "a list of {'role': ..., 'content': ...} with the roles system, user, assistant or tool",
    "max_tokens": "a whole number, 1 or more",
    "temperature": "a number, 0 or more",
    "stop": "a text or a list of texts",
    "response_format": "'json', a JSON schema or a pydantic model",
    "seed": "a whole number",
    "metadata": "an object",
}


def prompts(source: Source, column: str = "prompt", *, max_line_bytes: int = MAX_LINE_BYTES) -> tuple[LLMRequest, ...]:
    """Return requests made from your own prompts.

    Args:
        source: one of: a list (or another series) of texts, requests, or objects with the fields of `LLMRequest`; a
            data frame; the name of a CSV file, whose first row names its columns; the name of a file of JSON lines
            (`.jsonl`, `.ndjson`), each a text or an object with the fields of `LLMRequest`. Files are in UTF-8.
        column: the column that holds the prompt. Of objects in a list or in JSON lines it is the field; another one
            than "prompt" means that their other fields are not looked at.
        max_line_bytes: the longest line of a file that is read.

    Raises:
        SettingsError: something is wrong in the source, or it holds no prompt; the message says where (file and line,
            or the number of the row or item, counted from 1) and what, and quotes no prompt.
        OSError: the file cannot be read.
    """
    requests = tuple(
        _request(where, value, column) for where, value in rows(source, column, max_line_bytes=max_line_bytes)
    )
    if not requests:
        raise SettingsError("the source holds no prompt; give at least one")
    return requests


def _request(where: str, value: object, column: str) -> LLMRequest:
    if isinstance(value, LLMRequest):
        return value
    if isinstance(value, Mapping):
        if column == "prompt":
            return _checked(where, value)
        value = field(where, value, column)
    if not isinstance(value, str):
        raise SettingsError(f"{where}: a prompt must be a text or an object, got {described(value)}")
    return _checked(where, {"prompt": value})


def _checked(where: str, fields: Mapping[Any, Any]) -> LLMRequest:
    for name in fields:
        if name not in _WANTED:
            raise SettingsError(f"{where}: {_unknown(name)}")
    try:
        request = LLMRequest(**fields)
    except SettingsError:
        raise SettingsError(f"{where}: {_mistake(fields)}") from None
    try:
        "".join(message["content"] for message in request.conversation()).encode()
    except UnicodeEncodeError:
        raise SettingsError(
            f"{where}: the text holds half a character (a lone surrogate), which is not UTF-8"
        ) from None
    return request


def _unknown(name: object) -> str:
    """Name the field only where it is nearly a valid one: anything else may be a prompt."""
    close = difflib.get_close_matches(name, _WANTED, n=1, cutoff=0.6) if isinstance(name, str) else []
    what = f"no field is called '{name}'; did you mean '{close[0]}'? " if close else "a field has an unknown name; "
    return f"{what}valid: {', '.join(sorted(_WANTED))}"


def _mistake(fields: Mapping[str, Any]) -> str:
    given = [name for name in ("prompt", "messages") if fields.get(name) is not None]
    if len(given) != 1:
        return f"there must be either a prompt or messages, got {'both' if given else 'neither'}"
    for name, value in fields.items():
        try:
            LLMRequest(**({name: value} if name in given else {"prompt": "", name: value}))
        except SettingsError:
            return f"{name} must be {_WANTED[name]}"
    return "the fields do not fit together"
