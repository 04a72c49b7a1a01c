"""Upstream: what a node reports becomes status; each message once, however often it comes.

    POST /<namespace>/federatedlearningjobs/<name>/status     a WorkerMessage
    POST /<namespace>/datasets/<name>/status                  {"numberOfSamples": 120, "updateTime": "..."}

200 means that the API server has it, or that there was nothing to do: the answer's `applied` says which, and
`why` not (`replayed`, `stale`, `ended`, `replaced`). Order comes from rounds and from the numbers of a node's
messages; the clocks of edges are shown and never compared.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from controller.cluster.cache import Cache
from controller.cluster.edges.reports import Reports, WorkerReport
from controller.cluster.edges.wanted import Wanted
from controller.cluster.feedback import rfc3339
from controller.cluster.job_status import is_final
from controller.cluster.kubernetes import Cluster, Document
from controller.cluster.logs import log
from controller.cluster.resources import DATASETS, MODELS
from controller.link.bodies import MESSAGE_HEADER, Progress, read_count, read_progress
from controller.link.serving import Answer, Refusal
from fedloom.api.reading import read_status
from fedloom.api.status import JobStatus
from fedloom.errors import InvalidJobError

Key = tuple[str, str]

_TOLD_SECONDS = 10.0
_MOST_METRICS = 200


class Sequences:
    """The last message of each node, so that one that comes again has no second effect."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._last: dict[str, tuple[str, int]] = {}

    def lock_of(self, node: str) -> threading.Lock:
        """One message of a node at a time."""
        with self._lock:
            return self._locks.setdefault(node, threading.Lock())

    def is_known(self, node: str, message: tuple[str, int] | None) -> bool:
        last = self._last.get(node)
        return bool(message and last and last[0] == message[0] and message[1] <= last[1])

    def done(self, node: str, message: tuple[str, int] | None) -> None:
        if message is not None:
            self._last[node] = message


class Upstream:
    """Takes what nodes report; `node` is always the certificate's."""

    def __init__(
        self,
        cluster: Cluster,
        caches: tuple[Cache, Cache],
        wanted: Wanted,
        reports: Reports,
        enqueue: Callable[[Key], None],
    ) -> None:
        self._cluster = cluster
        self._jobs, self._datasets = caches
        self._wanted = wanted
        self._reports = reports
        self._enqueue = enqueue
        self._sequences = Sequences()

    def take(self, node: str, place: tuple[str, str, str], body: Any, message_id: str) -> Answer:
        """Take one message in. Raises InvalidJobError (400), Refusal (403, 404) and TransientError (503)."""
        message = _read_id(message_id)
        with self._sequences.lock_of(node):
            if self._sequences.is_known(node, message):
                return _unapplied("replayed")
            namespace, resource, name = place
            if resource == "datasets":
                answer = self._take_count(node, (namespace, name), body)
            else:
                answer = self._take_progress(node, (namespace, name), read_progress(body))
            self._sequences.done(node, message)
            return answer

    def _take_count(self, node: str, key: Key, body: Any) -> Answer:
        samples, time_there = read_count(body)
        document = self._datasets.get(*key)
        if document is None:
            raise Refusal(404, f"no Dataset {'/'.join(key)}")
        owner = document["spec"].get("nodeName")
        if owner != node:
            raise Refusal(403, f"Dataset {'/'.join(key)} is on node {owner!r}, not on {node!r}")
        known = document.get("status") or {}
        if known.get("numberOfSamples") != samples:
            status = {"numberOfSamples": samples, "updateTime": rfc3339(time.time())}
            self._cluster.patch(DATASETS, *key, {"status": status}, "status")
            log.info("Dataset %s has %d samples (%s there)", "/".join(key), samples, time_there)
        self._reports.note_count(key)
        return Answer({"applied": True})

    def _take_progress(self, node: str, key: Key, progress: Progress) -> Answer:
        where = "/".join(key)
        if progress.node and progress.node != node:
            raise Refusal(403, f"nodeName: got {progress.node!r}, the certificate says {node!r}")
        document = self._jobs.get(*key)
        if document is None or document["metadata"].get("deletionTimestamp"):
            raise Refusal(404, f"no job {where}")
        workers = self._wanted.workers_of(node, key)
        if not workers:
            raise Refusal(403, f"no worker of {where} is on node {node!r}")
        if progress.worker and progress.worker not in workers:
            raise Refusal(
                403, f"name: {progress.worker!r} is no worker of {where} on node {node!r}"
            )
        uid = str(document["metadata"]["uid"])
        if progress.job_uid and progress.job_uid != uid:
            return _unapplied("replaced")
        status = _status_of(document)
        if is_final(status):
            return _unapplied("ended")
        report = _report_of(progress, _client_of(progress.worker, workers), node)
        last = self._reports.newest_round(key, uid, (node, report.client))
        if 0 < report.round < max(last, status.aggregation_count or 0):
            return _unapplied("stale")
        self._apply(key, document, report, status)
        return Answer({"applied": True})

    def _apply(self, key: Key, document: Document, report: WorkerReport, status: JobStatus) -> None:
        uid = str(document["metadata"]["uid"])
        ticket = self._reports.take(key, uid, report)
        self._enqueue(key)
        if report.metrics and report.round > (status.aggregation_count or 0):
            self._tell_model(key[0], document["spec"], report.metrics)
        if not self._reports.wait(key, uid, ticket, _TOLD_SECONDS):
            raise Refusal(503, "the job's status could not be written in time: send it again")

    def _tell_model(
        self, namespace: str, spec: Mapping[str, Any], metrics: Mapping[str, str]
    ) -> None:
        """Sedna's own: the first model's metrics, until the round is committed and says its own."""
        output = (spec.get("output") or {}).get("model")
        name = (output or spec["aggregationWorker"]["model"])["name"]
        entries = [{"key": key, "value": value} for key, value in sorted(metrics.items())]
        status = {"metrics": entries, "updateTime": rfc3339(time.time())}
        self._cluster.patch(MODELS, namespace, name, {"status": status}, "status")


def _client_of(worker: str, workers: Mapping[str, str]) -> str:
    """A message that names no worker is of the node's only one; of several nobody knows which."""
    if not worker and len(workers) == 1:
        return next(iter(workers.values()))
    return workers.get(worker, "")


def _report_of(progress: Progress, client: str, node: str) -> WorkerReport:
    metrics = progress.models[0].metrics if progress.models else {}
    if progress.merged:
        log.info("a report of node %s stands for %d older ones", node, progress.merged)
    return WorkerReport(
        client=client,
        node=node,
        round=progress.round,
        status=progress.status,
        time=progress.time,
        samples=progress.samples,
        metrics=dict(list(metrics.items())[:_MOST_METRICS]),
    )


def _status_of(document: Document) -> JobStatus:
    try:
        return read_status(document.get("status"))
    except InvalidJobError:
        return JobStatus()


def _unapplied(why: str) -> Answer:
    return Answer({"applied": False, "why": why})


def _read_id(text: str) -> tuple[str, int] | None:
    """Read `<database>/<sequence>`; None where nothing was sent."""
    if not text:
        return None
    name, _, number = text.partition("/")
    if not name or not number.isascii() or not number.isdecimal() or len(text) > 100:
        raise Refusal(400, f"{MESSAGE_HEADER}: got {text[:100]!r}, expected <name>/<sequence>")
    return name, int(number)
