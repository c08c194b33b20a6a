"""The JSON schema of a sweep's file, for editors and for other programs: draft 2020-12.

It is what pydantic knows of the settings, and three things that it cannot know: which backends there are, that one may
stand in front of another, and that a path is also a table of tables. What only all settings together decide (that a
path exists, that probabilities add up) is left to `Sweep.load`.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from llmlab.backends.faults import FAULT_SHORTHANDS, FAULTS, FaultKind
from llmlab.backends.kinds import BACKENDS, backend_setting
from llmlab.core.settings import Settings
from llmlab.experiments.axes import LinearRange, LogRange, Values
from llmlab.experiments.samples import Samples

Schema = dict[str, Any]

_BACKEND: Schema = {"$ref": "#/$defs/Backend"}
_AXES: Schema = {"$ref": "#/$defs/Axes"}
_RANGES: Schema = {"$ref": "#/$defs/Ranges"}


def sweep_schema(sweep: type[Settings], experiment: type[Settings]) -> Schema:
    """Return the schema of a document that these settings are made from."""
    models: list[type[BaseModel]] = [sweep, experiment, Samples, LinearRange, LogRange, Values, *BACKENDS.values()]
    _, schema = models_json_schema([(model, "validation") for model in models])
    defs: dict[str, Schema] = schema["$defs"]
    for definition in defs.values():
        _in_our_words(definition)
    _define_backends(defs)
    defs[experiment.__name__]["properties"]["backend"] = _BACKEND
    _define_axes(defs)
    defs[Samples.__name__]["properties"]["over"] = _RANGES
    top = defs.pop(sweep.__name__)
    top["properties"] |= {"grid": _AXES, "zipped": _one_or_several(_AXES)}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A sweep of llmlab"}
    return {**head, **{name: entry for name, entry in top.items() if name != "title"}, "$defs": defs}


def _in_our_words(definition: Schema) -> None:
    """Say that the kind must be given, which pydantic takes for a default; drop what repeats names or docstrings."""
    if "description" in definition:
        definition["description"] = definition["description"].partition("\n\n")[0].replace("\n", " ")
    properties: dict[str, Schema] = definition.get("properties", {})
    tags = [name for name, entry in properties.items() if "const" in entry]
    if tags:
        definition["required"] = sorted({*definition.get("required", ()), *tags})
    for entry in properties.values():
        entry.pop("title", None)


def _define_backends(defs: dict[str, Schema]) -> None:
    for kind, model in BACKENDS.items():
        properties: dict[str, Schema] = defs[model.__name__]["properties"]
        behind = backend_setting(kind)
        if behind is not None:
            several = properties[behind].get("type") == "array"
            properties[behind] = {"type": "array", "items": _BACKEND} if several else _BACKEND
        for name in getattr(model, "shorthands", ()):
            meaning = FAULTS[FaultKind(FAULT_SHORTHANDS[name])].meaning
            properties[name] = {"type": "number", "minimum": 0, "maximum": 1, "description": meaning}
    defs["Backend"] = {"oneOf": [{"$ref": f"#/$defs/{model.__name__}"} for model in BACKENDS.values()]}


def _define_axes(defs: dict[str, Schema]) -> None:
    values: Schema = {"type": "array", "minItems": 1}
    ranges = [{"$ref": f"#/$defs/{model.__name__}"} for model in (LinearRange, LogRange)]
    listed = {"$ref": f"#/$defs/{Values.__name__}"}
    for name, forms, own in (("Axes", [values, *ranges, listed], _AXES), ("Ranges", [values, *ranges], _RANGES)):
        defs[name] = {
            "description": "What to sweep, by the path of the setting; a table in a table continues the path.",
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {"anyOf": [*forms, own]},
        }


def _one_or_several(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "array", "items": schema}]}
