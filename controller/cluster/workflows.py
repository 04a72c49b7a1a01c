"""Workflows as the watch shows them: what is kept of one, and which are of one attempt of one round."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from controller.cluster.kubernetes import Document
from controller.cluster.resources import LABEL_ATTEMPT, LABEL_ROUND
from pipelines.engines.argo_names import COHORT
from pipelines.engines.argo_parts import part_of

Workflow = Mapping[str, Any]
W = TypeVar("W", bound=Workflow)

STOP: Document = {"spec": {"shutdown": "Terminate", "suspend": None}}
"""Ends a Workflow. Argo does not even look at the shutdown of a suspended one."""


def kept_of_workflow(workflow: Mapping[str, Any]) -> Document:
    """What the controller remembers of a Workflow: its status, not what it was made of."""
    meta, status = workflow["metadata"], workflow.get("status") or {}
    names = ("name", "namespace", "uid", "labels", "annotations", "resourceVersion")
    return {
        "metadata": {
            key: meta[key]
            for key in (*names, "creationTimestamp", "ownerReferences")
            if key in meta
        },
        "spec": {key: (workflow.get("spec") or {}).get(key) for key in ("shutdown", "suspend")},
        "status": {
            key: status[key]
            for key in ("phase", "message", "startedAt", "finishedAt", "nodes", "compressedNodes")
            if key in status
        },
    }


def attempt_of(workflow: Workflow) -> tuple[int, int]:
    """Which round and attempt a Workflow is of; (-1, -1) where its labels do not tell."""
    labels = workflow["metadata"].get("labels") or {}
    try:
        return int(labels[LABEL_ROUND]), int(labels[LABEL_ATTEMPT])
    except (KeyError, ValueError):
        return -1, -1


def newest_of(workflows: Iterable[W]) -> W | None:
    """The Workflow of the newest attempt that holds the server's tasks."""
    return max((w for w in workflows if not part_of(w)), key=attempt_of, default=None)


def parts_of(workflows: Iterable[W], server: Workflow) -> list[W]:
    """The Workflows with the clients of the server's round; none where it has them itself."""
    attempt = attempt_of(server)
    return [w for w in workflows if part_of(w) and attempt_of(w) == attempt]


def is_open(workflow: Workflow) -> bool:
    """Whether Argo has not closed it."""
    return (workflow.get("status") or {}).get("phase") in (None, "", "Pending", "Running")


def has_same_clients(one: Workflow, other: Workflow) -> bool:
    """Whether two Workflows of one name are of the same cohort; those of rounds in one piece always are."""
    cohorts = [(each["metadata"].get("annotations") or {}).get(COHORT) for each in (one, other)]
    return cohorts[0] == cohorts[1]
