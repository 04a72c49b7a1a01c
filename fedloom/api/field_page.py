"""docs/fields.md: every field of the three kinds, from the same types as the CRDs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fedloom.api.crd import crds

Schema = Mapping[str, Any]

_HEAD = """\
# Every field

Written by `make crds` from the types in `fedloom/api`, as the CRDs are; do not edit. On a cluster
`kubectl explain fl.spec` says the same. *Required* is meant within the object that a field stands in.
What cannot be combined, and what cannot change once a job is there, `fedloom validate` and the API server
say with the reason.
"""


@dataclass(frozen=True)
class _Field:
    path: str
    schema: Schema
    is_required: bool


def page() -> str:
    """Give the page: a section for each kind's spec and status, a table for each part of a spec."""
    parts = [_HEAD]
    for crd in crds().values():
        root = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        kind = crd["spec"]["names"]["kind"]
        parts.append(f"## {kind}\n\n{root['description']}\n")
        parts.extend(_tables(kind, root["properties"]["spec"]))
        parts.append(f"### {kind}'s status\n\n" + _table(_fields(root["properties"]["status"], "")))
    return "\n".join(parts)


def _tables(kind: str, spec: Schema) -> Iterator[str]:
    """Give the table of a spec's fields, then one for each of its objects that has fields."""
    fields = list(_children(spec, ""))
    yield f"### {kind}'s spec\n\n" + _table(iter(fields))
    for field in fields:
        if _is_opened(field.schema):
            table = _table(_fields(field.schema, ""))
            yield f"### spec.{field.path}\n\n{field.schema['description']}\n\n{table}"


def _children(schema: Schema, path: str) -> Iterator[_Field]:
    required = schema.get("required", ())
    for name, child in schema.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        is_list = child["type"] == "array" and "properties" in child["items"]
        yield _Field(here + "[]" if is_list else here, child, name in required)


def _fields(schema: Schema, path: str) -> Iterator[_Field]:
    """Give every field below a schema, a list's after the list; what a pod has is Kubernetes' to tell."""
    inner = schema["items"] if schema["type"] == "array" else schema
    for field in _children(inner, path):
        yield field
        if _is_opened(field.schema):
            yield from _fields(field.schema, field.path)


def _is_opened(schema: Schema) -> bool:
    inner = schema["items"] if schema["type"] == "array" else schema
    fields = inner.get("properties", {})
    return bool(fields) and not any(
        each.get("x-kubernetes-preserve-unknown-fields") for each in fields.values()
    )


def _table(fields: Iterator[_Field]) -> str:
    rows = ["| field | type | meaning |", "|---|---|---|"]
    for field in fields:
        schema = field.schema
        rows.append(f"| `{field.path}` | {_type(schema)} | {_meaning(field)} |")
    return "\n".join(rows) + "\n"


def _type(schema: Schema) -> str:
    if schema["type"] == "array":
        return f"list of {_plural(schema['items']['type'])}"
    if "additionalProperties" in schema:
        return f"map of {_plural(schema['additionalProperties']['type'])}"
    if schema.get("format") == "date-time":
        return "time"
    return str(schema["type"])


def _plural(name: str) -> str:
    return {"array": "lists"}.get(name, f"{name}s")


def _meaning(field: _Field) -> str:
    schema = field.schema
    told = [schema["description"].replace("|", "\\|")]
    inner = schema["items"] if schema["type"] == "array" else schema
    if "enum" in inner:
        told.append("One of " + ", ".join(f"`{each}`" for each in inner["enum"]) + ".")
    told.append(_range(schema))
    if "default" in schema:
        told.append(f"Default: `{_plain(schema['default'])}`.")
    if field.is_required:
        told.append("*Required.*")
    return " ".join(each for each in told if each)


def _range(schema: Schema) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    bounds = []
    if least is not None:
        bounds.append(
            f"{'more than' if schema.get('exclusiveMinimum') else 'from'} {_plain(least)}"
        )
    if most is not None:
        bounds.append(f"{'below' if schema.get('exclusiveMaximum') else 'to'} {_plain(most)}")
    return f"Range: {' '.join(bounds)}." if bounds else ""


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


if __name__ == "__main__":
    sys.stdout.write(page())
