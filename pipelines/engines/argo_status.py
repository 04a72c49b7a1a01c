"""How a round stands, read from its Workflow, and how a client stands, read from its pod. Pure.

A workflow's own phase comes last and not always: on Argo 3.7 a pod that never started keeps it Running
for ever. The round has ended when its last task has, the one that holds `commit`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.engine import RunPhase, RunStatus
from pipelines.engines import argo_names as names
from pipelines.engines.argo_clients import (
    FAILED,
    NOTHING,
    PENDING,
    RUNNING,
    SUCCEEDED,
    ClientStatus,
    seconds_between,
)
from pipelines.engines.argo_nodes import Node, nodes_of, parameter_of, pod_name, steps_of
from pipelines.engines.argo_reasons import (
    Cause,
    cause_of_failure,
    cause_of_waiting,
    read_ended,
)

_PHASES = {
    "Succeeded": SUCCEEDED,
    "Failed": FAILED,
    "Error": FAILED,
    "Running": RUNNING,
    "Omitted": FAILED,
    "Skipped": FAILED,
}


@dataclass(frozen=True)
class WorkflowStatus:
    """How one attempt of one round stands.

    Attributes:
        name: of the workflow.
        round, attempt: which run.
        phase: of the round.
        reason, message: of a failure; empty otherwise.
        clients: by name; those that Argo has not begun with are missing.
        is_closed: whether the workflow itself has ended; if the round has and it has not, somebody
            must shut it down.
    """

    name: str
    round: int
    attempt: int
    phase: RunPhase
    reason: str = ""
    message: str = ""
    clients: Mapping[str, ClientStatus] = field(default_factory=dict)
    is_closed: bool = False

    def as_run(self) -> RunStatus:
        """Give it as every engine does."""
        states = {name: client.state for name, client in self.clients.items()}
        return RunStatus(
            self.round, self.attempt, self.phase, self.reason, self.message, clients=states
        )


def run_status(workflow: Mapping[str, Any]) -> WorkflowStatus:
    """Read a Workflow as the API server gives it.

    Raises JobError("UnreadableStatus") where Argo keeps the nodes elsewhere or in an unknown form.
    """
    metadata, status = workflow["metadata"], workflow.get("status") or {}
    nodes = nodes_of(status)
    steps = steps_of(nodes)
    last = _last_task(metadata, nodes)
    phase, cause = _verdict(status, nodes, last, steps)
    labels = metadata.get("labels") or {}
    return WorkflowStatus(
        name=metadata["name"],
        round=int(labels.get(names.ROUND, 0)),
        attempt=int(labels.get(names.ATTEMPT, 1)),
        phase=phase,
        reason=cause.reason,
        message=cause.message,
        clients=_clients(metadata["name"], nodes, steps),
        is_closed=status.get("phase") in ("Succeeded", "Failed", "Error"),
    )


def _clients(
    workflow: str, nodes: Mapping[str, Node], steps: Mapping[str, list[Node]]
) -> dict[str, ClientStatus]:
    """Give the clients by name; of several pods of one, the first that failed, else the last."""
    pods: dict[str, list[Node]] = {}
    for node in nodes.values():
        client = parameter_of(node, "client") if node.get("type") == "Pod" else None
        if client is not None:
            pods.setdefault(client, []).append(node)
    found = {}
    for client, own in sorted(pods.items()):
        own.sort(key=lambda node: str(node.get("startedAt")))
        chosen = next((n for n in own if n.get("phase") in ("Failed", "Error")), own[-1])
        found[client] = _client(workflow, chosen, steps.get(chosen["id"], ()))
    return found


def _client(workflow: str, node: Node, steps: Iterable[Node]) -> ClientStatus:
    state, cause = _PHASES.get(node.get("phase", ""), PENDING), _cause(node, steps)
    if state == PENDING and node.get("finishedAt"):
        # Argo 3.7 may write a pod it has given up down as Pending once more.
        state, cause = FAILED, cause_of_failure("timeout", ())
    return ClientStatus(
        state=state,
        reason=cause.reason,
        message=cause.message,
        node=node.get("hostNodeName", ""),
        pod=pod_name(workflow, node),
        seconds=seconds_between(node.get("startedAt"), node.get("finishedAt")),
    )


def _cause(node: Node, steps: Iterable[Node]) -> Cause:
    phase, message = node.get("phase"), node.get("message") or ""
    if phase in ("Failed", "Error"):
        ended = [each for step in steps for each in read_ended(step.get("message") or "")]
        return cause_of_failure(message, ended)
    if phase == "Pending":
        return cause_of_waiting(message) or NOTHING
    return NOTHING


def _last_task(metadata: Mapping[str, Any], nodes: Mapping[str, Node]) -> Node | None:
    task = (metadata.get("annotations") or {}).get(names.LAST_TASK)
    name = f"{metadata['name']}.{task}"
    return next((node for node in nodes.values() if node.get("name") == name), None)


def _verdict(
    status: Mapping[str, Any],
    nodes: Mapping[str, Node],
    last: Node | None,
    steps: Mapping[str, list[Node]],
) -> tuple[RunPhase, Cause]:
    ends = [each.get("phase", "") for each in (last or {}, status)]
    end = next((e for e in ends if e in ("Succeeded", "Failed", "Error", "Omitted")), "Running")
    if end in ("Succeeded", "Running"):
        return RunPhase.SUCCEEDED if end == "Succeeded" else RunPhase.RUNNING, NOTHING
    # A task with retries has its tries as children; a task that never began names no pod at all.
    tries = [node for node in nodes.values() if _is_failed_try(node, last)]
    if tries:
        latest = max(tries, key=lambda node: str(node.get("finishedAt")))
        return RunPhase.FAILED, _cause(latest, steps.get(latest["id"], ()))
    message = (last or {}).get("message") or status.get("message") or "Argo gave no reason"
    return RunPhase.FAILED, Cause("WorkflowFailed", message)


def _is_failed_try(node: Node, last: Node | None) -> bool:
    """Say whether the node is a failed pod of the last task, or of any cloud task where it never began."""
    if node.get("type") != "Pod" or node.get("phase") not in ("Failed", "Error"):
        return False
    if last is None or last.get("phase") == "Omitted":
        return parameter_of(node, "client") is None
    return node["id"] == last["id"] or node["id"] in (last.get("children") or ())
