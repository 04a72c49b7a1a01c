"""The engine of one job on a cluster: plans become Workflows, Workflows become run statuses.

Names are deterministic, so that submitting twice, or by two processes one after the other, makes one
Workflow. Its Secrets come first and belong to the job; once the Workflow is there they belong to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from controller.cluster.answers import ConflictError
from controller.cluster.cache import Cache
from controller.cluster.kubernetes import Cluster, Document
from controller.cluster.nodes import Node
from controller.cluster.pods import Pod, is_done, is_of, node_name_of
from controller.cluster.resolve import Finding
from controller.cluster.resources import (
    LABEL_ATTEMPT,
    LABEL_ROUND,
    SECRETS,
    WORKFLOWS,
)
from controller.cluster.settings import Settings
from controller.cluster.stores import StoreAccess
from controller.cluster.submission import compile_submission
from fedloom.api.job import FederatedLearningJob
from fedloom.artifacts import layout
from fedloom.artifacts.store import Store
from pipelines.engine import RunPhase, RunStatus
from pipelines.engines.argo_clients import ClientStatus
from pipelines.engines.argo_secrets import owned_by
from pipelines.engines.argo_status import WorkflowStatus, run_status
from pipelines.plan import Plan

_CLOSING_SECONDS = 60.0
"""How long a Workflow may take to end after its round has."""

_LAST_TASK = "fedloom.io/last-task"
_UNSEEN_SECONDS = 60.0
"""How long a Workflow that was made may take to show up in the watch."""


@dataclass(frozen=True)
class Shared:
    """What the engines of all jobs share.

    Attributes:
        workflows, pods: caches of what belongs to jobs, indexed by the job's uid.
        nodes: gives all nodes; None where they are not known.
    """

    cluster: Cluster
    settings: Settings
    workflows: Cache
    pods: Cache
    nodes: Callable[[], Sequence[Node] | None]


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
        "spec": {"shutdown": (workflow.get("spec") or {}).get("shutdown")},
        "status": {
            key: status[key]
            for key in ("phase", "message", "startedAt", "finishedAt", "nodes", "compressedNodes")
            if key in status
        },
    }


class ArgoEngine:
    """Runs the plans of one job; see `pipelines.engine.Engine`.

    Args:
        shared: what all jobs share.
        job: with its defaults.
        access: to the job's store.
        store: the same, opened.
    """

    def __init__(
        self, shared: Shared, job: FederatedLearningJob, access: StoreAccess, store: Store
    ) -> None:
        self._shared = shared
        self.job = job
        self._access = access
        self._store = store
        self._submitted: tuple[RunStatus, float] | None = None
        self._parsed: tuple[str, WorkflowStatus] | None = None
        self._over: dict[str, float] = {}  # workflows whose round is over, and since when
        self.workflow = ""
        self.server_finding: Finding | None = None
        """Why the server's pod of the attempt at hand was given up, where it was."""

    def submit(self, plan: Plan) -> None:
        """Make the Workflow and its Secrets; what is there already stays as it is.

        Raises JobError where the plan cannot be run like this, TransientError where the API
        server or the store cannot be reached: then submit again.
        """
        nodes = self._shared.nodes() or ()
        submission = compile_submission(plan, self.job, self._access, self._shared.settings, nodes)
        for secret in submission.secrets:
            self._make_secret(secret)
        made = self._make_workflow(submission.workflow)
        self._submitted = (
            RunStatus(plan.round, plan.attempt, RunPhase.RUNNING),
            time.monotonic(),
        )
        self.workflow = made["metadata"]["name"]
        self._hand_over(submission.secrets, made)
        # A record for people and later readers, not an input of anything.
        self._store.put(layout.plan_key(plan.round, plan.attempt), plan.to_json(), replace=True)

    def status(self) -> RunStatus | None:
        """Say how the newest run stands, by what the watch has seen."""
        newest = self.newest()
        submitted = self._unseen_submission()
        if newest is None:
            return submitted
        number, attempt = attempt_of(newest)
        if submitted is not None and (submitted.round, submitted.attempt) > (number, attempt):
            return submitted
        self.workflow = newest["metadata"]["name"]
        run = self._parse(newest).as_run()
        if run.phase is RunPhase.RUNNING:
            last = self.last_pod()
            # Argo takes seconds to notice.
            is_over = last is not None and is_done(last)
            return replace(run, phase=RunPhase.SUCCEEDED) if is_over else run
        finding = self.server_finding
        if run.phase is RunPhase.FAILED and finding is not None:
            return replace(run, reason=finding.reason, message=finding.message)
        return run

    def wait(self, timeout_seconds: float) -> None:
        """Nothing to wait for here: the watch says when to look again."""

    def close(self) -> None:
        """Stop what still runs: Argo ends its pods. Edge state and artifacts stay."""
        for workflow in self._shared.workflows.labelled(self.job.metadata.uid):
            if _is_open(workflow):
                meta = workflow["metadata"]
                change = {"spec": {"shutdown": "Terminate"}}
                self._shared.cluster.patch(WORKFLOWS, meta["namespace"], meta["name"], change)

    def newest(self) -> Document | None:
        """The Workflow of the newest attempt at the newest round."""
        found = self._shared.workflows.labelled(self.job.metadata.uid)
        return max(found, key=attempt_of, default=None)

    def pods_of(self, number: int, attempt: int) -> list[Pod]:
        """Give the pods of one attempt."""
        found = self._shared.pods.labelled(self.job.metadata.uid)
        return [pod for pod in found if is_of(pod, number, attempt)]

    def last_pod(self) -> Pod | None:
        """Give the pod of the newest Workflow's last task, the one that commits; its last try."""
        workflow = self.newest()
        if workflow is None:
            return None
        last = (workflow["metadata"].get("annotations") or {}).get(_LAST_TASK)
        wanted = f"{workflow['metadata']['name']}.{last}"
        found = [
            pod
            for pod in self.pods_of(*attempt_of(workflow))
            if node_name_of(pod).partition("(")[0] == wanted
        ]
        return max(found, key=node_name_of, default=None)

    def _unseen_submission(self) -> RunStatus | None:
        if self._submitted is None:
            return None
        run, at = self._submitted
        return run if time.monotonic() - at < _UNSEEN_SECONDS else None

    def clients(self) -> Mapping[str, ClientStatus]:
        """What the newest Workflow says of its clients."""
        newest = self.newest()
        return {} if newest is None else self._parse(newest).clients

    def close_leftovers(self, committed: int) -> bool:
        """Shut down Workflows whose round is over but which stay open; say whether any is left.

        On Argo 3.7 a pod that never started keeps its Workflow open for ever.
        """
        now, is_left = time.monotonic(), False
        for workflow in self._shared.workflows.labelled(self.job.metadata.uid):
            meta = workflow["metadata"]
            if not _is_open(workflow):
                self._over.pop(meta["name"], None)
            elif (
                attempt_of(workflow)[0] <= committed
                or run_status(workflow).phase is not RunPhase.RUNNING
            ):
                is_left = True
                if now - self._over.setdefault(meta["name"], now) >= _CLOSING_SECONDS:
                    change = {"spec": {"shutdown": "Terminate"}}
                    self._shared.cluster.patch(WORKFLOWS, meta["namespace"], meta["name"], change)
        return is_left

    def _parse(self, workflow: Document) -> WorkflowStatus:
        version = str(workflow["metadata"].get("resourceVersion"))
        if self._parsed is None or self._parsed[0] != version:
            self._parsed = (version, run_status(workflow))
        return self._parsed[1]

    def _make_secret(self, secret: Mapping[str, Any]) -> None:
        try:
            self._shared.cluster.create(SECRETS, secret)
        except ConflictError:  # from an earlier try: its URLs may be old
            meta = secret["metadata"]
            change = {key: secret[key] for key in ("data", "stringData") if key in secret}
            self._shared.cluster.patch(SECRETS, meta["namespace"], meta["name"], change)

    def _make_workflow(self, workflow: Mapping[str, Any]) -> Document:
        try:
            return self._shared.cluster.create(WORKFLOWS, workflow)
        except ConflictError:
            meta = workflow["metadata"]
            found = self._shared.cluster.get(WORKFLOWS, meta["namespace"], meta["name"])
            if found is None:
                raise
            return found

    def _hand_over(self, secrets: Sequence[Mapping[str, Any]], workflow: Document) -> None:
        """Make the Workflow the owner of its Secrets: they go when it goes."""
        change, namespace = owned_by(workflow), workflow["metadata"]["namespace"]
        for secret in secrets:
            self._shared.cluster.patch(SECRETS, namespace, secret["metadata"]["name"], change)


def _is_open(workflow: Mapping[str, Any]) -> bool:
    return workflow["status"].get("phase") in (None, "", "Pending", "Running")


def attempt_of(workflow: Mapping[str, Any]) -> tuple[int, int]:
    """Which round and attempt a Workflow is of; (-1, -1) where its labels do not tell."""
    labels = workflow["metadata"].get("labels") or {}
    try:
        return int(labels[LABEL_ROUND]), int(labels[LABEL_ATTEMPT])
    except (KeyError, ValueError):
        return -1, -1
