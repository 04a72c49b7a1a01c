"""The Service through which clients reach the server of a round that listens. Pure.

Its name and labels are Sedna's, and so is the name of its port, which EdgeMesh asks for. What it selects
has one label more: other pods of the cloud's side (a dispatcher, say) are of the same job and do not listen.
"""

from __future__ import annotations

from typing import Any

from pipelines.engines import argo_names as names
from pipelines.engines.argo_containers import Container
from pipelines.engines.argo_groups import Group
from pipelines.engines.argo_setting import Setting
from pipelines.plan import Plan, Task

SERVES = "fedloom.io/serves"


def listener_of(group: Group) -> Task | None:
    """Give the task of the group that listens; None for nearly all groups."""
    return next((task for task in group.tasks if "service" in task.settings), None)


def listening_labels(listener: Task | None) -> dict[str, str]:
    """Give the labels by which the Service finds a pod."""
    return {} if listener is None else {SERVES: str(listener.settings["service"])}


def listening(container: Container, listener: Task) -> Container:
    """Give the container its port, and readiness once it answers there: no client shall come too early."""
    port = listener.settings["port"]
    probe = {"httpGet": {"path": "/", "port": port}, "periodSeconds": 1, "failureThreshold": 3}
    ports = [{"name": "tcp-0", "containerPort": port, "protocol": "TCP"}]
    return {**container, "ports": ports, "readinessProbe": probe}


def service_of(plan: Plan, setting: Setting) -> dict[str, Any] | None:
    """Give the Service of the job, the same for every attempt; None where nobody listens."""
    listener = next((task for task in plan.tasks if "service" in task.settings), None)
    if listener is None:
        return None
    name, port = str(listener.settings["service"]), listener.settings["port"]
    job = {label: names.job_labels(plan)[label] for label in (names.NAME, names.UID)}
    labels = {**job, names.WORKER_TYPE: "aggregation"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": setting.namespace,
            "labels": labels,
            "ownerReferences": [setting.owner.reference()],
        },
        "spec": {
            "type": "ClusterIP",
            "selector": {**labels, SERVES: name},
            "ports": [{"name": "tcp-0", "protocol": "TCP", "port": port, "targetPort": port}],
        },
    }
