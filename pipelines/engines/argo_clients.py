"""How a client's pod stands, read from the pod itself or from its Job. Pure.

For dispatched clients, of whom the Workflow knows nothing, and where a pod tells more than Argo does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pipelines.engines.argo_reasons import Cause, Ended, cause_of_failure, cause_of_waiting

PENDING, RUNNING, SUCCEEDED, FAILED = "Pending", "Running", "Succeeded", "Failed"
NOTHING = Cause("", "")


@dataclass(frozen=True)
class ClientStatus:
    """How a client's pod stands.

    Attributes:
        state: Pending, Running, Succeeded or Failed.
        reason, message: why it failed, or why it does not start; empty otherwise.
        node: where it runs; empty before that is known.
        pod: its name.
        seconds: from its start to its end; None before the end.
    """

    state: str
    reason: str = ""
    message: str = ""
    node: str = ""
    pod: str = ""
    seconds: float | None = None


def pod_status(pod: Mapping[str, Any]) -> ClientStatus:
    """Read a pod: that of a dispatched client, or one whose waiting Argo does not tell about."""
    status, spec = pod.get("status") or {}, pod.get("spec") or {}
    containers = [
        *(status.get("initContainerStatuses") or ()),
        *(status.get("containerStatuses") or ()),
    ]
    phase = status.get("phase", "Pending")
    cause = NOTHING
    if phase == "Failed":
        ended = [*_ended(containers)]
        said = status.get("message") or status.get("reason") or ""
        cause = cause_of_failure(said, ended)
    elif phase == "Pending":
        cause = next(filter(None, map(cause_of_waiting, _waiting(status, containers))), NOTHING)
    state = {"Succeeded": SUCCEEDED, "Failed": FAILED, "Running": RUNNING}.get(phase, PENDING)
    ends = [c["state"]["terminated"].get("finishedAt") for c in containers if _terminated(c)]
    finished = max(filter(None, ends), default=None) if state in (SUCCEEDED, FAILED) else None
    return ClientStatus(
        state=state,
        reason=cause.reason,
        message=cause.message,
        node=spec.get("nodeName", ""),
        pod=pod["metadata"]["name"],
        seconds=seconds_between(status.get("startTime"), finished),
    )


def job_status(job: Mapping[str, Any], pod: Mapping[str, Any] | None) -> ClientStatus:
    """Read a dispatched client's Job and its pod; Kubernetes deletes the pod of a Job that was too slow."""
    found = ClientStatus(PENDING) if pod is None else pod_status(pod)
    status = job.get("status") or {}
    for condition in status.get("conditions") or ():
        if condition["status"] != "True":
            continue
        if condition["type"] == "Complete":
            return replace(found, state=SUCCEEDED, reason="", message="")
        if condition["type"] == "Failed" and found.state != FAILED:
            ended = condition.get("lastTransitionTime")
            message = "timeout" if condition.get("reason") == "DeadlineExceeded" else "pod deleted"
            cause = cause_of_failure(message, ())
            seconds = seconds_between(status.get("startTime"), ended)
            return replace(
                found, state=FAILED, reason=cause.reason, message=cause.message, seconds=seconds
            )
    return found


def remembered(before: ClientStatus | None, now: ClientStatus) -> ClientStatus:
    """Give the status with the better reason: why it did not start, where now only its deadline is told."""
    is_vague = now.state == FAILED and now.reason in ("DeadlineExceeded", "PodDeleted")
    if is_vague and before is not None and before.state == PENDING and before.reason:
        return replace(now, reason=before.reason, message=before.message)
    return now


def _terminated(container: Mapping[str, Any]) -> bool:
    return "terminated" in (container.get("state") or {})


def _ended(containers: Iterable[Mapping[str, Any]]) -> Iterable[Ended]:
    for container in filter(_terminated, containers):
        end = container["state"]["terminated"]
        if end.get("exitCode"):
            what, tail = end.get("reason", "Error"), end.get("message", "")
            yield Ended(container["name"], what, end["exitCode"], tail)


def _waiting(status: Mapping[str, Any], containers: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    for container in containers:
        waiting = (container.get("state") or {}).get("waiting")
        if waiting:
            yield f"{waiting.get('reason', '')}: {waiting.get('message', '')}"
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            yield f"{condition.get('reason', '')}: {condition.get('message', '')}"


def seconds_between(started: str | None, finished: str | None) -> float | None:
    if not started or not finished:
        return None
    start, end = datetime.fromisoformat(started), datetime.fromisoformat(finished)
    return (end - start).total_seconds()
