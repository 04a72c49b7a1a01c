"""Nodes: which of them may run a client, whether they can take work, and how a client gets there. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from fedloom.api.clients import clients_of
from fedloom.api.dataset import Dataset
from fedloom.api.job import FederatedLearningJob
from pipelines.placement import place_client
from pipelines.plan import Placement

Node = Mapping[str, Any]

RUNTIME_LABEL = "fedloom.io/runtime"
"""`direct` or `dispatch` on a node; without it, KubeEdge's nodes are dispatched to."""

_EDGE_LABEL = "node-role.kubernetes.io/edge"
_KUBEEDGE_LABELS = (_EDGE_LABEL, "node-role.kubernetes.io/agent")
HOSTNAME_LABEL = "kubernetes.io/hostname"


def is_edge(node: Node) -> bool:
    """Whether it is kept for clients: nothing of the server runs there."""
    return _EDGE_LABEL in (node["metadata"].get("labels") or {})


def kept_of_node(node: Node) -> dict[str, Any]:
    """What the controller remembers of a node."""
    meta, spec, status = node["metadata"], node.get("spec") or {}, node.get("status") or {}
    conditions = status.get("conditions") or ()
    return {
        "metadata": {
            "name": meta["name"],
            "labels": meta.get("labels") or {},
            "resourceVersion": meta.get("resourceVersion", ""),
        },
        "spec": {
            "unschedulable": bool(spec.get("unschedulable")),
            "taints": [{"effect": each.get("effect")} for each in spec.get("taints") or ()],
        },
        "status": {
            "conditions": [
                {key: each.get(key) for key in ("type", "status", "lastTransitionTime")}
                for each in conditions
                if each.get("type") == "Ready"
            ]
        },
    }


def placements_of(
    job: FederatedLearningJob, datasets: Mapping[str, Dataset]
) -> dict[str, Placement]:
    """Where each client runs; clients whose Dataset is not known are left out."""
    return {
        client.name: place_client(client.worker.template, datasets[client.dataset].spec.node_name)
        for client in clients_of(job)
        if client.dataset in datasets
    }


def matching(placement: Placement, nodes: Iterable[Node]) -> list[Node]:
    """Find the nodes that a placement means."""
    if placement.node_name is not None:
        return [node for node in nodes if node["metadata"]["name"] == placement.node_name]
    wanted = placement.node_selector.items()
    return [node for node in nodes if wanted <= _labels(node).items()]


def is_ready(node: Node) -> bool:
    """Whether a node takes new work: Ready, and not cordoned."""
    if (node.get("spec") or {}).get("unschedulable"):
        return False
    return any(each["status"] == "True" for each in _ready_conditions(node))


def lost_seconds(node: Node | None, now: float) -> float:
    """For how long a node has not been Ready; 0 while it is, infinite where there is no such node."""
    if node is None:
        return float("inf")
    for each in _ready_conditions(node):
        if each["status"] == "True":
            return 0.0
        since = seconds_of(each.get("lastTransitionTime"))
        return 0.0 if since is None else max(0.0, now - since)
    return 0.0


def unready_clients(placements: Mapping[str, Placement], nodes: Sequence[Node]) -> frozenset[str]:
    """Name the clients that no node can run now."""
    ready = [node for node in nodes if is_ready(node)]
    names = {node["metadata"]["name"] for node in ready}
    return frozenset(
        client
        for client, placement in placements.items()
        if not (
            placement.node_name in names
            if placement.node_name is not None
            else matching(placement, ready)
        )
    )


def runtime_of(wanted: str, placement: Placement, nodes: Sequence[Node]) -> str:
    """Choose how a client reaches its node: `direct` (a pod of the workflow) or `dispatch` (a Job).

    `wanted` is the job's spec.edge.runtime. On `auto` the node's label decides; nodes of KubeEdge,
    where pods do not reach the API server, are dispatched to.
    """
    if wanted != "auto":
        return wanted
    for node in matching(placement, nodes):
        labels = _labels(node)
        if labels.get(RUNTIME_LABEL) in ("direct", "dispatch"):
            return str(labels[RUNTIME_LABEL])
        if all(label in labels for label in _KUBEEDGE_LABELS):
            return "dispatch"
    return "direct"


def open_edges(nodes: Iterable[Node]) -> list[str]:
    """Name the edge nodes that take any pod which nobody keeps away from them."""
    return [
        node["metadata"]["name"]
        for node in nodes
        if _KUBEEDGE_LABELS[0] in _labels(node)
        and not any(
            each.get("effect") in ("NoSchedule", "NoExecute")
            for each in (node.get("spec") or {}).get("taints") or ()
        )
    ]


def seconds_of(time: str | None) -> float | None:
    """Unix seconds of an RFC 3339 time as Kubernetes writes it; None where it is none."""
    try:
        return datetime.fromisoformat(time or "").timestamp()
    except ValueError:
        return None


def _labels(node: Node) -> Mapping[str, str]:
    return node["metadata"].get("labels") or {}


def _ready_conditions(node: Node) -> list[Mapping[str, Any]]:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return [each for each in conditions if each.get("type") == "Ready"]
