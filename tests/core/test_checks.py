import http.server
import threading
from datetime import date
from typing import Annotated, Literal
from uuid import UUID

import pytest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from llmlab import Answer, FailureReason, FinishReason, LLMRequest
from llmlab.core.checks import refusal, unusable

CANARY = "CANARY"


def refuse_with_the_text(value):
    raise ValueError(f"I do not like {value}")


def refuse_in_own_words(value):
    raise PydanticCustomError("disliked", "I do not like {value}", {"value": value})


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")
    count: Annotated[int, Field(ge=1)] = 1
    day: date = date(2000, 1, 1)
    name: Annotated[str, AfterValidator(refuse_with_the_text)] = ""
    note: Annotated[str, AfterValidator(refuse_in_own_words)] = ""
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] = Cat(kind="cat")
    prices: dict[str, int] = {}
    identity: UUID | None = None
    colour: Literal["red", "blue"] = "red"


SCHEMA = {
    "type": "object",
    "properties": {"count": {"type": "integer", "minimum": 1}, "colour": {"enum": ["red"]}, "day": {"pattern": "^2"}},
    "additionalProperties": {"type": "integer"},
    "propertyNames": {"maxLength": 6},
}


def failure_of(text, wanted, **answer):
    failure, parsed = unusable(LLMRequest(prompt="a", response_format=wanted, max_tokens=9), Answer(text, **answer))
    assert failure is None or parsed is None
    return failure


@pytest.mark.parametrize(
    ("text", "wanted", "expected"),
    [
        ('{"count": 0}', Order, "count: Input should be greater than or equal to 1"),
        ('{"prices": {"CANARY": "CANARY"}}', Order, "prices.*: Input should be a valid integer"),
        ('{"CANARY": 1}', Order, "*: Extra inputs are not permitted"),
        ('{"name": "CANARY"}', Order, "name: is refused (value_error)"),
        ('{"note": "CANARY"}', Order, "note: is refused (disliked)"),
        ('{"pet": {"kind": "CANARY"}}', Order, "pet: is refused (union_tag_invalid)"),
        ('{"pet": {"kind": "dog"}}', Order, "pet.dog.name: Field required"),
        ('{"identity": "CANARY"}', Order, "identity: is refused (uuid_parsing)"),
        ('{"colour": "CANARY", "count": "CANARY"}', Order, "count: Input should be a valid integer"),
        ('{"day": "CANARY"}', Order, "day: Input should be a valid date"),
        ("CANARY", Order, "the whole: Invalid JSON"),
        ('{"CANARY": CANARY}', Order, "the whole: Invalid JSON"),
        ('["CANARY"]', Order, "the whole: Input should be an object"),
        ('{"count": 0}', SCHEMA, "count: fails the schema's 'minimum'"),
        ('{"colour": "CANARY"}', SCHEMA, "colour: fails the schema's 'enum'"),
        ('{"CANARY": "CANARY"}', SCHEMA, "*: fails the schema's 'type'"),
        ('{"CANARY-too-long": 1}', SCHEMA, "the whole: fails the schema's 'maxLength'"),
        ('{"day": "CANARY"}', SCHEMA, "day: fails the schema's 'pattern'"),
        ("CANARY", SCHEMA, "it is no JSON at character 0"),
        ('{"a": CANARY', "json", "it is no JSON at character 6"),
        ("[" * 200_000, "json", "it is nested too deeply"),
        ("[" * 200_000, SCHEMA, "it is nested too deeply"),
    ],
)
def test_malformed_output_is_described_without_being_quoted(text, wanted, expected):
    failure = failure_of(text, wanted)
    assert failure.reason is FailureReason.MALFORMED_OUTPUT
    assert expected in failure.message
    assert CANARY not in failure.message


@pytest.mark.parametrize(
    ("text", "wanted", "parsed"),
    [
        ('{"kind": "cat"}', Cat, Cat(kind="cat")),
        ('{"count": 3}', SCHEMA, {"count": 3}),
        ("[1, 2]", "json", [1, 2]),
        ("null", "json", None),
        ("free text", None, None),
    ],
)
def test_fitting_output_is_parsed(text, wanted, parsed):
    failure, value = unusable(LLMRequest(prompt="a", response_format=wanted), Answer(text))
    assert failure is None
    assert value == parsed


@pytest.mark.parametrize("text", ["", " ", "\n"])
def test_blank_output_is_empty_or_refused(text):
    assert failure_of(text, None).reason is FailureReason.EMPTY_OUTPUT
    assert failure_of(text, "json").reason is FailureReason.EMPTY_OUTPUT
    assert failure_of(text, None, finish_reason=FinishReason.CONTENT_FILTER).reason is FailureReason.REFUSED


def test_output_cut_at_max_tokens_is_a_failure_only_where_it_no_longer_fits():
    cut = {"finish_reason": FinishReason.LENGTH}
    assert failure_of("free te", None, **cut) is None
    assert failure_of("[1, 2]", "json", **cut) is None
    failure = failure_of('{"coun', SCHEMA, **cut)
    assert failure.reason is FailureReason.TRUNCATED_OUTPUT
    assert not failure.is_retryable
    assert "max_tokens=9" in failure.message
    assert "allow more tokens" in failure.message


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "objekt"}, "response_format is no valid JSON schema: type"),
        ({"properties": {"a": {"minimum": "x"}}}, "properties.a.minimum"),
        ({"properties": {"a": {"pattern": "["}}}, "properties.a.pattern"),
        ({"$ref": "#/$defs/Gone"}, "refers to '#/$defs/Gone', which is not in it"),
        ({"properties": {"a": {"items": {"$ref": "other.json"}}}}, "refers to 'other.json'"),
        ({"$defs": {"A": {"$ref": "urn:example:b"}}}, "refers to 'urn:example:b'"),
    ],
)
def test_a_schema_that_cannot_be_met_fails_the_call_before_anything_is_sent(schema, message):
    failure = refusal(LLMRequest(prompt="a", response_format=schema))
    assert failure.reason is FailureReason.INVALID_REQUEST
    assert not failure.is_retryable
    assert message in failure.message


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"$defs": {"A": {"type": "integer"}}, "properties": {"$ref": {"$ref": "#/$defs/A"}}},
        {"properties": {"a": {"$ref": "#"}}},
        {"$id": "https://example.org/a", "$defs": {"A": {"$anchor": "here"}}, "$ref": "#here"},
        {"const": {"$ref": "nowhere"}},
        Order.model_json_schema(),
    ],
)
def test_references_inside_a_schema_are_followed(schema):
    assert refusal(LLMRequest(prompt="a", response_format=schema)) is None


def test_a_remote_schema_is_never_fetched():
    asked = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)

    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_address[1]}/schema.json"
            for schema in (
                {"$ref": url},
                {"$schema": url},
                {"definitions": {"a": {"$ref": url}}, "$ref": "#/definitions/a"},
            ):
                request = LLMRequest(prompt="a", response_format=schema)
                if refusal(request) is None:
                    unusable(request, Answer("1"))
        finally:
            server.shutdown()
            thread.join()
    assert asked == []


def test_a_schema_that_refers_to_itself_without_end_fails_and_does_not_raise():
    assert failure_of("1", {"$ref": "#"}).reason is FailureReason.MALFORMED_OUTPUT


def test_a_reference_out_of_the_schema_is_not_followed_by_the_check_of_an_answer_either():
    request = LLMRequest(prompt="a", response_format={"$ref": "http://127.0.0.1:1/schema.json"})
    failure, parsed = unusable(request, Answer("{}"))
    assert (failure.reason, parsed) == (FailureReason.MALFORMED_OUTPUT, None)
    assert failure.message == "the text does not fit the response_format: the schema refers to something outside itself"
