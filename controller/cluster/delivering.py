"""The final model on its way to where the job's Models say: acts, and gives what is to be said of it.

The model is safe in the job's store whatever happens here; what fails is tried again, later and later, for
as long as the job is there. Everything is found again by its name: another controller goes on.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.cluster.answers import ConflictError
from controller.cluster.conditions import DeliveryFacts
from controller.cluster.delivery import (
    SECONDS,
    TROUBLE,
    Target,
    delivery_job,
    order_of,
    order_secret,
    targets_of,
)
from controller.cluster.job_run import JobRun
from controller.cluster.kubernetes import Cluster
from controller.cluster.resolve import Finding
from controller.cluster.resources import BATCH_JOBS, SECRETS
from controller.cluster.settings import Settings, region_of
from controller.cluster.stores import StoreAccess
from controller.credentials import endpoint_of, presigner_of
from controller.decide import Decision
from fedloom.api import status as words
from fedloom.api.status import JobStatus
from fedloom.errors import JobError
from pipelines.engines.argo_clients import FAILED, SUCCEEDED, ClientStatus, job_status
from pipelines.engines.argo_secrets import owned_by

_LOOK_SECONDS = 5.0
_FIRST_PAUSE_SECONDS = 20.0
_LONGEST_PAUSE_SECONDS = 600.0
_MOST_ATTEMPTS = 10_000


@dataclass
class _Way:
    """One target's: the attempt at hand, and when the next may begin."""

    attempt: int = 1
    not_before: float = 0.0
    is_done: bool = False
    finding: Finding | None = None


class Deliveries:
    """The deliveries of all jobs; of each on one thread at a time."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._cluster = cluster
        self._settings = settings
        self._known: dict[str, dict[Target, _Way]] = {}

    def advance(self, run: JobRun, decision: Decision) -> DeliveryFacts | None:
        """Do what is to be done now; None before the end, and for a job whose model goes nowhere."""
        last = run.observed.last if run.observed is not None else None
        if decision.phase != words.SUCCEEDED or last is None:
            return None
        resolved = run.resolved
        targets, trouble = targets_of(run.job, resolved.datasets, resolved.models)
        if not targets and trouble is None:
            return None
        known = self._known.setdefault(run.job.metadata.uid, {})
        ways = {target: known.setdefault(target, _Way()) for target in targets}
        for target, way in ways.items():
            if not way.is_done:
                self._look(run, target, way, last["model"])
        saved = tuple(target.shown for target, way in ways.items() if way.is_done)
        findings = [each for way in ways.values() if (each := way.finding) is not None]
        open_ = [target.shown for target, way in ways.items() if not way.is_done]
        if findings or trouble is not None:
            return DeliveryFacts(saved, findings[0] if findings else trouble, len(open_))
        if open_:
            message = f"the final model is on its way to {', '.join(open_[:5])}"
            return DeliveryFacts(saved, Finding("Delivering", message), len(open_))
        return DeliveryFacts(saved)

    def next_look_seconds(self, facts: DeliveryFacts | None) -> float | None:
        """When to look again; None for never."""
        return _LOOK_SECONDS if facts is not None and facts.open else None

    def is_owed(self, status: JobStatus) -> bool:
        """Whether an ended job's model is not yet everywhere where it is to be."""
        found = next(
            (each for each in status.conditions if each.type == words.MODEL_DELIVERED), None
        )
        return found is not None and found.status != words.TRUE and found.reason not in TROUBLE

    def forget(self, uid: str) -> None:
        self._known.pop(uid, None)

    def _look(self, run: JobRun, target: Target, way: _Way, model: Mapping[str, Any]) -> None:
        namespace = run.job.metadata.namespace
        while way.attempt < _MOST_ATTEMPTS:
            name = target.job_name(run.job, way.attempt)
            found = self._cluster.get(BATCH_JOBS, namespace, name)
            if found is None:
                if time.monotonic() >= way.not_before:
                    self._start(run, target, way, model)
                return
            status = job_status(found, self._pod(run, name))
            if status.state == SUCCEEDED:
                way.is_done, way.finding = True, None
                return
            if status.state != FAILED:
                way.finding = _waiting(target, status) or way.finding
                return
            message = f"{target.shown}: {status.reason}: {status.message}; it is tried again"
            way.finding = Finding("DeliveryFailed", message)
            doubled = _FIRST_PAUSE_SECONDS * 2.0 ** min(way.attempt - 1, 10)
            way.not_before = time.monotonic() + min(_LONGEST_PAUSE_SECONDS, doubled)
            way.attempt += 1

    def _start(self, run: JobRun, target: Target, way: _Way, model: Mapping[str, Any]) -> None:
        job, name = run.job, target.job_name(run.job, way.attempt)
        try:
            order = _signed(run.access, run, target, model)
        except JobError as error:
            way.finding = Finding("DeliveryFailed", f"{target.shown}: {error}")
            return
        secret = order_secret(job, name, order)
        try:
            self._cluster.create(SECRETS, secret)
        except ConflictError:  # from an earlier try: its URLs may be old
            change = {"data": secret["data"]}
            self._cluster.patch(SECRETS, job.metadata.namespace, name, change)
        with contextlib.suppress(ConflictError):
            made = self._cluster.create(BATCH_JOBS, delivery_job(job, target, name, self._settings))
            self._cluster.patch(SECRETS, job.metadata.namespace, name, owned_by(made))

    def _pod(self, run: JobRun, name: str) -> Mapping[str, Any] | None:
        pods = run.engine.all_pods()
        return next((pod for pod in pods if pod["metadata"].get("job") == name), None)


def _signed(
    access: StoreAccess, run: JobRun, target: Target, model: Mapping[str, Any]
) -> dict[str, Any]:
    """Sign what an order needs: reading the model and, for an object, writing it. Raises JobError."""
    presigner = access.presigner() if target.node is not None else access.cloud_presigner()
    get = presigner.get_url(str(model["key"]), SECONDS + 3600)
    put = None
    if target.node is None:
        name = run.resolved.models[target.model].spec.credential_name
        secret = access.secrets.get(name) if name else access.secret
        if secret is None:
            raise JobError(
                "NoCredentials",
                "got an s3:// url without a credentialName, expected one: the controller's own are not lent",
                f"Model {target.model!r}: spec.credentialName",
            )
        signer, key = presigner_of(secret, target.file, endpoint_of(secret), region_of())
        put = signer.put_url(key, SECONDS + 3600)
    return order_of(target, str(model["digest"]), get, put)


def _waiting(target: Target, status: ClientStatus) -> Finding | None:
    if not status.reason:
        return None
    return Finding("Delivering", f"{target.shown}: {status.reason}: {status.message}")
