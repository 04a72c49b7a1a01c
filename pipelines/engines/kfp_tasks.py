"""From the groups of a plan to the tasks of a pipeline: one container each, as plain values. Pure.

a client's group    one container in the user's image: fetch, the program, compress and send
the server's        one in the user's image where that evaluates or makes a model, else in ours
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fedloom.errors import JobError
from pipelines.engines import argo_names, kfp_names
from pipelines.engines.argo_groups import Group, container_of
from pipelines.engines.argo_places import sedna_entries
from pipelines.engines.kfp_limits import check_group, check_places
from pipelines.engines.kfp_pods import PodParts, own_variables, pod_parts
from pipelines.engines.kfp_setting import KfpSetting
from pipelines.plan import Placement, Plan, Task

PLAN, EDGE = "/fedloom/plan", "/fedloom/edge"
HOSTNAME = "kubernetes.io/hostname"
EXECUTOR_INPUT = "{{$}}"
COMMAND = ("python", "-I", "-m")
MODULE = "components.kfp_task"
METRICS, SUMMARY, MODEL = "metrics", "summary", "model"
_TRACKING = {"run_id": "FEDLOOM_TRACKING_RUN_ID", "url": "FEDLOOM_TRACKING_URL"}
_S3_ENDPOINT = "S3_ENDPOINT_URL"
_STEPS_NEEDS = {"cpu": "50m", "memory": "96Mi"}


@dataclass(frozen=True)
class KfpTask:
    """A task of a pipeline.

    Attributes:
        key: its name in the IR, unique.
        display_name: what people see.
        image: of its container; the command is COMMAND and the module.
        arguments: of the container; `{{$}}` stands for the executor input.
        outputs: the artifacts that it has for people to see.
        inputs: the texts that it gets from the pipeline, each as an option of its name.
        texts: those that it gives.
        lists: the lists that it gives to loops, and whether their items are objects.
        module: what its container runs.
        depends: the keys of the tasks that come before.
        parts: everything else that makes its pod.
        variables: plain ones; few, for most reach the program in the plan.
        node_selector, tolerations: where it runs.
        seconds: how long its pod may take; None for as long as it likes.
        client: whose it is; None for the server's.
    """

    key: str
    display_name: str
    image: str
    arguments: tuple[str, ...]
    outputs: tuple[str, ...]
    depends: tuple[str, ...]
    parts: PodParts
    variables: Mapping[str, str] = field(default_factory=dict)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    seconds: int | None = None
    client: str | None = None
    inputs: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    lists: Mapping[str, bool] = field(default_factory=dict)
    module: str = MODULE


def task_of(
    group: Group, setting: KfpSetting, told: Sequence[str], secret: tuple[str, str]
) -> KfpTask:
    """Make the task of a group.

    `told` are the arguments that say what to do; `secret` is what they refer to, and where it is
    mounted. Raises JobError where a pod of KFP cannot be what the template says.
    """
    check_group(group, setting)
    user, container = _user_of(group)
    parts = _parts(group, setting, user, container)
    claim = _state_claim(group, setting)
    if claim:
        parts = replace(parts, claims=(*parts.claims, (claim, EDGE, "")))
    parts = replace(parts, secrets=(*parts.secrets, secret))
    arguments = [*told]
    arguments += ["--edge", EDGE] if claim else []
    if container.get("workingDir"):
        arguments += ["--base", str(container["workingDir"])]
    for name in sorted(_own_names(group)):
        arguments += ["--own", name]
    return KfpTask(
        key=kfp_names.task_key(group),
        display_name=kfp_names.display_name(group),
        image=str(container.get("image") or "") or setting.steps_image,
        arguments=(*arguments, "--executor-input", EXECUTOR_INPUT),
        outputs=_outputs(group),
        depends=tuple(argo_names.task_name(name) for name in group.depends),
        parts=parts,
        variables=_variables(group, setting, container),
        **placed(group.placement, setting),
        seconds=_seconds(group, setting, user),
        client=group.client,
    )


def our_parts(setting: KfpSetting, where: str) -> PodParts:
    """Give the parts of a pod that runs nothing but our steps."""
    server = setting.server_template.get("spec") or {}
    given = (server.get("containers") or [{}])[0]
    resources = given.get("resources") or {"requests": _STEPS_NEEDS}
    template = {"spec": {name: server[name] for name in ("imagePullSecrets",) if name in server}}
    own = {"resources": resources, "imagePullPolicy": setting.image_pull_policy}
    return pod_parts(template, own, where)


def client_secret_of(group: Group, plan: Plan, clients: int) -> str:
    """Name the Secret with a client's slice of the plan."""
    part = argo_names.secret_part(group.index, clients)
    return argo_names.client_secret(argo_names.workflow_of(plan), part)


def slice_file(client: str) -> str:
    """Name the file with a client's slice, in its Secret."""
    return f"{argo_names.label_value(client)}.json"


def _user_of(group: Group) -> tuple[Task | None, Mapping[str, Any]]:
    """Give the task whose container is the user's, and that; the programs of a group share one."""
    found: tuple[Task | None, Mapping[str, Any]] = (None, {})
    for task in group.tasks:
        if task.template is None:
            continue
        container = container_of(task)
        if (task.template.get("spec") or {}).get("initContainers"):
            raise JobError(
                "BadTemplate",
                f"the pod template of {task.name}: got initContainers, expected none: a pod of Kubeflow "
                "Pipelines has one container. Do it in the image, or use the engine argo",
            )
        if not container.get("command"):
            raise JobError(
                "BadTemplate",
                f"the pod template of {task.name}: got a container without a command, expected one: "
                "Kubeflow Pipelines does not run an image's own entrypoint",
            )
        if found[0] is not None and container.get("image") != found[1].get("image"):
            raise JobError(
                "BadTemplate",
                f"the pod templates of {found[0].name} and {task.name}: got the images "
                f"{found[1].get('image')} and {container.get('image')}, expected one: they run in the same "
                "container of Kubeflow Pipelines",
            )
        if found[0] is None:
            found = task, container
    return found


def _parts(
    group: Group, setting: KfpSetting, user: Task | None, container: Mapping[str, Any]
) -> PodParts:
    for task in group.tasks:
        check_places(task, container)
    if user is None:
        return our_parts(setting, group.name)
    assert user.template is not None
    added = [
        entry
        for task in group.tasks
        if task.template is not None
        for entry in sedna_entries(task, container, setting)
        if "valueFrom" in entry
    ]
    return pod_parts(user.template, container, f"the pod template of {user.name}", added)


def _own_names(group: Group) -> set[str]:
    names: set[str] = set()
    for task in group.tasks:
        if task.template is not None:
            names.update(own_variables(container_of(task)))
    return names


def _state_claim(group: Group, setting: KfpSetting) -> str:
    if group.client is None:
        return ""
    node = group.placement.node_name or ""
    claim = setting.edge_state_claim
    if "{node}" in claim and not node:
        raise JobError(
            "BadTemplate",
            f"client {group.client!r}: got the claim {claim!r} and no node, expected a nodeName of its "
            "dataset or template",
        )
    return claim.replace("{client}", group.client).replace("{node}", node)


def _outputs(group: Group) -> tuple[str, ...]:
    if group.client is not None:
        return (METRICS,)
    is_end = any(task.step == "commit" for task in group.tasks)
    return (METRICS, SUMMARY, MODEL) if is_end else ()


def _variables(group: Group, setting: KfpSetting, container: Mapping[str, Any]) -> dict[str, str]:
    """Give the plain variables that the plan does not hold: what only the engine knows."""
    found = {
        entry["name"]: str(entry["value"])
        for task in group.tasks
        if task.template is not None
        for entry in sedna_entries(task, container, setting)
        if entry["name"] == _S3_ENDPOINT
    }
    if group.client is None:
        told = setting.tracking
        found |= {name: told[key] for key, name in _TRACKING.items() if told.get(key)}
    return found


def placed(placement: Placement, setting: KfpSetting) -> dict[str, Any]:
    """Give a task's node_selector and tolerations."""
    selector = dict(placement.node_selector)
    if placement.node_name:
        selector[HOSTNAME] = placement.node_name
    if placement.side == "cloud" and not selector:
        selector = dict(setting.server_selector)
    return {"node_selector": selector, "tolerations": tuple(dict(t) for t in placement.tolerations)}


def _seconds(group: Group, setting: KfpSetting, user: Task | None) -> int | None:
    """A client ends itself at its deadline; its pod gets a grace, for what hangs."""
    given = ((user.template or {}).get("spec") or {}) if user is not None else {}
    own = given.get("activeDeadlineSeconds")
    grace = setting.deadline_grace_seconds if group.client else setting.server_grace_seconds
    deadline = group.deadline_seconds
    found = [] if deadline is None else [math.ceil(deadline + grace)]
    found += [int(own)] if own else []
    return min(found, default=None)
