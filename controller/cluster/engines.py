"""Which engine runs a job, and what concerns the runs of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from controller.cluster.answers import EngineUnavailableError
from controller.cluster.argo_engine import ArgoEngine
from controller.cluster.argo_engine import stop_all as stop_workflows
from controller.cluster.conditions import TrackingFacts
from controller.cluster.kfp_engine import KfpEngine
from controller.cluster.logs import log
from controller.cluster.pods import Pod
from controller.cluster.resolve import Finding
from controller.cluster.resources import JOBS
from controller.cluster.shared import Shared
from controller.cluster.stores import StoreAccess
from controller.cluster.workflows import is_open
from fedloom.api.job import FederatedLearningJob
from fedloom.artifacts.store import Store
from fedloom.errors import JobError, TransientError
from pipelines.engine import Engine
from pipelines.engines.argo_clients import ClientStatus

Key = tuple[str, str]


class JobEngine(Engine, Protocol):
    """An engine of one job on a cluster.

    Attributes:
        name: as spec.engine.name has it.
        job: with its defaults; may be replaced by what it was edited to.
        workflow, url: name of the newest run and its page; empty before the first.
        trouble: why nobody knows how the run stands; None while all is well.
        server_finding: why the server's pod of the attempt at hand was given up, where it was.
        pods_namespace: where the pods of rounds are.
    """

    name: str
    job: FederatedLearningJob
    workflow: str
    url: str
    trouble: Finding | None
    server_finding: Finding | None

    @property
    def pods_namespace(self) -> str: ...
    def start_server(self) -> None: ...
    def clients(self) -> Mapping[str, ClientStatus]: ...
    def all_pods(self) -> list[Pod]: ...
    def pods_of(self, number: int, attempt: int) -> list[Pod]: ...
    def commit_seconds(self, now: float) -> float | None: ...
    def next_look_seconds(self) -> float | None: ...
    def close_leftovers(self, committed: int) -> bool: ...
    def track(self, facts: TrackingFacts | None) -> None: ...


def engine_name(job: FederatedLearningJob, shared: Shared) -> str:
    """Say which engine runs a job: what it asks for, else the controller's own choice."""
    return job.spec.engine.name or shared.settings.engine


def engine_of(
    shared: Shared, job: FederatedLearningJob, access: StoreAccess, store: Store
) -> JobEngine:
    """Give the job's engine; what another one still runs of it is stopped.

    Raises JobError("NoKfpEndpoint") where the controller has no such backend.
    """
    key, uid = (job.metadata.namespace, job.metadata.name), job.metadata.uid
    if engine_name(job, shared) != "kfp":
        if shared.kfp is not None and shared.kfp.has_open(key, uid):
            shared.kfp.stop_all(key, uid)
        return ArgoEngine(shared, job, access, store)
    if shared.kfp is None:
        raise JobError(
            "NoKfpEndpoint",
            "got kfp, and the controller has no FEDLOOM_KFP_ENDPOINT: expected one, or argo",
            "spec.engine.name",
        )
    stop_workflows(shared, uid)
    return KfpEngine(shared, shared.kfp, job, access, store)


def stop_all(shared: Shared, key: Key, uid: str) -> None:
    """End every open run of a job, whichever engine's."""
    stop_workflows(shared, uid)
    if shared.kfp is not None and shared.kfp.has_open(key, uid):
        shared.kfp.stop_all(key, uid)


def has_open(shared: Shared, key: Key, uid: str) -> bool:
    """Whether something of a job is at work."""
    if any(map(is_open, shared.workflows.labelled(uid))):
        return True
    return shared.kfp is not None and shared.kfp.has_open(key, uid)


def sweep(shared: Shared, key: Key, uid: str | None) -> None:
    """End and forget the runs of jobs of this name that are gone; `uid` is that of the one that is not.

    Nothing owns them: a job's runs are in another namespace. Raises TransientError where that cannot be
    done now and there is no such job to take care of first.
    """
    if shared.kfp is None or not (strangers := shared.kfp.strangers(key, uid)):
        return
    job = shared.cluster.get(JOBS, *key)
    meta = job["metadata"] if job is not None else {}
    alive = None if meta.get("deletionTimestamp") else meta.get("uid")
    try:
        for record in strangers:
            if record.job_uid != alive:
                shared.kfp.drop(record)
    except TransientError as error:
        if uid is None:
            raise
        log.warning("runs of a deleted job stay for now: %s", error, extra={"job": "/".join(key)})


def trouble_of(error: TransientError) -> Finding:
    """Say why a job does not go on now, for its condition."""
    if isinstance(error, EngineUnavailableError):
        return Finding(error.reason, f"{error}; the controller tries again")
    message = "the store of the job does not answer; the controller tries again"
    return Finding("StoreUnavailable", message)
