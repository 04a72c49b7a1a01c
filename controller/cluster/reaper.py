"""Who holds up a round and must go: past the deadline, never to start, or on a node that is lost.

Deciding is pure. Acting is two steps, because Argo starts a deleted pod again as long as it waits for that
pod's result: first the result is declared finished, then the pod is deleted without grace. A pod of a node
that is offline goes too: the kubelet ends its containers when it is back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from controller.cluster import pods as reading
from controller.cluster.kubernetes import Cluster
from controller.cluster.nodes import Node, lost_seconds
from controller.cluster.pods import NODE_ID, Pod
from controller.cluster.resources import BATCH_JOBS, PODS, TASK_RESULTS
from fedloom.errors import FedloomError

BROKEN_START_SECONDS = 60.0
"""How long a container may fail to start (an image that cannot be pulled) before it is given up."""

_FINISHED = {"workflows.argoproj.io/report-outputs-completed": "true"}


@dataclass(frozen=True)
class Verdict:
    """A pod that has to go, and why; `client` is None for the server's pod.

    `node_id` names its WorkflowTaskResult where it is a pod of Argo's, `job` its Job where it is not.
    """

    pod: str
    node_id: str | None
    client: str | None
    reason: str
    message: str
    job: str | None = None


@dataclass(frozen=True)
class Limits:
    """When waiting ends.

    Attributes:
        deadline_seconds: how long a client has from when its pod was made; None for as long as it
            likes.
        grace_seconds: what it gets beside that before it is ended by force.
        lost_node_seconds: how long a node may be gone.
    """

    deadline_seconds: float | None = None
    grace_seconds: float = 15.0
    lost_node_seconds: float = 60.0


def verdicts(
    found: Iterable[Pod], nodes: Mapping[str, Node], limits: Limits, now: float
) -> Iterator[Verdict]:
    """Judge the pods of one attempt that have not ended."""
    for pod in found:
        if reading.has_ended(pod):
            continue
        reason, message = _judge(pod, nodes, limits, now)
        if reason:
            meta = pod["metadata"]
            node_id = (meta.get("annotations") or {}).get(NODE_ID)
            client, job = reading.client_of(pod), meta.get("job")
            yield Verdict(meta["name"], node_id, client, reason, message, job)


def next_look_seconds(found: Iterable[Pod], limits: Limits, now: float) -> float | None:
    """In how many seconds a verdict may change without any event; None for never."""
    alive = [pod for pod in found if not reading.has_ended(pod)]
    waits = [
        limits.deadline_seconds + limits.grace_seconds - reading.age_seconds(pod, now)
        for pod in alive
        if limits.deadline_seconds is not None
    ]
    waits += [
        BROKEN_START_SECONDS - reading.age_seconds(pod, now)
        for pod in alive
        if reading.broken_start(pod)[0]
    ]
    if alive:
        waits.append(limits.lost_node_seconds / 4)
    return max(0.5, min(waits)) if waits else None


def carry_out(cluster: Cluster, namespace: str, verdict: Verdict) -> None:
    """Make a verdict true; doing it twice does no harm."""
    if verdict.node_id:
        change: dict[str, Any] = {"metadata": {"labels": _FINISHED}}
        known = cluster.patch(TASK_RESULTS, namespace, verdict.node_id, change)
        if known is None:
            _declare(cluster, namespace, verdict)
    if verdict.job:
        cluster.delete(BATCH_JOBS, namespace, verdict.job)
    cluster.delete(PODS, namespace, verdict.pod, grace_seconds=0)


def _declare(cluster: Cluster, namespace: str, verdict: Verdict) -> None:
    """Declare the result of a pod that has not begun one: it never started."""
    try:
        pod = cluster.get(PODS, namespace, verdict.pod)
        workflow = ((pod or {}).get("metadata", {}).get("labels") or {}).get(
            "workflows.argoproj.io/workflow"
        )
        if workflow is None:
            return
        labels = _FINISHED | {"workflows.argoproj.io/workflow": workflow}
        meta = {"name": verdict.node_id, "namespace": namespace, "labels": labels}
        cluster.create(
            TASK_RESULTS,
            {"apiVersion": TASK_RESULTS.api_version, "kind": TASK_RESULTS.kind, "metadata": meta},
        )
    except FedloomError:
        return  # Argo ends a pod that never started by itself once it is deleted


def _judge(pod: Pod, nodes: Mapping[str, Node], limits: Limits, now: float) -> tuple[str, str]:
    broken, message = reading.broken_start(pod)
    if broken and reading.age_seconds(pod, now) >= BROKEN_START_SECONDS:
        return broken, message
    client, node = reading.client_of(pod), pod["spec"]["nodeName"]
    if node is not None:
        gone = lost_seconds(nodes.get(node), now)
        if gone >= limits.lost_node_seconds:
            how = (
                "does not exist any more" if math.isinf(gone) else f"is not ready for {gone:.0f} s"
            )
            return "NodeLost", f"node {node} {how}"
    deadline = limits.deadline_seconds
    is_late = deadline is not None and (
        reading.age_seconds(pod, now) >= deadline + limits.grace_seconds
    )
    if client is not None and is_late:
        where = f" on {node}" if node else ", never scheduled"
        return (
            "DeadlineExceeded",
            f"no update within {deadline:g} s (spec.participation.deadlineSeconds){where}",
        )
    return "", ""
