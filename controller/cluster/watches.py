"""What is watched, and which jobs an event concerns."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from controller.cluster.cache import Cache
from controller.cluster.job_status import is_final
from controller.cluster.kfp_record import LABEL_KEY, kept_of_record, read_record
from controller.cluster.kfp_runs import RUN_LABEL
from controller.cluster.kfp_settings import KfpSettings
from controller.cluster.kubernetes import Cluster, Document
from controller.cluster.nodes import kept_of_node
from controller.cluster.pods import kept_of_pod
from controller.cluster.resolve import names_of
from controller.cluster.resources import (
    CONFIG_MAPS,
    DATASETS,
    JOBS,
    LABEL_NAME,
    LABEL_UID,
    MODELS,
    NODES,
    PODS,
    WORKFLOWS,
)
from controller.cluster.workflows import kept_of_workflow
from fedloom.api.reading import read_status
from fedloom.errors import InvalidJobError

Key = tuple[str, str]


class Watches:
    """The caches of one controller; `enqueue` is called with every job that an event concerns."""

    def __init__(
        self, cluster: Cluster, namespaces: tuple[str, ...], enqueue: Callable[[Key], None]
    ) -> None:
        self._enqueue = enqueue
        self._lock = threading.Lock()
        self._named: dict[Key, set[tuple[str, str]]] = {}
        self._namers: dict[tuple[str, str, str], set[Key]] = {}
        self.jobs = Cache(cluster, JOBS, namespaces)
        self.datasets = Cache(cluster, DATASETS, namespaces)
        self.models = Cache(cluster, MODELS, namespaces)
        self.nodes = Cache(cluster, NODES, keep=kept_of_node)
        self.workflows = Cache(
            cluster, WORKFLOWS, namespaces, LABEL_UID, kept_of_workflow, index=LABEL_UID
        )
        self.pods = Cache(cluster, PODS, namespaces, LABEL_UID, kept_of_pod, index=LABEL_UID)
        self.all = (
            self.jobs,
            self.datasets,
            self.models,
            self.nodes,
            self.workflows,
            self.pods,
        )
        self.jobs.on_change(self._job_changed)
        self.datasets.on_change(lambda document: self._reference_changed("Dataset", document))
        self.models.on_change(lambda document: self._reference_changed("Model", document))
        self.nodes.on_change(self._node_changed)
        self.workflows.on_change(self._workflow_changed)
        self.pods.on_change(self._pod_changed)

    def start(self) -> None:
        for cache in self.all:
            cache.start()

    @property
    def is_synced(self) -> bool:
        """Whether every kind has been listed once: before, what is absent is not known to be."""
        return all(cache.is_synced for cache in self.all)

    def troubles(self) -> list[str]:
        """What keeps watches from going on now."""
        return [cache.last_error for cache in self.all if cache.last_error]

    def _job_changed(self, document: Document) -> None:
        key = _key(document)
        named = names_of(document) if self.jobs.get(*key) is not None else set()
        with self._lock:
            for kind, name in self._named.pop(key, set()):
                self._namers[kind, key[0], name].discard(key)
            if named:
                self._named[key] = named
            for kind, name in named:
                self._namers.setdefault((kind, key[0], name), set()).add(key)
        self._enqueue(key)
        self._reference_changed(JOBS.kind, document)

    def _reference_changed(self, kind: str, document: Document) -> None:
        namespace, name = _key(document)
        with self._lock:
            keys = list(self._namers.get((kind, namespace, name), ()))
        for key in keys:
            self._enqueue(key)

    def _node_changed(self, _: Document) -> None:
        for document in self.jobs.all():
            if not _has_ended(document):
                self._enqueue(_key(document))

    def _workflow_changed(self, document: Document) -> None:
        meta = document["metadata"]
        for owner in meta.get("ownerReferences") or ():
            if owner["kind"] == JOBS.kind:
                self._enqueue((meta["namespace"], owner["name"]))
            elif owner["kind"] == WORKFLOWS.kind:  # of a round of several Workflows
                self._pod_changed(document)

    def _pod_changed(self, document: Document) -> None:
        meta = document["metadata"]
        name = (meta.get("labels") or {}).get(LABEL_NAME)
        if name is not None and self.jobs.get(meta["namespace"], name) is not None:
            self._enqueue((meta["namespace"], name))


class RunWatches:
    """Where Kubeflow Pipelines runs rounds: the records of runs, and the pods of all its runs.

    The controller does not wait for them: only jobs that run there do.
    """

    def __init__(
        self,
        cluster: Cluster,
        settings: KfpSettings,
        namespaces: tuple[str, ...],
        enqueue: Callable[[Key], None],
    ) -> None:
        self._enqueue = enqueue
        self._jobs: dict[str, Key] = {}  # by the ids of their runs
        where = (settings.namespace,) if settings.namespace else namespaces
        self.records = Cache(
            cluster, CONFIG_MAPS, where, LABEL_KEY, kept_of_record, index=LABEL_KEY
        )
        self.pods = Cache(cluster, PODS, where, RUN_LABEL, kept_of_pod, index=RUN_LABEL)
        self.all = (self.records, self.pods)
        self.records.on_change(self._record_changed)
        self.pods.on_change(self._run_pod_changed)

    def start(self) -> None:
        for cache in self.all:
            cache.start()

    def _record_changed(self, document: Document) -> None:
        record = read_record(document)
        if record is None:
            return
        if self.records.get(record.namespace, record.name) is None:
            self._jobs.pop(record.run, None)
        elif record.run:
            self._jobs[record.run] = record.job
        self._enqueue(record.job)

    def _run_pod_changed(self, document: Document) -> None:
        run = (document["metadata"].get("labels") or {}).get(RUN_LABEL, "")
        if run in self._jobs:
            self._enqueue(self._jobs[run])


def _key(document: Mapping[str, Any]) -> Key:
    meta = document["metadata"]
    return meta.get("namespace", ""), meta["name"]


def _has_ended(document: Mapping[str, Any]) -> bool:
    try:
        return is_final(read_status(document.get("status")))
    except InvalidJobError:
        return False
