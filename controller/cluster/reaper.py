"""Who holds up a round and must go: past the deadline, never to start, or on a node that is lost.

Deciding is pure. To act, deleting is no way: Argo starts a deleted pod again, at once where it was Pending.
A pod has to fail instead. Where its kubelet works, a deadline of one second makes it do that, whatever its
containers wait for. Where it does not, or there is none, the pod's status is written in its place, as
Kubernetes does with pods of nodes that are gone; a kubelet that comes back ends what is Failed. The result
that Argo still waits for is declared finished.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from controller.cluster import pods as reading
from controller.cluster.kubernetes import Cluster
from controller.cluster.nodes import Node, lost_seconds
from controller.cluster.pods import NODE_ID, Pod
from controller.cluster.resources import BATCH_JOBS, PODS, TASK_RESULTS

BROKEN_START_SECONDS = 60.0
"""How long a container may fail to start (an image that cannot be pulled) before it is given up."""

_FINISHED = {"workflows.argoproj.io/report-outputs-completed": "true"}


@dataclass(frozen=True)
class Verdict:
    """A pod that has to go, and why; `client` is None for the server's pod.

    `node_id` names its WorkflowTaskResult where it is a pod of Argo's, `job` its Job where it is not;
    `has_kubelet`: whether it is bound to a node that answers.
    """

    pod: str
    node_id: str | None
    client: str | None
    reason: str
    message: str
    job: str | None = None
    has_kubelet: bool = True


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
            node = nodes.get(str(pod["spec"]["nodeName"]))
            yield Verdict(
                pod=meta["name"],
                node_id=node_id,
                client=reading.client_of(pod),
                reason=reason,
                message=message,
                job=meta.get("job"),
                has_kubelet=node is not None and lost_seconds(node, now) == 0,
            )


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
    return max(2.0, min(waits)) if waits else None


def carry_out(cluster: Cluster, namespace: str, verdict: Verdict) -> None:
    """Make a verdict true; doing it twice does no harm."""
    if verdict.node_id:
        change = {"metadata": {"labels": _FINISHED}}
        cluster.patch(TASK_RESULTS, namespace, verdict.node_id, change)
    if verdict.job:  # it would make the pod again
        cluster.delete(BATCH_JOBS, namespace, verdict.job)
    if verdict.has_kubelet:
        cluster.patch(PODS, namespace, verdict.pod, {"spec": {"activeDeadlineSeconds": 1}})
    else:
        status = {"phase": "Failed", "reason": verdict.reason, "message": verdict.message}
        cluster.patch(PODS, namespace, verdict.pod, {"status": status}, "status")


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
