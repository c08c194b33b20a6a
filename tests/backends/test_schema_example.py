import datetime as dt
import decimal
import enum
import uuid
from typing import Annotated, Any, Literal, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AnyUrl, BaseModel, Field, RootModel, create_model

from llmlab import LLMRequest, MockLLM
from llmlab.backends.schema_example import schema_example


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Leaf(BaseModel):
    name: str
    size: int = 3


class Node(BaseModel):
    value: int
    children: list["Node"]
    parent: Optional["Node"]
    other: "Node | Leaf"


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


LEAVES = [
    *(str, int, float, bool, None, Any, Leaf, Colour, uuid.UUID, AnyUrl, decimal.Decimal, Node),
    *(dt.date, dt.datetime, dt.time, dt.timedelta),
    *(Literal["a", "b"], Literal[1], Cat | Dog, Annotated[Cat | Dog, Field(discriminator="kind")]),
    *(Annotated[str, Field(min_length=9)], Annotated[str, Field(max_length=2)], RootModel[list[int]]),
]
NUMBERS = st.one_of(
    st.integers(-100, 100).flatmap(
        lambda low: st.tuples(
            st.sampled_from([int, float]), st.sampled_from(["ge", "gt"]), st.just(low),
            st.sampled_from(["le", "lt"]), st.just(low + 2), st.sampled_from(["low", "high", "both"]),
        )
    ).map(lambda n: Annotated[n[0], Field(**{
        **({n[1]: n[2]} if n[5] != "high" else {}), **({n[3]: n[4]} if n[5] != "low" else {})
    })]),
    st.floats(-10, 10).map(lambda low: Annotated[float, Field(gt=low, lt=low + 0.5)]),
    st.integers(2, 50).map(lambda step: Annotated[int, Field(multiple_of=step, ge=step + 1)]),
)  # fmt: skip
TYPES = st.recursive(
    st.sampled_from(LEAVES) | NUMBERS,
    lambda inner: st.one_of(
        inner.map(lambda one: list[one]),
        inner.map(lambda one: Annotated[list[one], Field(min_length=2)]),
        inner.map(lambda one: dict[str, one]),
        inner.map(lambda one: Annotated[dict[str, one], Field(min_length=1)]),
        inner.map(lambda one: one | None if one is not None else one),
        st.tuples(inner, inner).map(lambda both: tuple[both[0], both[1]]),
    ),
    max_leaves=4,
)


@settings(max_examples=150)
@given(st.lists(TYPES, max_size=4))
def test_the_example_of_any_model_fits_the_model_and_its_schema(types):
    model = create_model("Model", **{f"field_{number}": (kind, ...) for number, kind in enumerate(types)})
    with MockLLM() as llm:
        assert isinstance(llm.generate(LLMRequest(prompt="a", response_format=model)).unwrap().parsed, model)
        llm.generate(LLMRequest(prompt="a", response_format=model.model_json_schema())).unwrap()


B = {"b": {"const": 2}}
ITSELF_OR_NULL = {"anyOf": [{"$ref": "#"}, {"type": "null"}]}


@pytest.mark.parametrize(
    ("schema", "example"),
    [
        ({}, "text"),
        ({"type": ["null", "string"]}, None),
        ({"const": 7}, 7),
        ({"enum": ["b", "a"]}, "b"),
        ({"type": "integer"}, 1),
        ({"type": "integer", "minimum": 5}, 5),
        ({"type": "integer", "maximum": -5}, -5),
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, 0.5),
        ({"type": "number", "maximum": 0}, 0),
        ({"type": "integer", "multipleOf": 7, "minimum": 8}, 14),
        ({"prefixItems": [{"type": "integer"}], "items": {"type": "boolean"}, "minItems": 2}, [1, True]),
        ({"properties": {"a": {"type": "integer"}, "b": {}}, "required": ["a"]}, {"a": 1}),
        ({"allOf": [{"required": ["a"]}, {"required": ["b"], "properties": B}]}, {"a": "text", "b": 2}),
        ({"$defs": {"A/b": {"const": 1}}, "$ref": "#/$defs/A~1b"}, 1),
        ({"type": "object", "properties": {"a": ITSELF_OR_NULL}, "required": ["a"]}, {"a": {"a": None}}),
        ({"$ref": "#"}, None),
        ({"$ref": "https://example.org/schema"}, "text"),
        ({"format": "email", "type": "string"}, "user@example.org"),
    ],
)  # fmt: skip
def test_examples(schema, example):
    assert schema_example(schema) == example
