"""Look for what a job learns from among the objects of a cluster. Pure: the same objects, the same answer.

The final model of another job is where that job's status says. What MLflow's registry has is no object:
`job_sources` asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from controller.cluster.resources import JOBS, MODELS, Resource
from controller.permission import allows
from controller.sources import (
    ABSENT,
    CIRCULAR,
    COMING,
    FAILED,
    NOT_ALLOWED,
    NOT_FOUND,
    READY,
    RUNNING,
    UNREADABLE,
    Looked,
)
from fedloom.api.job import FederatedLearningJob
from fedloom.api.model import Model
from fedloom.api.places import is_remote, url_problem
from fedloom.api.reading import read_object, read_status
from fedloom.api.status import FAILED as PHASE_FAILED
from fedloom.api.status import SUCCEEDED
from fedloom.api.transfer import (
    ALLOWED_ANNOTATION,
    TransferSource,
    learns_from_others,
    source_name,
)
from fedloom.api.transfer_fields import Key, circle_through, key_of
from fedloom.artifacts import layout
from fedloom.errors import InvalidJobError

Document = Mapping[str, Any]
_ROUND = re.compile(r"/round-\d{4,}/")
_MOST_JOBS = 1_000


class Objects(Protocol):
    """Where objects are looked up."""

    def get(self, resource: Resource, namespace: str, name: str) -> Document | None: ...


def look_at_sources(job: FederatedLearningJob, objects: Objects) -> tuple[Looked, ...]:
    """Say of every source that is an object, or a url, how it stands; in the job's order."""
    transfer = job.spec.transfer
    if transfer is None or not learns_from_others(transfer):
        return ()
    look = _Look(job, objects)
    return tuple(look.at(source) for source in transfer.sources if not is_registered(source))


def is_registered(source: TransferSource) -> bool:
    """Whether it is in MLflow's registry."""
    return source.registered_model is not None or source.registry is not None


def source_secrets(looked: tuple[Looked, ...]) -> Iterator[str]:
    """Name the Secrets that open sources."""
    for each in looked:
        for candidate in each.candidates:
            if candidate.get("credential"):
                yield str(candidate["credential"])


class _Look:
    def __init__(self, job: FederatedLearningJob, objects: Objects) -> None:
        self._job = job
        self._objects = objects
        self._own = job.metadata.namespace

    def at(self, source: TransferSource) -> Looked:
        name = source_name(source)
        namespace = source.namespace or self._own
        if source.uri is not None:
            return self._url(name, source.uri, source.credential_name)
        resource, wanted = (MODELS, source.model) if source.model else (JOBS, source.job)
        document = self._objects.get(resource, namespace, str(wanted))
        if document is None or document["metadata"].get("deletionTimestamp"):
            message = f"there is no {resource.kind} {wanted!r} in namespace {namespace!r}"
            return Looked(name, ABSENT, NOT_FOUND, message)
        annotations = document["metadata"].get("annotations") or {}
        refusal = allows(annotations.get(ALLOWED_ANNOTATION, ""), namespace, self._own)
        if refusal:
            return Looked(name, ABSENT, NOT_ALLOWED, refusal)
        if resource is JOBS:
            return self._other_job(name, source, document)
        return self._model(name, document)

    def _model(self, name: str, document: Document) -> Looked:
        try:
            model = read_object(document)
        except InvalidJobError as error:
            return Looked(name, ABSENT, UNREADABLE, str(error))
        assert isinstance(model, Model)
        is_near = model.metadata.namespace == self._own
        if model.spec.credential_name and not is_near:
            return Looked(name, ABSENT, UNREADABLE, _FAR_SECRET)
        return self._url(name, model.spec.url, model.spec.credential_name)

    def _url(self, name: str, url: str, credential: str | None) -> Looked:
        problem = url_problem(url)
        if problem is not None:
            return Looked(name, ABSENT, UNREADABLE, problem)
        candidate = {"name": name, "url": url, "uri": url.partition("?")[0]}
        if is_remote(url) and (credential or not url.startswith("s3:")):
            candidate["credential"] = credential or ""
        return Looked(name, READY, candidates=(candidate,))

    def _other_job(self, name: str, source: TransferSource, document: Document) -> Looked:
        circle = self._circle()
        if circle:
            return Looked(name, ABSENT, CIRCULAR, f"jobs wait for each other: {circle}")
        try:
            status = read_status(document.get("status"))
        except InvalidJobError:
            status = read_status(None)
        model = status.model
        is_done = status.phase == SUCCEEDED or source.start
        if model is None or not is_done:
            return _unfinished(name, status.phase, document)
        meta, spec = document["metadata"], document.get("spec") or {}
        candidate: dict[str, Any] = {
            "name": name,
            "url": model.uri,
            "digest": model.digest,
            "uri": model.uri,
            "job": f"{meta.get('namespace', '')}/{meta['name']}",
            "round": model.round,
        }
        if source.start:  # its digest is in its store only; the object never changes
            candidate |= {"url": _first(model.uri), "uri": _first(model.uri), "round": 0}
            del candidate["digest"]
        tracking = status.tracking
        if tracking is not None and tracking.run_id:
            candidate["run_id"] = tracking.run_id
        if model.version and model.registered_model and not source.start:
            candidate |= {"version": model.version, "registered_model": model.registered_model}
        return self._opened(name, candidate, spec, meta.get("namespace", ""))

    def _opened(
        self, name: str, candidate: dict[str, Any], spec: Document, namespace: str
    ) -> Looked:
        """Say who opens another job's store: the Secret that it names itself, else the cloud's own keys."""
        s3 = ((spec.get("transmitter") or {}).get("s3")) or {}
        secret = s3.get("credentialName")
        own = self._job.spec.transmitter.s3 if self._job.spec.transmitter else None
        if secret and namespace != self._own:
            return Looked(name, ABSENT, UNREADABLE, _FAR_SECRET)
        if secret:
            candidate["credential"] = secret
        elif own is not None and own.credential_name:
            message = "its store is the controller's own, which this job's Secret does not open"
            return Looked(name, ABSENT, UNREADABLE, message)
        return Looked(name, READY, candidates=(candidate,))

    def _circle(self) -> str:
        sources: dict[Key, tuple[Key, ...]] = {}
        start = key_of(self._job)
        waiting = [start]
        while waiting and len(sources) < _MOST_JOBS:
            key = waiting.pop()
            document = self._objects.get(JOBS, *key)
            sources[key] = tuple(_named_jobs(document)) if document is not None else ()
            waiting += [each for each in sources[key] if each not in sources]
        return " -> ".join(
            f"{namespace}/{name}" for namespace, name in circle_through(start, sources)
        )


_FAR_SECRET = "a Secret of another namespace opens it, which jobs of this one do not get"  # noqa: S105


def _unfinished(name: str, phase: str | None, document: Document) -> Looked:
    if phase == PHASE_FAILED:
        conditions = (document.get("status") or {}).get("conditions") or ()
        said: Document = next((c for c in conditions if c.get("type") == "Failed"), {})
        message = f"it failed: {said.get('reason', 'Failed')}: {said.get('message', '')}"
        return Looked(name, ABSENT, FAILED, message)
    status = document.get("status") or {}
    done = status.get("aggregationCount", 0)
    rounds = (document.get("spec") or {}).get("rounds", "its")
    return Looked(name, COMING, RUNNING, f"it is not done: {done} of {rounds} rounds")


def _named_jobs(document: Document) -> Iterator[Key]:
    transfer = (document.get("spec") or {}).get("transfer") or {}
    for source in transfer.get("from") or ():
        if isinstance(source, Mapping) and source.get("job"):
            own = document["metadata"].get("namespace", "")
            yield source.get("namespace") or own, source["job"]


def _first(uri: str) -> str:
    return _ROUND.sub(f"/{layout.round_folder(0)}/", uri)
