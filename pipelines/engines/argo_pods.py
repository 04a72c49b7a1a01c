"""The pod of a group: what runs in it in which order, with which volumes. Neither Argo's nor a Job's yet.

In order: `fetch` and the template's own init containers; then the user's container and what follows it, one
after another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedloom.errors import JobError
from pipelines.engines import argo_names as names
from pipelines.engines.argo_containers import (
    Container,
    keeps_on_node,
    label_of,
    parameter,
    user_container,
)
from pipelines.engines.argo_groups import Group, container_of
from pipelines.engines.argo_library import library_volume, needs_library
from pipelines.engines.argo_needs import in_turn
from pipelines.engines.argo_places import (
    Folder,
    data_folder,
    has_downloads,
    read_folders,
    seen_folders,
)
from pipelines.engines.argo_service import listener_of, listening, listening_labels
from pipelines.engines.argo_setting import Setting
from pipelines.engines.argo_steps import (
    adopting_container,
    download_container,
    fetch_container,
    library_container,
    server_container,
    step_container,
    telling_container,
)
from pipelines.plan import Plan, Task

_TAKEN_APART = frozenset(
    ("containers", "initContainers", "volumes", "nodeName", "nodeSelector", "tolerations")
)
_OF_THE_ENGINE = frozenset(("restartPolicy", "automountServiceAccountToken"))
_PLACES = frozenset(("affinity", "topologySpreadConstraints", "schedulerName", "priorityClassName"))
NOT_ON_AN_EDGE = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [
                {
                    "matchExpressions": [
                        {"key": "node-role.kubernetes.io/edge", "operator": "DoesNotExist"}
                    ]
                }
            ]
        }
    }
}
"""Where the cloud's side goes if nobody says: KubeEdge gives its edges this label, and no taint."""
EDGE_STATE_PATH = "/var/lib/fedloom"
"""Where a node keeps what outlives a job, if the job keeps nothing else on its nodes."""
_RESERVED = frozenset(("init", "wait", "fetch", "library"))
"""Names of containers that Argo or we use."""


@dataclass(frozen=True)
class Pod:
    """A pod as plain values, what differs between clients written as input parameters.

    Attributes:
        labels, annotations: its own.
        first: the init containers, in order.
        steps: the containers that run after them, one after another.
        volumes: of all containers.
        spec: every other field of a pod's spec.
        seconds: how long it may take; None for as long as it likes.
    """

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    first: tuple[Container, ...]
    steps: tuple[Container, ...]
    volumes: tuple[Mapping[str, Any], ...]
    spec: Mapping[str, Any]
    seconds: int | None


def pod_of(group: Group, plan: Plan, setting: Setting) -> Pod:
    """Make the pod of a group. Raises JobError where the user's template does not allow it."""
    raw = _template_of(group)
    is_client = group.client is not None
    metadata = raw.get("metadata") or {}
    spec = raw.get("spec") or {}
    steps = _steps(group, plan, setting)
    kind = "train" if is_client else "aggregation"
    labels = {**names.job_labels(plan), names.WORKER_TYPE: kind}
    listener = listener_of(group)
    if listener is not None:
        labels |= listening_labels(listener)
        steps = (listening(steps[0], listener), *steps[1:])
    own = [_renamed(each, steps) for each in spec.get("initContainers") or ()]
    if group.client is not None:
        labels[names.CLIENT] = label_of(group.client)
        own = [*(fetch_container(group, setting) for _ in range(_is_training(group))), *own]
    elif needs_library(group):
        own = [library_container(setting), *own]
    if any(map(has_downloads, group.tasks)):
        own.insert(int(_is_training(group)), download_container(group, setting))
    if any(task.step in ("score", "assess") for task in group.tasks):
        # One after another, and the pod asks for the largest of them, not for all together.
        own, steps = [*own, *steps[:-1]], steps[-1:]
    return Pod(
        labels={**(metadata.get("labels") or {}), **labels},
        annotations=dict(metadata.get("annotations") or {}),
        first=tuple(own),
        steps=steps,
        volumes=_volumes(group, plan, setting, spec),
        spec=_rest(group, spec, setting),
        seconds=_seconds(group, setting),
    )


def _seconds(group: Group, setting: Setting) -> int | None:
    deadline, is_awaited = group.deadline_seconds, group.client is None and not group.may_fail
    grace = setting.server_grace_seconds if is_awaited else setting.deadline_grace_seconds
    return None if deadline is None else math.ceil(deadline + grace)


def _template_of(group: Group) -> Mapping[str, Any]:
    """The template of the user's container in the group; empty where there is none."""
    return next((task.template for task in group.tasks if task.template is not None), {})


def _steps(group: Group, plan: Plan, setting: Setting) -> tuple[Container, ...]:
    secret = names.server_secret(names.workflow_of(plan))
    is_ours = all(task.template is None for task in group.tasks)
    if is_ours and group.client is None and len(group.tasks) > 1:
        return (server_container(group, setting, secret, _read_folders(group)),)
    containers: list[Container] = []
    for task in group.tasks:
        if task.template is None and task.step != "receive":  # which is a part of fetch
            containers.append(step_container(task, setting, secret, read_folders(task)))
        elif task.template is not None:
            containers.append(user_container(task, plan, setting))
        if task.template is not None and task.step == "initialize":
            containers.append(adopting_container(setting, secret))
        if task.template is not None and task.step == "describe":
            containers.append(telling_container(setting, secret))
    return in_turn(containers)


def _is_training(group: Group) -> bool:
    """Whether there is something to fetch: an old image that trains starts from nothing of ours."""
    return group.client is not None and any(
        task.step in ("train", "release", "score", "assess") and task.inputs for task in group.tasks
    )


def _renamed(container: Mapping[str, Any], steps: tuple[Container, ...]) -> Container:
    """Keep the names of the user's init containers apart from ours and Argo's."""
    name = str(container.get("name"))
    taken = _RESERVED | {step["name"] for step in steps}
    return {**container, "name": f"user-{name}" if name in taken else name}


def _volumes(
    group: Group, plan: Plan, setting: Setting, spec: Mapping[str, Any]
) -> tuple[Mapping[str, Any], ...]:
    own = list(spec.get("volumes") or ())
    taken = sorted(str(each["name"]) for each in own if str(each["name"]).startswith("fedloom-"))
    if taken:
        raise JobError(
            "BadTemplate",
            f"the pod template of {group.name}: got the volume {taken[0]!r}, expected another name: "
            "those that start with fedloom- are Fedloom's own",
        )
    workflow, key = names.workflow_of(plan), "plan.json"
    secret = names.server_secret(workflow)
    if group.client is not None:
        secret = names.client_secret(workflow, parameter("part"))
        key = f"{label_of(group.client)}.json"
    ours: list[Mapping[str, Any]] = [
        {"name": "fedloom-work", "emptyDir": {}},
        {"name": "fedloom-tmp", "emptyDir": {}},
        {
            "name": "fedloom-plan",
            "secret": {"secretName": secret, "items": [{"key": key, "path": "plan.json"}]},
        },
    ]
    if _uses_edge(group):
        ours.append({"name": "fedloom-edge", **_edge_state(group, plan, setting)})
    if any(map(keeps_on_node, group.tasks)):
        ours.append({"name": "fedloom-node", **_node_state(plan, setting)})
    if needs_library(group):
        ours.append(library_volume())
    if any(_has_data(task) for task in group.tasks):
        ours.append({"name": "fedloom-data", "hostPath": {"path": parameter("folder")}})
    return (*own, *ours, *(folder.as_volume() for folder in _model_folders(group)))


def _uses_edge(group: Group) -> bool:
    return group.client is not None or any(task.template is not None for task in group.tasks)


def _has_data(task: Task) -> bool:
    return task.template is not None and data_folder(task, container_of(task)) is not None


def _read_folders(group: Group) -> list[Folder]:
    """Give the folders of the node that our own steps of the group read."""
    return [folder for task in group.tasks for folder in read_folders(task)]


def _model_folders(group: Group) -> list[Folder]:
    """Give the folders of models that any container of the group sees, each volume once."""
    found = {folder.volume: folder for folder in _read_folders(group)}
    for task in group.tasks:
        if task.template is not None:
            for folder in seen_folders(task, container_of(task)):
                found.setdefault(folder.volume, folder)
    return list(found.values())


def _edge_state(group: Group, plan: Plan, setting: Setting) -> dict[str, Any]:
    if group.client is None or setting.edge_state_path is None:
        return {"emptyDir": {}}
    job = plan.job
    folder = f"{job['namespace']}/{job['name']}-{job['uid'][:8]}"
    path = f"{setting.edge_state_path.rstrip('/')}/{folder}"
    return {"hostPath": {"path": path, "type": "DirectoryOrCreate"}}


def _node_state(plan: Plan, setting: Setting) -> dict[str, Any]:
    """A folder of the node for all jobs of the namespace: no job is called `_node`."""
    above = (setting.edge_state_path or EDGE_STATE_PATH).rstrip("/")
    path = f"{above}/{plan.job['namespace']}/_node"
    return {"hostPath": {"path": path, "type": "DirectoryOrCreate"}}


def _rest(group: Group, spec: Mapping[str, Any], setting: Setting) -> dict[str, Any]:
    """Everything else of a pod's spec: the template's, and where the plan places the group."""
    placement = group.placement
    left_out = _TAKEN_APART | _OF_THE_ENGINE
    if group.client is None:
        server = setting.server_template.get("spec") or {}
        # The place of the cloud's side is the aggregation worker's, whose code ever runs there.
        rest = {name: value for name, value in server.items() if name not in left_out}
        pulls = [*rest.pop("imagePullSecrets", ()), *(spec.get("imagePullSecrets") or ())]
        left_out |= _PLACES | set(rest)
        rest |= {name: value for name, value in spec.items() if name not in left_out}
        if pulls:
            rest["imagePullSecrets"] = pulls
    else:
        rest = {name: value for name, value in spec.items() if name not in left_out}
    if placement.node_name:
        rest["nodeName"] = parameter("node") if group.client else placement.node_name
    if placement.node_selector:
        rest["nodeSelector"] = dict(placement.node_selector)
    if placement.tolerations:
        rest["tolerations"] = [dict(each) for each in placement.tolerations]
    if group.client is None and not rest.keys() & {"affinity", "nodeName", "nodeSelector"}:
        rest["affinity"] = NOT_ON_AN_EDGE
    return rest
