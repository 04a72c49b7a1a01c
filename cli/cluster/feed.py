"""What a cluster holds of one job, kept up to date: the job itself, its Workflows and its pods."""

from __future__ import annotations

import queue
import threading
from typing import Any

from cli.cluster.kfp_rounds import is_on_kfp, runs_namespace, work_pods
from cli.cluster.picture import Picture
from controller.cluster.cache import Cache
from controller.cluster.kfp_record import kept_of_record, read_records
from controller.cluster.kfp_runs import RUN_LABEL
from controller.cluster.kubernetes import Cluster, Document
from controller.cluster.pods import Pod, kept_of_pod
from controller.cluster.resources import CONFIG_MAPS, JOBS, LABEL_UID, PODS, WORKFLOWS
from controller.cluster.workflows import kept_of_workflow
from fedloom.api.clients import clients_of
from fedloom.api.reading import read_job
from fedloom.errors import InvalidJobError

_FIRST_LOOK_SECONDS = 5.0


class Feed:
    """Watches one job.

    Every version of the job is handed out, however fast they come: a round's result is in its status
    only until the next round begins.
    """

    def __init__(self, cluster: Cluster, job: Document) -> None:
        meta = job["metadata"]
        self._uid, self._key = meta["uid"], (meta["namespace"], meta["name"])
        self._versions: queue.SimpleQueue[Document] = queue.SimpleQueue()
        self._versions.put(job)
        self._job, self._version = job, str(meta["resourceVersion"])
        self._changed = threading.Event()
        namespaces = (meta["namespace"],)
        selector = f"{LABEL_UID}={self._uid}"
        self._jobs = Cache(cluster, JOBS, namespaces)
        self._is_on_kfp = is_on_kfp(job)
        if self._is_on_kfp:
            where = (runs_namespace(job),)
            self._workflows = Cache(cluster, CONFIG_MAPS, where, selector, kept_of_record)
            self._pods = Cache(cluster, PODS, where, RUN_LABEL, kept_of_pod, index=RUN_LABEL)
        else:
            self._workflows = Cache(cluster, WORKFLOWS, namespaces, selector, kept_of_workflow)
            self._pods = Cache(cluster, PODS, namespaces, selector, kept_of_pod)
        self._jobs.on_change(self._take_job)
        for cache in (self._workflows, self._pods):
            cache.on_change(lambda _: self._changed.set())
        self._all = (self._jobs, self._workflows, self._pods)

    def start(self) -> None:
        """Begin to watch; returns when everything was seen once or cannot be."""
        for cache in self._all:
            cache.start()
        for cache in self._all:
            self._await(cache)

    def stop(self) -> None:
        for cache in self._all:
            cache.stop()

    def pictures(self) -> list[Picture]:
        """Give a picture for each version of the job since the last call; at least the present one."""
        jobs = []
        while not self._versions.empty():
            jobs.append(self._versions.get())
        self._job = jobs[-1] if jobs else self._job
        workflows, pods = self._workflows.all(), self._all_pods()
        names = _names(self._job)
        return [Picture(job, workflows, pods, names) for job in jobs or [self._job]]

    def _all_pods(self) -> list[Pod]:
        if not self._is_on_kfp:
            return [*self._pods.all()]
        records = read_records(self._workflows.all(), self._uid)
        every = (work_pods(self._pods.labelled(record.run), record) for record in records)
        return [pod for each in every for pod in each]

    @property
    def is_gone(self) -> bool:
        """Whether the job was deleted, or another was made under its name."""
        found = self._jobs.get(*self._key)
        return self._jobs.is_synced and (found is None or found["metadata"]["uid"] != self._uid)

    def troubles(self) -> list[str]:
        """What cannot be looked at now, and why."""
        return [cache.last_error for cache in self._all if cache.last_error]

    def wait(self, seconds: float) -> None:
        """Wait until something has changed, at most so long."""
        self._changed.wait(seconds)
        self._changed.clear()

    def _take_job(self, job: Document) -> None:
        meta = job["metadata"]
        if meta["uid"] == self._uid and str(meta["resourceVersion"]) != self._version:
            self._version = str(meta["resourceVersion"])
            self._versions.put(job)
        self._changed.set()

    def _await(self, cache: Cache) -> None:
        waiting = threading.Event()
        for _ in range(int(_FIRST_LOOK_SECONDS / 0.05)):
            if cache.is_synced or cache.last_error:
                return
            waiting.wait(0.05)


def _names(job: Any) -> tuple[str, ...]:
    try:
        return tuple(client.name for client in clients_of(read_job({**job, "status": {}})))
    except InvalidJobError:
        return ()
