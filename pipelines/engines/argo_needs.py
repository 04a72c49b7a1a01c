"""What the containers of one pod ask of its node, when they run one after another. Pure.

A scheduler adds up what the containers of a pod request. Ours take turns: where several come from one
template, its memory is needed once, not once for each of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Container = dict[str, Any]
OWN = {"requests": {"cpu": "50m", "memory": "96Mi"}}
"""Of a step of ours: so little that it may as well be asked for every time."""
_SHARED = ("cpu", "ephemeral-storage", "memory")
"""Of these a container may have a limit and request less; of devices it may not."""


def in_turn(containers: Sequence[Container]) -> tuple[Container, ...]:
    """Give the containers, of which only the first with some `resources` requests what can be shared.

    The others keep their limits, and with them what they may use.
    """
    return tuple(_asking_once(containers))


def without_devices(resources: Mapping[str, Any]) -> dict[str, Any]:
    """Give the part of a template's resources that our own steps need: never its GPU."""
    return {
        part: {name: value for name, value in given.items() if name in _SHARED}
        for part, given in resources.items()
        if part in ("limits", "requests")
    }


def _asking_once(containers: Sequence[Container]) -> Iterator[Container]:
    seen: list[Any] = []
    for container in containers:
        resources = container.get("resources")
        if resources and resources in seen:
            requests = dict(resources.get("requests") or {})
            shared = [name for name in _SHARED if name in {*requests, *resources.get("limits", ())}]
            nothing = {**requests, **dict.fromkeys(shared, "0")}
            yield {**container, "resources": {**resources, "requests": nothing}}
            continue
        if resources and resources != OWN:
            seen.append(resources)
        yield container
