"""Dispatch: clients whose node reaches no API server run as plain Jobs that need presigned URLs only.

Per stage of a round one task `dispatch` of the workflow runs `controller.dispatcher` in the cloud. It reads
its orders from Secrets mounted at /fedloom/plan, makes a Job of each with `client_job`, follows them
all, and ends with success once every Job has ended; without it, where a Job that must succeed failed.
An order is {"group", "client", "may_fail", "shape", "values"}: the number of a shape in its part, and the
values of that shape's parameters. A shape is a Job with `{{inputs.parameters.<name>}}` where clients differ.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipelines.engines import argo_names as names
from pipelines.engines.argo_containers import PLAN, parameters
from pipelines.engines.argo_groups import Group, groups_of
from pipelines.engines.argo_pods import NOT_ON_AN_EDGE, Pod, pod_of
from pipelines.engines.argo_setting import Setting
from pipelines.plan import Plan

ORDERS_PER_SECRET = 500
_JOB_SECONDS_AFTER_END = 3_600


def is_dispatched(group: Group, setting: Setting) -> bool:
    """Say whether the group runs as a Job: its node is one of those, or Argo cannot run its image.

    Argo must know the command; where a template leaves it to the image, only a kubelet knows it.
    """
    return group.client in setting.dispatched or group.needs_entrypoint


def stages_of(groups: Mapping[str, Group], setting: Setting) -> dict[str, list[Group]]:
    """Give the dispatched groups by the task that starts them: those that wait for the same groups."""
    found: dict[tuple[str, ...], list[Group]] = {}
    for group in groups.values():
        if is_dispatched(group, setting):
            found.setdefault(group.depends, []).append(group)
    return {
        "dispatch" if number == 1 else f"dispatch-{number}": stage
        for number, stage in enumerate(found.values(), 1)
    }


def parts_of(stage: Sequence[Group]) -> int:
    """Give the number of Secrets that a stage's orders take."""
    return -(-len(stage) // ORDERS_PER_SECRET)


def dispatch_template(
    task: str, stage: Sequence[Group], plan: Plan, setting: Setting
) -> dict[str, Any]:
    """Give the template of a dispatcher but its name: one pod in the cloud."""
    workflow = names.workflow_of(plan)
    secrets = [names.dispatch_secret(workflow, task, part) for part in range(parts_of(stage))]
    sources = [{"secret": {"name": secret}} for secret in secrets]
    arguments = ["--plan", PLAN, "--workflow", "{{workflow.name}}", "--uid", "{{workflow.uid}}"]
    return {
        "metadata": {"labels": {**names.job_labels(plan), names.WORKER_TYPE: "aggregation"}},
        "serviceAccountName": setting.dispatcher_account or setting.service_account,
        "affinity": NOT_ON_AN_EDGE,
        "volumes": [{"name": "fedloom-plan", "projected": {"sources": sources}}],
        "container": {
            "image": setting.dispatcher_image or setting.steps_image,
            "imagePullPolicy": setting.image_pull_policy,
            "command": ["python", "-I", "-m", "controller.dispatcher"],
            "args": [*arguments, "--namespace", setting.namespace],
            "resources": {"requests": {"cpu": "50m", "memory": "96Mi"}},
            "volumeMounts": [{"name": "fedloom-plan", "mountPath": PLAN, "readOnly": True}],
        },
        "retryStrategy": {"limit": "2", "retryPolicy": "Always", "backoff": {"duration": "5s"}},
    }


def dispatch_orders(plan: Plan, setting: Setting) -> dict[str, dict[str, Any]]:
    """Give what each Secret of the dispatchers holds, by the Secret's name."""
    workflow, groups = names.workflow_of(plan), groups_of(plan)
    clients = len({group.client for group in groups.values() if group.client is not None})
    orders: dict[str, dict[str, Any]] = {}
    for task, stage in stages_of(groups, setting).items():
        for part in range(parts_of(stage)):
            chosen = stage[part * ORDERS_PER_SECRET : (part + 1) * ORDERS_PER_SECRET]
            secret = names.dispatch_secret(workflow, task, part)
            orders[secret] = _orders(chosen, plan, setting, clients)
    return orders


def client_jobs(orders: Mapping[str, Any], workflow: str, uid: str) -> Iterator[dict[str, Any]]:
    """Give the Job documents of one Secret's orders."""
    texts = [json.dumps(shape) for shape in orders["shapes"]]
    for order in orders["orders"]:
        yield client_job(texts[order["shape"]], order, workflow, uid)


def client_job(shape: str, order: Mapping[str, Any], workflow: str, uid: str) -> dict[str, Any]:
    """Give the Job of one order; `shape` is its shape as JSON text."""
    text = shape
    for name, value in order["values"].items():
        text = text.replace("{{inputs.parameters." + name + "}}", json.dumps(value)[1:-1])
    job: dict[str, Any] = json.loads(text)
    job["metadata"]["name"] = names.job_name(workflow, order["group"])
    owner = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": workflow, "uid": uid}
    job["metadata"]["ownerReferences"] = [owner | {"controller": True, "blockOwnerDeletion": True}]
    return job


def _orders(chosen: Sequence[Group], plan: Plan, setting: Setting, clients: int) -> dict[str, Any]:
    shapes: dict[str, int] = {}
    orders = []
    for group in chosen:
        shape = json.dumps(job_shape(pod_of(group, plan, setting), setting), sort_keys=True)
        values = {} if group.client is None else parameters(group, clients)
        number = shapes.setdefault(shape, len(shapes))
        orders.append(
            {
                "group": group.name,
                "client": group.client,
                "may_fail": group.may_fail,
                "shape": number,
                "values": values,
            }
        )
    return {"shapes": [json.loads(shape) for shape in shapes], "orders": orders}


def job_shape(pod: Pod, setting: Setting) -> dict[str, Any]:
    """Give the Job of a pod: all steps but the last are init containers, which run in order."""
    labels, annotations = dict(pod.labels), dict(pod.annotations)
    seconds = {} if pod.seconds is None else {"activeDeadlineSeconds": pod.seconds}
    metadata = {"labels": labels, **({"annotations": annotations} if annotations else {})}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"namespace": setting.namespace, "labels": labels},
        "spec": {
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": _JOB_SECONDS_AFTER_END,
            **seconds,
            "template": {
                "metadata": metadata,
                "spec": {
                    **pod.spec,
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "restartPolicy": "Never",
                    "initContainers": [*pod.first, *pod.steps[:-1]],
                    "containers": [pod.steps[-1]],
                    "volumes": list(pod.volumes),
                },
            },
        },
    }
