"""The simplest object that fits a JSON schema, so that the simulated server can answer a `response_format`.

It knows the parts of JSON Schema that pydantic models and structured outputs use: types, properties, items, enums,
constants, bounds, formats, local references, and alternatives (the first one that does not lead back to where it came
from). It cannot fit a `pattern`, a `not`, or items that must differ.
"""

from __future__ import annotations

import math
from typing import Any

_FORMATS = {
    "date": "2000-01-01",
    "date-time": "2000-01-01T00:00:00Z",
    "duration": "PT1S",
    "email": "user@example.org",
    "hostname": "example.org",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "json-string": "null",
    "time": "00:00:00",
    "uri": "https://example.org/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def schema_example(schema: dict[str, Any]) -> Any:
    """Return an object that fits the schema; optional properties are left out."""
    return _Example(schema).of(schema, ())


class _Example:
    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root

    def of(self, schema: Any, inside: tuple[str, ...]) -> Any:
        """Return an example of a part of the schema; `inside` are the references that led to it."""
        if not isinstance(schema, dict):
            return None
        for key in ("const", "default"):
            if key in schema:
                return schema[key]
        if schema.get("enum"):
            return schema["enum"][0]
        rest = {name: value for name, value in schema.items() if name not in {"$ref", "anyOf", "oneOf", "allOf"}}
        reference = schema.get("$ref")
        if reference is not None:
            if reference in inside:
                return None  # an object that must contain itself: nothing fits
            return self.of(_merged(_resolve(reference, self._root), rest), (*inside, reference))
        for key in ("anyOf", "oneOf"):
            if schema.get(key):
                return self.of(_merged(_first_that_ends(schema[key], inside), rest), inside)
        if schema.get("allOf"):
            for part in schema["allOf"]:
                rest = _merged(_resolve(part["$ref"], self._root) if "$ref" in part else part, rest)
            return self.of(rest, inside)
        return self._of_type(schema, inside)

    def _of_type(self, schema: dict[str, Any], inside: tuple[str, ...]) -> Any:
        kind = schema.get("type", _implied_type(schema))
        kind = kind[0] if isinstance(kind, list) else kind
        if kind == "object":
            return self._object(schema, inside)
        if kind == "array":
            first = [self.of(item, inside) for item in schema.get("prefixItems", ())]
            more = max(0, schema.get("minItems", 0) - len(first))
            return [*first, *(self.of(schema.get("items", {}), inside) for _ in range(more))]
        if kind == "string":
            text = _FORMATS.get(schema.get("format", ""), "text")
            return text.ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength")]
        if kind in {"integer", "number"}:
            return _number(schema, whole=kind == "integer")
        return True if kind == "boolean" else None

    def _object(self, schema: dict[str, Any], inside: tuple[str, ...]) -> dict[str, Any]:
        properties = schema.get("properties", {})
        example = {name: self.of(properties.get(name, {}), inside) for name in schema.get("required", ())}
        for number in range(schema.get("minProperties", 0) - len(example)):
            example[f"key{number}"] = self.of(schema.get("additionalProperties", {}), inside)
        return example


def _implied_type(schema: dict[str, Any]) -> str:
    if "properties" in schema or "required" in schema:
        return "object"
    return "array" if "items" in schema or "prefixItems" in schema else "string"


def _merged(schema: Any, more: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that asks for what both ask for, as far as an example needs it."""
    schema = schema if isinstance(schema, dict) else {}
    both = {**schema, **more}
    if "properties" in schema and "properties" in more:
        both["properties"] = {**schema["properties"], **more["properties"]}
    if "required" in schema and "required" in more:
        both["required"] = list(dict.fromkeys([*schema["required"], *more["required"]]))
    return both


def _first_that_ends(choices: list[Any], inside: tuple[str, ...]) -> Any:
    return next((one for one in choices if not (isinstance(one, dict) and one.get("$ref") in inside)), choices[0])


def _number(schema: dict[str, Any], *, whole: bool) -> float:
    """Return 1 if that is within the bounds, else a number close to one of them or between them."""
    low, low_excluded = _bound(schema, "minimum", "exclusiveMinimum", -math.inf)
    high, high_excluded = _bound(schema, "maximum", "exclusiveMaximum", math.inf)
    step: float = schema.get("multipleOf", 1 if whole else 0)
    if step:
        first = math.floor(low / step) + 1 if low_excluded else math.ceil(low / step) if low > -math.inf else None
        last = math.ceil(high / step) - 1 if high_excluded else math.floor(high / step) if high < math.inf else None
        best = 1 if first is None else max(first, 1)
        return (best if last is None else min(best, last)) * step
    if low < 1 < high:
        return 1
    if low == -math.inf or high == math.inf:
        return low + low_excluded if high == math.inf else high - high_excluded
    return (low + high) / 2


def _bound(schema: dict[str, Any], included: str, excluded: str, none: float) -> tuple[float, bool]:
    """Return the tighter of two bounds, and whether the bound itself is excluded."""
    tighter = max if none < 0 else min
    value, limit = schema.get(included, none), schema.get(excluded, none)
    return tighter(value, limit), limit == tighter(value, limit) and excluded in schema


def _resolve(reference: str, root: dict[str, Any]) -> Any:
    """Follow a local reference (`#/$defs/Name`, `#`); others lead nowhere."""
    if reference == "#":
        return root
    place: Any = root
    for part in reference.removeprefix("#/").split("/") if reference.startswith("#/") else ():
        place = place.get(part.replace("~1", "/").replace("~0", "~"), {}) if isinstance(place, dict) else {}
    return {} if place is root else place
