"""Downstream: what each node should hold, as the caches say now; and waiting for that to change.

A node gets the jobs that may train on it, and its Datasets. What is sent is the object without its status,
and without what others keep in its metadata; a job's copy also names its workers on that node.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from controller.cluster.cache import Cache
from controller.cluster.kubernetes import Document
from controller.cluster.nodes import matching, placements_of
from controller.link.bodies import DATASETS, JOBS, WORKERS_ANNOTATION, version_of
from fedloom.api.clients import clients_of
from fedloom.api.dataset import Dataset
from fedloom.api.job import FederatedLearningJob
from fedloom.api.reading import read_job, read_object
from fedloom.errors import InvalidJobError
from pipelines.environment import worker_name

Key = tuple[str, str]
_MOST_BYTES = 8 * 1024 * 1024
_CALM_SECONDS = 0.1
_LEFT_OUT = "kubectl.kubernetes.io/last-applied-configuration"


@dataclass(frozen=True)
class _Copy:
    """One object for one node."""

    version: str
    document: Document = field(repr=False)


@dataclass(frozen=True)
class _Spread:
    """One job over its nodes, and what that was made of: kept until that changes."""

    mark: Any
    job: FederatedLearningJob | None
    workers: Mapping[str, Mapping[str, str]] | None
    nodes: Mapping[str, tuple[Mapping[str, str], _Copy]]


@dataclass(frozen=True)
class _Picture:
    """What all nodes should hold at one moment, and the clients of each job on each node by worker."""

    copies: Mapping[str, Mapping[str, _Copy]] = field(default_factory=dict)
    workers: Mapping[tuple[str, Key], Mapping[str, str]] = field(default_factory=dict)


class Wanted:
    """See the module; safe to use from any thread."""

    def __init__(self, jobs: Cache, datasets: Cache, nodes: Cache) -> None:
        self._jobs, self._datasets, self._nodes = jobs, datasets, nodes
        self._condition = threading.Condition()
        self._building = threading.Lock()
        self._marks: dict[tuple[str, str, str], Any] = {}
        self._number = 1
        self._picture: tuple[int, _Picture] = (0, _Picture())
        self._placed: dict[Key, _Spread] = {}
        for cache in (jobs, datasets, nodes):
            cache.on_change(partial(self._changed, cache))

    def workers_of(self, node: str, job: Key) -> Mapping[str, str]:
        """The workers of a job that may run on a node: their clients' names by theirs."""
        return self._now().workers.get((node, job), {})

    def wait_for_difference(
        self, node: str, held: Mapping[str, Any], seconds: float
    ) -> list[dict[str, Any]]:
        """Give what to do to hold what is wanted, as soon as there is something; [] after so long."""
        until = time.monotonic() + seconds
        while True:
            with self._condition:
                number = self._number
            found = _difference(self._now().copies.get(node, {}), held)
            left = until - time.monotonic()
            if found or left <= 0:
                return found
            with self._condition:
                self._condition.wait_for(partial(self._has_moved, number), left)
            time.sleep(min(_CALM_SECONDS, max(0.0, left)))  # changes come in flocks

    def _has_moved(self, number: int) -> bool:
        return self._number != number

    def _changed(self, cache: Cache, document: Document) -> None:
        """An event: nothing is done on its thread but to look whether it is of any interest."""
        meta = document["metadata"]
        place = (meta.get("namespace", ""), meta["name"])
        key = (cache.resource.plural, *place)
        known = cache.get(*place)
        mark = None if known is None else _mark(known)
        with self._condition:
            if self._marks.get(key) == mark:
                return
            if mark is None:
                self._marks.pop(key, None)
            else:
                self._marks[key] = mark
            self._number += 1
            self._condition.notify_all()

    def _now(self) -> _Picture:
        with self._building:
            with self._condition:
                number = self._number
            if self._picture[0] != number:
                self._picture = (number, self._drawn())
            return self._picture[1]

    def _drawn(self) -> _Picture:
        copies: dict[str, dict[str, _Copy]] = {}
        workers: dict[tuple[str, Key], Mapping[str, str]] = {}
        datasets: dict[Key, Dataset] = {}
        for document in self._datasets.all():
            dataset = _read_dataset(document)
            if dataset is None:
                continue
            place = _place(document)
            datasets[place] = dataset
            copy = _copy_of(document, {})
            copies.setdefault(dataset.spec.node_name, {})[_name(DATASETS, place)] = copy
        nodes, jobs = self._nodes.all(), self._jobs.all()
        placed, self._placed = self._placed, {}
        for document in jobs:
            place = _place(document)
            self._placed[place] = self._spread(placed.get(place), document, datasets, nodes)
            for node, (names, copy) in self._placed[place].nodes.items():
                workers[node, place] = names
                copies.setdefault(node, {})[_name(JOBS, place)] = copy
        return _Picture(copies, workers)

    def _spread(
        self,
        known: _Spread | None,
        document: Document,
        datasets: Mapping[Key, Dataset],
        nodes: Sequence[Document],
    ) -> _Spread:
        """Make a job's copies, or take those of the last picture where nothing about it changed."""
        mark, (namespace, _) = _mark(document), _place(document)
        is_same = known is not None and known.mark == mark
        job = known.job if known is not None and is_same else _read_job(document)
        if job is None:
            return _Spread(mark, None, None, {})
        named = {client.dataset for client in clients_of(job)}
        own = {name: datasets[namespace, name] for name in named if (namespace, name) in datasets}
        found: dict[str, dict[str, str]] = {}
        for client, placement in placements_of(job, own).items():
            names: Iterable[str] = (placement.node_name or "",)
            if placement.node_name is None:
                names = (node["metadata"]["name"] for node in matching(placement, nodes))
            for name in names:
                found.setdefault(name, {})[worker_name(client)] = client
        if known is not None and is_same and known.workers == found:
            return known
        spread = {
            node: (names, _copy_of(document, {WORKERS_ANNOTATION: json.dumps(sorted(names))}))
            for node, names in found.items()
        }
        return _Spread(mark, job, found, spread)


def _difference(wanted: Mapping[str, _Copy], held: Mapping[str, Any]) -> list[dict[str, Any]]:
    found, size = [], 0
    for key in held:
        parts = key.split("/")
        if key not in wanted and len(parts) == 3:
            found.append(_operation("delete", parts, {}))
    for key, copy in wanted.items():
        if held.get(key) == copy.version:
            continue
        size += len(json.dumps(copy.document))
        if found and size > _MOST_BYTES:
            break  # the rest comes with the next answer
        kind = "update" if key in held else "insert"
        more = {"version": copy.version, "object": copy.document}
        found.append(_operation(kind, key.split("/"), more))
    return found


def _operation(kind: str, parts: list[str], more: Mapping[str, Any]) -> dict[str, Any]:
    resource, namespace, name = parts
    place = {"namespace": namespace, "resource": resource, "name": name}
    return {"operation": kind, **place, **more}


def _copy_of(document: Document, annotations: Mapping[str, str]) -> _Copy:
    meta = document["metadata"]
    given = {k: v for k, v in (meta.get("annotations") or {}).items() if k != _LEFT_OUT}
    kept = {key: meta[key] for key in ("name", "namespace", "uid", "labels") if key in meta}
    made = {
        "apiVersion": document["apiVersion"],
        "kind": document["kind"],
        "metadata": {
            **kept,
            "generation": meta.get("generation", 0),
            "annotations": {**given, **annotations},
        },
        "spec": document["spec"],
    }
    return _Copy(version_of(made), made)


def _mark(document: Document) -> Any:
    """What of an object concerns anybody here: its status does not."""
    meta = document["metadata"]
    names = ("uid", "generation", "labels", "annotations", "deletionTimestamp")
    spec = document.get("spec") if "generation" not in meta else None
    return [spec, *(meta.get(name) for name in names)]


def _read_job(document: Document) -> FederatedLearningJob | None:
    """The job as it is read; None where it cannot be, or is being deleted: then it is nowhere."""
    if document["metadata"].get("deletionTimestamp"):
        return None
    try:
        return read_job(document)
    except InvalidJobError:
        return None


def _read_dataset(document: Document) -> Dataset | None:
    try:
        found = read_object(document)
    except InvalidJobError:
        return None
    return found if isinstance(found, Dataset) else None


def _place(document: Document) -> Key:
    return document["metadata"]["namespace"], document["metadata"]["name"]


def _name(resource: str, place: Key) -> str:
    return "/".join((resource, *place))
