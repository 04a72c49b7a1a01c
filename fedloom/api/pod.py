"""A worker's pod template: kept exactly as written, with a view of what Fedloom itself reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, repr=False)
class PodTemplate:
    """A pod template; `raw` is the mapping of the document, no field of it is ever lost.

    The properties are lenient views: a part that is absent or of another type than a pod has reads
    as empty. The repr shows the image only, environments hold credentials.
    """

    raw: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"PodTemplate(image={self.image!r})"

    @property
    def spec(self) -> Mapping[str, Any]:
        return _mapping(self.raw.get("spec"))

    @property
    def container(self) -> Mapping[str, Any]:
        """The first container: the one that trains or aggregates."""
        containers = _sequence(self.spec.get("containers"))
        return _mapping(containers[0]) if containers else {}

    @property
    def image(self) -> str:
        return _text(self.container.get("image"))

    @property
    def command(self) -> tuple[str, ...]:
        return tuple(_text(part) for part in _sequence(self.container.get("command")))

    @property
    def args(self) -> tuple[str, ...]:
        return tuple(_text(part) for part in _sequence(self.container.get("args")))

    @property
    def environment(self) -> dict[str, str]:
        """The plain `value` entries of `env`, as text; entries with `valueFrom` are left out."""
        entries = (_mapping(entry) for entry in _sequence(self.container.get("env")))
        return {
            _text(entry["name"]): _text(entry.get("value"))
            for entry in entries
            if "name" in entry and "valueFrom" not in entry
        }

    @property
    def node_name(self) -> str | None:
        return _text(self.spec.get("nodeName")) or None

    @property
    def node_selector(self) -> dict[str, str]:
        selector = _mapping(self.spec.get("nodeSelector"))
        return {str(label): _text(value) for label, value in selector.items()}

    @property
    def tolerations(self) -> tuple[Mapping[str, Any], ...]:
        return tuple(_mapping(entry) for entry in _sequence(self.spec.get("tolerations")))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: object) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):  # as YAML writes it, not as Python does
        return "true" if value else "false"
    return str(value)
