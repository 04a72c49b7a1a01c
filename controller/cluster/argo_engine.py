"""The engine of one job on a cluster: plans become Workflows, Workflows become run statuses.

Names are deterministic, so that submitting twice, or by two processes one after the other, makes one
Workflow. Its Secrets come first and belong to the job; once the Workflow is there they belong to it.
Of a round of several Workflows the server's is first and the last to work. A round that lost one of them,
or whose making was cut short, is begun anew with its next attempt.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from controller.cluster.answers import ConflictError
from controller.cluster.conditions import TrackingFacts
from controller.cluster.kubernetes import Document
from controller.cluster.pods import Pod, is_done, is_of, node_name_of, running_seconds
from controller.cluster.resolve import Finding
from controller.cluster.resources import SECRETS, WORKFLOWS
from controller.cluster.services import make_service
from controller.cluster.shared import Shared
from controller.cluster.stores import StoreAccess
from controller.cluster.submission import compile_submissions
from controller.cluster.workflows import (
    STOP,
    attempt_of,
    has_same_clients,
    is_open,
    newest_of,
    parts_of,
)
from fedloom.api.job import FederatedLearningJob
from fedloom.artifacts import layout
from fedloom.artifacts.store import Store
from fedloom.errors import TransientError
from pipelines.engine import RunPhase, RunStatus
from pipelines.engines.argo_clients import ClientStatus
from pipelines.engines.argo_parts import has_ended, is_held, is_whole, part_of
from pipelines.engines.argo_secrets import owned_by
from pipelines.engines.argo_status import WorkflowStatus, run_status
from pipelines.plan import Plan

_CLOSING_SECONDS = 60.0
"""How long a Workflow may take to end after its round has."""

_LAST_TASK = "fedloom.io/last-task"
_UNSEEN_SECONDS = 60.0
"""How long a Workflow that was made may take to show up in the watch."""


def stop_all(shared: Shared, uid: str) -> None:
    """End every Workflow of a job that is open."""
    for workflow in shared.workflows.labelled(uid):
        if is_open(workflow):
            _stop(shared, workflow)


def _stop(shared: Shared, workflow: Mapping[str, Any]) -> None:
    meta = workflow["metadata"]
    shared.cluster.patch(WORKFLOWS, meta["namespace"], meta["name"], STOP)


class ArgoEngine:
    """Runs the plans of one job; see `pipelines.engine.Engine`.

    Args:
        shared: what all jobs share.
        job: with its defaults.
        access: to the job's store.
        store: the same, opened.
    """

    name = "argo"
    url = ""
    trouble: Finding | None = None

    def __init__(
        self, shared: Shared, job: FederatedLearningJob, access: StoreAccess, store: Store
    ) -> None:
        self._shared = shared
        self.job = job
        self._access = access
        self._store = store
        self._submitted: tuple[RunStatus, float] | None = None
        self._parsed: dict[str, tuple[str, WorkflowStatus]] = {}
        self._over: dict[str, float] = {}  # workflows whose round is over, and since when
        self.workflow = ""
        self.server_finding: Finding | None = None
        """Why the server's pod of the attempt at hand was given up, where it was."""

    @property
    def pods_namespace(self) -> str:
        return self.job.metadata.namespace

    def track(self, facts: TrackingFacts | None) -> None:
        """Workflows say nothing of tracking."""

    def submit(self, plan: Plan) -> None:
        """Make the Workflow and its Secrets; what is there already stays as it is.

        Raises JobError where the plan cannot be run like this, TransientError where the API
        server or the store cannot be reached: then submit again.
        """
        nodes = self._shared.nodes() or ()
        self._end_parts_before((plan.round, plan.attempt))
        server: Document | None = None
        for submission in compile_submissions(
            plan, self.job, self._access, self._shared.settings, nodes
        ):
            for secret in submission.secrets:
                self._make_secret(secret)
            if submission.service is not None:
                make_service(self._shared.cluster, submission.service)
            made = self._make_workflow(submission.workflow, server)
            self._hand_over(submission.secrets, made)
            server = server or made
        assert server is not None
        self._submitted = (
            RunStatus(plan.round, plan.attempt, RunPhase.RUNNING),
            time.monotonic(),
        )
        self.workflow = server["metadata"]["name"]
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
        if is_held(newest) and submitted is None and not is_whole(newest, self._parts(newest)):
            message = "a workflow with clients of this round is gone, or was never made"
            return replace(run, phase=RunPhase.FAILED, reason="WorkflowLost", message=message)
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
        stop_all(self._shared, self.job.metadata.uid)

    def newest(self) -> Document | None:
        """The Workflow of the newest attempt at the newest round; of several the server's."""
        return newest_of(self._all())

    def start_server(self) -> None:
        """Of a round of several Workflows: let the server begin once all clients have ended."""
        newest = self.newest()
        if newest is None or not is_held(newest):
            return
        parts = self._parts(newest)
        if is_whole(newest, parts) and all(has_ended(part, self._parse(part)) for part in parts):
            meta, change = newest["metadata"], {"spec": {"suspend": None}}
            self._shared.cluster.patch(WORKFLOWS, meta["namespace"], meta["name"], change)

    def _all(self) -> list[Document]:
        return self._shared.workflows.labelled(self.job.metadata.uid)

    def _parts(self, server: Document) -> list[Document]:
        return parts_of(self._all(), server)

    def _end_parts_before(self, attempt: tuple[int, int]) -> None:
        """End clients of earlier attempts that nobody waits for any more: their edges are needed."""
        for workflow in self._all():
            if part_of(workflow) and is_open(workflow) and attempt_of(workflow) < attempt:
                _stop(self._shared, workflow)

    def all_pods(self) -> list[Pod]:
        """Give every pod of the job, those of no round too."""
        return [*self._shared.pods.labelled(self.job.metadata.uid)]

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

    def commit_seconds(self, now: float) -> float | None:
        """For how long the pod that commits is at work; None where it is not."""
        last = self.last_pod()
        return None if last is None else running_seconds(last, now)

    def next_look_seconds(self) -> float | None:
        """The watch tells of everything."""
        return None

    def _unseen_submission(self) -> RunStatus | None:
        if self._submitted is None:
            return None
        run, at = self._submitted
        return run if time.monotonic() - at < _UNSEEN_SECONDS else None

    def clients(self) -> Mapping[str, ClientStatus]:
        """What the newest Workflow says of its clients, or the several of the newest round."""
        newest = self.newest()
        if newest is None:
            return {}
        found = self._parts(newest) or [newest]
        return {name: run for each in found for name, run in self._parse(each).clients.items()}

    def close_leftovers(self, committed: int) -> bool:
        """Shut down Workflows whose round is over but which stay open; say whether any is left.

        On Argo 3.7 a pod that never started keeps its Workflow open for ever.
        """
        now, is_left = time.monotonic(), False
        for workflow in self._all():
            name = workflow["metadata"]["name"]
            if not is_open(workflow):
                self._over.pop(name, None)
            elif attempt_of(workflow)[0] <= committed or self._is_over(workflow):
                is_left = True
                if now - self._over.setdefault(name, now) >= _CLOSING_SECONDS:
                    _stop(self._shared, workflow)
        return is_left

    def _is_over(self, workflow: Document) -> bool:
        """Whether the attempt that an open Workflow is of has ended."""
        newest, run = self.newest(), None
        if newest is not None and (part_of(workflow) or is_held(workflow)):
            if attempt_of(workflow) < attempt_of(newest):
                return True
            run = self.status()
        return (run or run_status(workflow)).phase is not RunPhase.RUNNING

    def _parse(self, workflow: Document) -> WorkflowStatus:
        meta = workflow["metadata"]
        name, version = meta["name"], str(meta.get("resourceVersion"))
        known = self._parsed.get(name)
        if known is None or known[0] != version:
            if not part_of(workflow) and name not in self._parsed:
                self._parsed.clear()  # those of the attempt before
            known = self._parsed[name] = (version, run_status(workflow))
        return known[1]

    def _make_secret(self, secret: Mapping[str, Any]) -> None:
        try:
            self._shared.cluster.create(SECRETS, secret)
        except ConflictError:  # from an earlier try: its URLs may be old
            meta = secret["metadata"]
            change = {key: secret[key] for key in ("data", "stringData") if key in secret}
            self._shared.cluster.patch(SECRETS, meta["namespace"], meta["name"], change)

    def _make_workflow(self, workflow: Mapping[str, Any], server: Document | None) -> Document:
        meta = workflow["metadata"]
        if server is not None:
            workflow = {**workflow, "metadata": meta | owned_by(server)["metadata"]}
        try:
            return self._shared.cluster.create(WORKFLOWS, workflow)
        except ConflictError:
            found = self._shared.cluster.get(WORKFLOWS, meta["namespace"], meta["name"])
            if found is None:
                raise
            if not has_same_clients(found, workflow):
                message = f"{meta['name']} is there with other clients; its attempt is given up"
                raise TransientError(message, 5.0) from None
            return found

    def _hand_over(self, secrets: Sequence[Mapping[str, Any]], workflow: Document) -> None:
        """Make the Workflow the owner of its Secrets: they go when it goes."""
        change, namespace = owned_by(workflow), workflow["metadata"]["namespace"]
        for secret in secrets:
            self._shared.cluster.patch(SECRETS, namespace, secret["metadata"]["name"], change)
