"""What a task of a pipeline cannot be, though a pod of Argo can: bound to folders of its node. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedloom.errors import JobError
from pipelines.engines.argo_containers import keeps_on_node
from pipelines.engines.argo_groups import Group
from pipelines.engines.argo_places import data_folder, read_folders, seen_folders
from pipelines.engines.kfp_pods import HOST_PATH, host_path_refusal
from pipelines.engines.kfp_setting import KfpSetting
from pipelines.plan import Task

_STATEFUL = frozenset(("advertise", "share", "reveal", "release"))


def check_group(group: Group, setting: KfpSetting) -> None:
    """Refuse a group that no task of a pipeline can be.

    Raises JobError: `NotOnKfp`, `HostPathNotSupported`, `NeedsEdgeState`.
    """
    if any("service" in task.settings or task.step == "websocket" for task in group.tasks):
        raise JobError(
            "NotOnKfp",
            f"{group.name}: got clients that call a server in mid-round (compat: websocket), expected a job "
            "whose clients write to the store: a pod of Kubeflow Pipelines is no Service. Use the engine "
            "argo",
        )
    if group.client is None:
        return
    if setting.edge_state_path is not None:
        where = f"spec.edge.state.hostPath of client {group.client!r}"
        raise JobError(
            HOST_PATH,
            f"{where}: got {setting.edge_state_path}; the platform spec of Kubeflow Pipelines has no "
            "hostPath. Name a claim instead (spec.edge.state.claim), one per node: fedloom-{node}",
        )
    needed = _state_needed(group)
    if needed and not setting.edge_state_claim:
        raise JobError(
            "NeedsEdgeState",
            f"client {group.client!r}: {needed} needs state that outlives a pod, and a pod of Kubeflow "
            "Pipelines has no folder of its node. Name a PersistentVolumeClaim (spec.edge.state.claim), or "
            "do without",
        )


def _state_needed(group: Group) -> str:
    """Say what of the group would be wrong if state ended with the pod; empty for nothing."""
    for task in group.tasks:
        if keeps_on_node(task):
            return "the noise key of a mistnet job"
        if task.step in _STATEFUL or "masking" in task.settings:
            return "secure aggregation (privacy.secureAggregation)"
        if task.step == "compress" and "accepted" in task.settings:
            return "what the codec leaves for later (compression.uplink.errorFeedback)"
        drift = task.settings.get("drift", {})
        if "learning_rate" in drift:
            return "a client's control variate (algorithm scaffold)"
        if "local_tensors" in drift:
            return "a client's own tensors (aggregation.exclude)"
    return ""


def check_places(task: Task, container: Mapping[str, Any]) -> None:
    """Refuse data and models in folders of a node that the container does not mount itself.

    Raises JobError("HostPathNotSupported").
    """
    where = f"{task.name}, the url of its data or model"
    if task.template is not None:
        folder = data_folder(task, container)
        folders = [] if folder is None else [folder]
        folders += [each.path for each in seen_folders(task, container)]
    else:
        folders = [each.path for each in read_folders(task)]
    for path in folders:
        raise host_path_refusal(where, path)
