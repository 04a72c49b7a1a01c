"""What every object carries, and how one object names another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from fedloom.api.declaration import Bounds, Declared

# A DNS-1123 subdomain, held to the 63 characters of a label: names end up in labels, services,
# folders and object keys.
OBJECT_NAME = Bounds(
    pattern=r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
    pattern_meaning="lower-case letters and digits, with '-' and '.' between them",
    max_length=63,
)


@dataclass(frozen=True)
class ObjectMeta:
    """The metadata of an object.

    Annotations are left out of the repr: tools put whole manifests and credentials into them.
    """

    name: Annotated[str, Declared("The object's name.", OBJECT_NAME)]
    namespace: Annotated[str, Declared("The namespace it lives in.", OBJECT_NAME)] = "default"
    uid: Annotated[str, Declared("Given by the cluster; empty where there is none.")] = ""
    generation: Annotated[int, Declared("Counts the changes of the spec.")] = 0
    labels: Annotated[Mapping[str, str], Declared("Labels.")] = field(default_factory=dict)
    annotations: Annotated[Mapping[str, str], Declared("Annotations.", secret=True)] = field(
        default_factory=dict, repr=False
    )


@dataclass(frozen=True)
class Reference:
    """Names another object of the same namespace; the field that holds it says of which kind."""

    name: Annotated[str, Declared("The name of the object, in the namespace of this one.")]
