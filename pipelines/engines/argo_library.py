"""The library that lets Sedna's scripts run, in a pod: our image lays it out, the user's containers find it.

It comes first on PYTHONPATH, so that an image which has Sedna's own one finds ours. Only containers whose
task says so get it: setting PYTHONPATH hides what an image sets it to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.engines.argo_groups import Group
from pipelines.plan import Task

LIBRARY = "/fedloom/sedna"
_NAME = "fedloom-sedna"
_PATH = "PYTHONPATH"


def has_library(task: Task) -> bool:
    """Say whether the task's container is the user's, and its script may import sedna."""
    told = task.settings.get("sedna") or {}
    return task.template is not None and bool(told.get("has_library"))


def needs_library(group: Group) -> bool:
    """Say whether the pod of a group has such a container."""
    return any(map(has_library, group.tasks))


def library_volume() -> dict[str, Any]:
    return {"name": _NAME, "emptyDir": {}}


def library_mount(*, is_writable: bool = False) -> dict[str, Any]:
    mount = {"name": _NAME, "mountPath": LIBRARY}
    return mount if is_writable else {**mount, "readOnly": True}


def library_variables(task: Task) -> Mapping[str, str]:
    """Give PYTHONPATH: the library, then what the template says; nothing without the library."""
    if not has_library(task):
        return {}
    own = task.settings["environment"].get(_PATH)
    return {_PATH: f"{LIBRARY}:{own}" if own else LIBRARY}
