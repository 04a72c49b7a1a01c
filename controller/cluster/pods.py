"""Pods of a round: what is kept of them, and what they say about their clients. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from controller.cluster.conditions import ClientRun
from controller.cluster.nodes import seconds_of
from controller.cluster.resources import LABEL_ATTEMPT, LABEL_CLIENT, LABEL_ROUND
from fedloom.api.status import FAILED, SUCCEEDED
from pipelines.engines.argo_clients import ClientStatus, pod_status, remembered
from pipelines.engines.argo_reasons import cause_of_waiting

Pod = Mapping[str, Any]

NODE_ID = "workflows.argoproj.io/node-id"
NODE_NAME = "workflows.argoproj.io/node-name"
_ARGOS_OWN = ("init", "wait")
_BROKEN_STARTS = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImageInspectError",
        "ImagePullBackOff",
        "InvalidImageName",
        "RunContainerError",
    }
)


def kept_of_pod(pod: Pod) -> dict[str, Any]:
    """What the controller remembers of a pod."""
    meta, status = pod["metadata"], pod.get("status") or {}
    kept = ("name", "namespace", "uid", "labels", "creationTimestamp", "deletionTimestamp")
    given = meta.get("annotations") or {}
    annotations = {key: given[key] for key in (NODE_ID, NODE_NAME) if key in given}
    return {
        "metadata": {key: meta[key] for key in (*kept, "resourceVersion") if key in meta}
        | {"annotations": annotations, "job": _owner_job(meta)},
        "spec": {"nodeName": (pod.get("spec") or {}).get("nodeName")},
        "status": {
            "phase": status.get("phase"),
            "reason": status.get("reason"),
            "message": status.get("message"),
            "startTime": status.get("startTime"),
            "initContainerStatuses": _kept_of_containers(status.get("initContainerStatuses")),
            "containerStatuses": _kept_of_containers(status.get("containerStatuses")),
            "conditions": [
                {key: each.get(key) for key in ("type", "status", "reason", "message")}
                for each in status.get("conditions") or ()
                if each.get("type") == "PodScheduled" and each.get("status") == "False"
            ],
        },
    }


def _kept_of_containers(statuses: Any) -> list[dict[str, Any]]:
    return [{"name": each["name"], "state": each.get("state") or {}} for each in statuses or ()]


def _containers(pod: Pod) -> Iterator[Mapping[str, Any]]:
    yield from pod["status"]["initContainerStatuses"]
    yield from pod["status"]["containerStatuses"]


def _owner_job(meta: Mapping[str, Any]) -> str | None:
    """The Job that would make this pod again."""
    owners = meta.get("ownerReferences") or ()
    return next((str(each["name"]) for each in owners if each["kind"] == "Job"), None)


def is_of(pod: Pod, number: int, attempt: int) -> bool:
    labels = pod["metadata"].get("labels") or {}
    return (labels.get(LABEL_ROUND), labels.get(LABEL_ATTEMPT)) == (str(number), str(attempt))


def client_of(pod: Pod) -> str | None:
    """The client whose pod this is; None for the server's."""
    client = (pod["metadata"].get("labels") or {}).get(LABEL_CLIENT)
    return str(client) if client else None


def broken_start(pod: Pod) -> tuple[str, str]:
    """Reason and message where a container cannot be started and waiting will hardly help."""
    for each in _containers(pod):
        waiting = each["state"].get("waiting") or {}
        if waiting.get("reason") in _BROKEN_STARTS:
            message = waiting.get("message") or ""
            cause = cause_of_waiting(f"{waiting['reason']}:")
            reason = str(waiting["reason"]) if cause is None else cause.reason
            return reason, f"container {each['name']}: {message}"
    return "", ""


def age_seconds(pod: Pod, now: float) -> float:
    """How long ago the pod was created."""
    created = seconds_of(pod["metadata"].get("creationTimestamp"))
    return 0.0 if created is None else max(0.0, now - created)


def node_name_of(pod: Pod) -> str:
    """Argo's name of the step that the pod is: `<workflow>.<task>`, and `(<n>)` where it has retries."""
    return str(pod["metadata"]["annotations"].get(NODE_NAME, ""))


def is_done(pod: Pod) -> bool:
    """Whether every container but Argo's own has ended with success."""
    codes = [
        (each["state"].get("terminated") or {}).get("exitCode")
        for each in _containers(pod)
        if each["name"] not in _ARGOS_OWN
    ]
    return bool(codes) and all(code == 0 for code in codes)


def running_seconds(pod: Pod, now: float) -> float | None:
    """For how long the pod runs; None where it does not."""
    started = seconds_of(pod["status"]["startTime"])
    is_running = pod["status"]["phase"] == "Running" and started is not None
    return max(0.0, now - (started or now)) if is_running else None


def has_ended(pod: Pod) -> bool:
    return pod["status"]["phase"] in ("Succeeded", "Failed")


def client_runs(said: Mapping[str, ClientStatus], pods: Iterable[Pod]) -> dict[str, ClientRun]:
    """Join what the engine says of each client with what their pods of the same attempt say.

    The engine knows clients whose pods are gone or not made yet; pods are ahead of it, and all there
    is of clients that run as Jobs.
    """
    found = dict(said)
    for pod in sorted(pods, key=lambda each: str(each["metadata"].get("creationTimestamp"))):
        client = client_of(pod)
        if client is None:
            continue
        seen, known = pod_status(pod), found.get(client)
        if known is None or known.state not in (SUCCEEDED, FAILED):
            found[client] = seen
        elif known.state == FAILED:
            found[client] = remembered(seen, known)
    return {
        name: ClientRun(
            each.state, each.reason or None, each.node or None, each.seconds, each.message
        )
        for name, each in found.items()
    }
