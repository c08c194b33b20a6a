"""The simplest object that fits a JSON schema, so that the simulated server can answer a `response_format`.

It knows the parts of JSON Schema that pydantic models and structured outputs use: types, properties, items, enums,
constants, bounds, local references, and the first choice of any alternative.
"""

from __future__ import annotations

from typing import Any

_DEEPEST = 32


def schema_example(schema: dict[str, Any]) -> Any:
    """Return an object that fits the schema; optional properties are left out."""
    return _example(schema, schema, _DEEPEST)


def _example(schema: Any, root: dict[str, Any], depth: int) -> Any:
    if not isinstance(schema, dict) or depth == 0:
        return None
    if "$ref" in schema:
        return _example(_resolve(schema["$ref"], root), root, depth - 1)
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if schema.get("enum"):
        return schema["enum"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return _example({**schema[key][0], **{k: v for k, v in schema.items() if k != key}}, root, depth - 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: _example(properties.get(name, {}), root, depth - 1) for name in schema.get("required", ())}
    if kind == "array":
        return [_example(schema.get("items", {}), root, depth - 1) for _ in range(schema.get("minItems", 0))]
    return _scalar(kind, schema)


def _scalar(kind: str, schema: dict[str, Any]) -> Any:
    if kind == "string":
        return "text".ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength")]
    if kind in {"integer", "number"}:
        low = schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
        high = schema.get("maximum", schema.get("exclusiveMaximum", low + 1) - 1)
        return max(low, min(1, high)) if low <= high else low
    return True if kind == "boolean" else None


def _resolve(reference: str, root: dict[str, Any]) -> Any:
    """Follow a local reference (`#/$defs/Name`); others lead nowhere."""
    place: Any = root
    for part in reference.removeprefix("#/").split("/") if reference.startswith("#/") else ():
        place = place.get(part.replace("~1", "/").replace("~0", "~"), {}) if isinstance(place, dict) else {}
    return {} if place is root else place
