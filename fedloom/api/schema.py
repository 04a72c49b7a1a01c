"""From declared types to a structural OpenAPI v3 schema, as a CustomResourceDefinition wants it.

Structural means: no `$ref`, no types inside of `anyOf`, `exclusiveMinimum` a boolean. Whatever a
field declares (meaning, bounds, default) ends up here, and nothing else does.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from fedloom.api.declaration import (
    Bounds,
    Catalogue,
    Declared,
    DeclaredField,
    Form,
    Parameter,
    Rule,
    declared_fields,
)
from fedloom.api.pod import PodTemplate

Schema = dict[str, Any]

_ANYTHING: Mapping[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_SCALARS: Mapping[type, Mapping[str, str]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer", "format": "int64"},
    float: {"type": "number"},
}


def schema_of(noun: type[Any], description: str, has_defaults: bool = True) -> Schema:
    """Give the schema of a dataclass; without `has_defaults` the API server fills nothing in."""
    fields = declared_fields(noun)
    properties = {
        field.name: _field(field, has_defaults)
        for field in fields
        if field.declared.form is not Form.INLINE
    }
    schema: Schema = {"type": "object", "description": description, "properties": properties}
    required = [field.name for field in fields if field.is_required]
    if required:
        schema["required"] = required
    rules: tuple[Rule, ...] = getattr(noun, "RULES", ())
    if rules:
        schema["x-kubernetes-validations"] = [
            {"rule": rule.expression, "message": rule.message} for rule in rules
        ]
    return schema


def _field(field: DeclaredField, has_defaults: bool) -> Schema:
    hint, declared = field.type, field.declared
    if field.is_optional:
        (hint,) = (part for part in typing.get_args(hint) if part is not type(None))
    schema = _typed(hint, declared, has_defaults)
    has_default = isinstance(field.default, bool | int | float | str)
    if has_defaults and has_default and declared.form is not Form.PRESENCE:
        schema["default"] = field.default
    return schema


def _typed(hint: Any, declared: Declared, has_defaults: bool) -> Schema:
    described = {"description": declared.description}
    origin = typing.get_origin(hint)
    if declared.form is Form.PRESENCE:
        return {"type": "object", **described}
    if hint is PodTemplate:
        return _template(declared.description)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        schema = schema_of(hint, declared.description, has_defaults)
        return _with_catalogue(schema, hint, declared.catalogue) if declared.catalogue else schema
    if origin is tuple:
        items = _typed(typing.get_args(hint)[0], Declared(""), has_defaults)
        return {"type": "array", **described, **_list(declared), "items": _undescribed(items)}
    if origin is collections.abc.Mapping:
        return _mapping(typing.get_args(hint)[1], described)
    return {**_SCALARS[hint], **described, **_bounds(declared.bounds)}


def _mapping(value: Any, described: Mapping[str, str]) -> Schema:
    if value in _SCALARS:
        return {"type": "object", **described, "additionalProperties": dict(_SCALARS[value])}
    return {**_ANYTHING, **described}


def _list(declared: Declared) -> Schema:
    limits: Schema = {}
    if declared.bounds.max_items is not None:
        limits["maxItems"] = declared.bounds.max_items
    if declared.list_key:
        limits |= {
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": [declared.list_key],
        }
    return limits


def _undescribed(schema: Schema) -> Schema:
    return {key: part for key, part in schema.items() if key != "description" or part}


def _bounds(bounds: Bounds) -> Schema:
    limits: Schema = {
        "enum": list(bounds.choices) or _powers_of_two(bounds),
        # Kubernetes looks for a pattern anywhere in the text.
        "pattern": f"^(?:{bounds.pattern})$" if bounds.pattern else None,
        "maxLength": bounds.max_length,
        "format": "date-time" if bounds.is_time else None,
        "minimum": bounds.minimum if bounds.above is None else bounds.above,
        "exclusiveMinimum": None if bounds.above is None else True,
        "maximum": bounds.maximum if bounds.below is None else bounds.below,
        "exclusiveMaximum": None if bounds.below is None else True,
    }
    return {key: limit for key, limit in limits.items() if limit is not None and limit != []}


def _powers_of_two(bounds: Bounds) -> list[int]:
    if not bounds.power_of_two or bounds.minimum is None or bounds.maximum is None:
        return []
    powers = (1 << exponent for exponent in range(int(bounds.maximum).bit_length()))
    return [power for power in powers if bounds.minimum <= power <= bounds.maximum]


def _with_catalogue(schema: Schema, noun: type[Any], catalogue: Catalogue) -> Schema:
    """Say which names can be chosen, and which parameters there are over all of them."""
    name, parameters = _choice_fields(noun)
    properties = schema["properties"]
    properties[name.name]["enum"] = list(catalogue)
    taken = {
        key: _parameter(
            {each: catalogue[each][key] for each in catalogue if key in catalogue[each]}
        )
        for entries in catalogue.values()
        for key in entries
    }
    if parameters.declared.form is Form.INLINE:
        properties |= taken
    else:
        described = parameters.declared.description
        properties[parameters.name] = {
            "type": "object",
            "description": described,
            "properties": taken,
        }
    return schema


def _choice_fields(noun: type[Any]) -> tuple[DeclaredField, DeclaredField]:
    """A choice is a class whose first field is the name; its mapping holds the parameters."""
    name, *rest = declared_fields(noun)
    is_mapping = collections.abc.Mapping
    return name, next(each for each in rest if typing.get_origin(each.type) is is_mapping)


def _parameter(takers: Mapping[str, Parameter]) -> Schema:
    """Describe a parameter: of one meaning and the same bounds for all that take it."""
    # No default here: one of fedavgm's parameters filled into a fedavg job would be refused.
    parameter, *_ = takers.values()
    names: dict[float | str, list[str]] = {}
    for name, taken in takers.items():
        if taken.default is not None:
            names.setdefault(taken.default, []).append(name)
    ways = "; ".join(f"{default} for {', '.join(each)}" for default, each in names.items())
    description = f"{parameter.description} If left out: {ways}." if ways else parameter.description
    return {**_SCALARS[parameter.kind], "description": description, **_bounds(parameter.bounds)}


def _template(description: str) -> Schema:
    """A pod template: all of it is kept, only what makes it one is checked."""
    container = {
        **_ANYTHING,
        "required": ["name"],
        "properties": {"name": {"type": "string", "description": "The container's name."}},
    }
    containers = {
        "type": "array",
        "description": "The containers; Fedloom's variables reach the first one.",
        "items": container,
    }
    spec = {
        **_ANYTHING,
        "description": "A pod's spec: every field that the cluster's pods have.",
        "required": ["containers"],
        "properties": {"containers": containers},
    }
    metadata = {**_ANYTHING, "description": "Labels and annotations of the pod."}
    return {
        "type": "object",
        "description": description,
        "properties": {"metadata": metadata, "spec": spec},
    }
