"""Is there something to ask, and is what came back usable? Pure checks before the first attempt and after each answer.

An answer that kept the protocol may still be useless: blank, or not what the request's `response_format` asked for.
Messages name what is wrong and never quote the model's text.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core.core_schema import ErrorType

from llmlab.core.backend import Answer, AttemptFailure
from llmlab.core.messages import schema_of
from llmlab.core.vocabulary import FailureReason, FinishReason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from llmlab.core.messages import LLMRequest

EMPTY_PROMPT = AttemptFailure(FailureReason.EMPTY_PROMPT, "the prompt is empty or blank; nothing was sent")
EMPTY_OUTPUT = AttemptFailure(FailureReason.EMPTY_OUTPUT, "the model answered with an empty or blank text")


def unusable(request: LLMRequest, answer: Answer) -> tuple[AttemptFailure | None, Any]:
    """Return why an answer cannot be used, or `None`, and the parsed object where the request wants one."""
    text = answer.text
    if not text or text.isspace():
        if answer.finish_reason is FinishReason.CONTENT_FILTER:
            return AttemptFailure(FailureReason.REFUSED, "a content filter withheld the answer"), None
        return EMPTY_OUTPUT, None
    wanted = request.response_format
    if wanted is None:
        return None, None
    try:
        return None, _parsed(text, wanted)
    except _Mismatch as mismatch:
        if answer.finish_reason is FinishReason.LENGTH:
            limit = f"max_tokens={request.max_tokens}" if request.max_tokens else "the server's limit"
            message = f"the text was cut at {limit} and does not fit the response_format: {mismatch}; allow more tokens"
            return AttemptFailure(FailureReason.TRUNCATED_OUTPUT, message), None
        message = f"the text does not fit the response_format: {mismatch}"
        return AttemptFailure(FailureReason.MALFORMED_OUTPUT, message), None


class _Mismatch(Exception):
    """Says where a text departs from the wanted format, without quoting it."""


def _parsed(text: str, wanted: str | dict[str, Any] | type[BaseModel]) -> Any:
    if isinstance(wanted, type):
        try:
            return wanted.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False, include_context=False)[0]
            more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
            words = first["msg"] if first["type"] in _QUOTES_NOTHING else f"is refused ({first['type']})"
            raise _Mismatch(f"{_path(first['loc'], wanted)}: {words}{more}") from None
    try:
        value = json.loads(text)
    except ValueError as error:
        where = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise _Mismatch(f"it is no JSON{where}") from None
    except RecursionError:
        raise _Mismatch("it is nested too deeply") from None
    if isinstance(wanted, dict):
        _check_schema(value, wanted)
    return value


_MAY_QUOTE = {"value_error", "assertion_error", "union_tag_invalid", "uuid_parsing"}
_QUOTES_NOTHING = frozenset(get_args(ErrorType)) - _MAY_QUOTE
"""The kinds of error whose words are pydantic's own and hold nothing of the text; a user's validator may quote it."""


def _path(location: Iterable[int | str], wanted: dict[str, Any] | type[BaseModel]) -> str:
    """Say where, in the names of the wanted format; a name that only the text has is a `*`."""
    known = frozenset(_names(schema_of(wanted) if isinstance(wanted, type) else wanted))
    return ".".join(str(part) if isinstance(part, int) or part in known else "*" for part in location) or "the whole"


def _names(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from schema
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            yield from _names(part)


def _check_schema(value: Any, schema: dict[str, Any]) -> None:
    """Validate against a JSON schema; references to other documents are never fetched."""
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - loaded only where a schema is asked for
    from referencing import Registry  # noqa: PLC0415
    from referencing.exceptions import Unresolvable  # noqa: PLC0415

    try:
        error = next(iter(Draft202012Validator(schema, registry=Registry()).iter_errors(value)), None)
    except Unresolvable:
        raise _Mismatch("the schema refers to something outside itself") from None
    except RecursionError:
        raise _Mismatch("it is nested too deeply, or the schema refers to itself without end") from None
    if error is not None:
        raise _Mismatch(f"{_path(error.absolute_path, schema)}: fails the schema's '{error.validator}'")


def refusal(request: LLMRequest) -> AttemptFailure | None:
    """Return why a request is not worth sending, or `None`: nothing to answer, or a response format that is none."""
    if request.is_blank:
        return EMPTY_PROMPT
    schema = request.response_format
    if not isinstance(schema, dict):
        return None
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - loaded only where a schema is asked for
    from jsonschema.exceptions import SchemaError  # noqa: PLC0415

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        where = _path(error.absolute_path, schema)
        message = f"response_format is no valid JSON schema: {where}: {error.message[:200]}"
        return AttemptFailure(FailureReason.INVALID_REQUEST, message)
    reference = _leads_nowhere(schema)
    if reference is None:
        return None
    message = f"response_format refers to '{reference}', which is not in it; other documents are never fetched"
    return AttemptFailure(FailureReason.INVALID_REQUEST, message)


def _leads_nowhere(schema: dict[str, Any]) -> str | None:
    """Return a reference of the schema to something that is not in it, if there is one."""
    from referencing import Registry  # noqa: PLC0415 - loaded only where a schema is asked for
    from referencing.exceptions import Unresolvable  # noqa: PLC0415
    from referencing.jsonschema import DRAFT202012  # noqa: PLC0415

    whole = DRAFT202012.create_resource(schema)
    parts = [(whole, Registry().with_resource("", whole).resolver_with_root(whole))]
    while parts:
        part, resolver = parts.pop()
        reference = part.contents.get("$ref") if isinstance(part.contents, dict) else None
        try:
            if reference is not None:
                resolver.lookup(reference)
            parts += [(inner, resolver.in_subresource(inner)) for inner in part.subresources()]
        except Unresolvable:
            return str(reference)
    return None
