"""From a pod to the template of an Argo workflow; what Argo has no field for goes into `podSpecPatch`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pipelines.engines.argo_pods import Pod
from pipelines.engines.argo_setting import Setting

_FIELDS = frozenset(
    (
        "affinity",
        "hostAliases",
        "nodeSelector",
        "priorityClassName",
        "schedulerName",
        "securityContext",
        "serviceAccountName",
        "tolerations",
    )
)
_PARAMETER = re.compile(r"\{\{inputs\.parameters\.([a-z_]+)\}\}")
RETRIES = {"limit": "2", "retryPolicy": "OnError", "backoff": {"duration": "5s", "factor": "2"}}
"""Of the cloud's side: a pod that was lost is made again, a step that failed is not."""


def pod_template(pod: Pod, setting: Setting, *, is_client: bool) -> dict[str, Any]:
    """Give the template's fields but its name: containers, volumes, place, deadline, inputs."""
    template: dict[str, Any] = {
        "metadata": _metadata(pod),
        "volumes": list(pod.volumes),
        **_containers(pod),
        **{name: value for name, value in pod.spec.items() if name in _FIELDS},
    }
    if pod.first:
        template["initContainers"] = list(pod.first)
    rest = {name: value for name, value in pod.spec.items() if name not in _FIELDS}
    own_deadline = rest.pop("activeDeadlineSeconds", None)
    deadlines = [seconds for seconds in (own_deadline, pod.seconds) if seconds]
    if deadlines:
        # Argo holds a pod that never starts to `timeout`, the kubelet one that runs.
        template["timeout"] = f"{min(deadlines)}s"
        if setting.pending_timeout:
            template["pendingTimeout"] = f"{min(deadlines)}s"
    if rest:
        template["podSpecPatch"] = json.dumps(rest, sort_keys=True)
    if not is_client:
        template["retryStrategy"] = RETRIES
    return template


def used_parameters(document: str) -> frozenset[str]:
    """Name the input parameters that a template, as JSON, refers to; `client` is always among them."""
    return frozenset(("client", *_PARAMETER.findall(document)))


def _metadata(pod: Pod) -> dict[str, Any]:
    annotations: Mapping[str, str] = pod.annotations
    return {
        "labels": dict(pod.labels),
        **({"annotations": dict(annotations)} if annotations else {}),
    }


def _containers(pod: Pod) -> dict[str, Any]:
    """One container, or several that wait for each other."""
    if len(pod.steps) == 1:
        container = dict(pod.steps[0])
        del container["name"]  # Argo calls a single container `main`
        return {"container": container}
    before: list[str] = []
    containers = []
    for step in pod.steps:
        containers.append({**step, **({"dependencies": before} if before else {})})
        before = [step["name"]]
    return {"containerSet": {"containers": containers}}
