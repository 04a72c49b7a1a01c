"""An API server in memory, with the semantics that the controller relies on and no others.

Kept: resourceVersion grows with every write and a stale one is refused (409); creating twice is refused;
`status` and the rest are written separately where the kind has a status subresource; generation counts
changes of spec; deletion takes what is owned along; a watch starts at a version, gives bookmarks, and
answers 410 for a version that was forgotten.
"""

from __future__ import annotations

import copy
import itertools
import threading
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from controller.cluster.answers import ApiUnavailableError, ConflictError, ExpiredError
from controller.cluster.resources import DATASETS, JOBS, MODELS, Resource

Document = dict[str, Any]
_WITH_STATUS = (JOBS, DATASETS, MODELS)


class FakeCluster:
    """See the module. `is_down` makes every call fail; `calls` counts them by verb and plural."""

    def __init__(self) -> None:
        self.is_down = False
        self.calls: dict[tuple[str, str], int] = {}
        self._objects: dict[tuple[Resource, str, str], Document] = {}
        self._log: list[tuple[int, Resource, str, Document]] = []
        self._forgotten = 0
        self._versions = itertools.count(1)
        self._version = 0
        self._condition = threading.Condition(threading.RLock())

    # What the controller calls.

    def get(self, resource: Resource, namespace: str | None, name: str) -> Document | None:
        self._called("get", resource)
        return copy.deepcopy(self._objects.get((resource, namespace or "", name)))

    def list(
        self, resource: Resource, namespace: str | None, selector: str = ""
    ) -> tuple[list[Document], str]:
        self._called("list", resource)
        with self._condition:
            found = [
                copy.deepcopy(document)
                for (kind, where, _), document in self._objects.items()
                if kind == resource
                and namespace in (None, where)
                and _is_selected(document, selector)
            ]
            return found, str(self._version)

    def create(self, resource: Resource, document: Mapping[str, Any]) -> Document:
        self._called("create", resource)
        with self._condition:
            made = copy.deepcopy(dict(document))
            meta = made["metadata"]
            key = (resource, meta.get("namespace", ""), meta["name"])
            if key in self._objects:
                raise ConflictError(f"{resource.plural} {meta['name']} exists")
            if resource in _WITH_STATUS:
                made.pop("status", None)
            made |= {"apiVersion": resource.api_version, "kind": resource.kind}
            meta.setdefault("uid", str(uuid.uuid4()))
            meta["generation"] = 1
            meta.setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
            return self._write(key, made, "ADDED")

    def patch(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        change: Mapping[str, Any],
        subresource: str | None = None,
    ) -> Document | None:
        self._called("patch", resource)
        with self._condition:
            known = self._objects.get((resource, namespace or "", name))
            if known is None:
                return None
            return self._store(resource, known, _merged(known, change), subresource)

    def replace(
        self, resource: Resource, document: Mapping[str, Any], subresource: str | None = None
    ) -> Document | None:
        self._called("replace", resource)
        with self._condition:
            meta = document["metadata"]
            known = self._objects.get((resource, meta.get("namespace", ""), meta["name"]))
            if known is None:
                return None
            return self._store(resource, known, copy.deepcopy(dict(document)), subresource)

    def delete(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        grace_seconds: int | None = None,
    ) -> bool:
        del grace_seconds
        self._called("delete", resource)
        with self._condition:
            gone = self._objects.pop((resource, namespace or "", name), None)
            if gone is None:
                return False
            self._record(resource, "DELETED", gone)
            uid = gone["metadata"]["uid"]
            for (kind, where, each), document in list(self._objects.items()):
                owners = document["metadata"].get("ownerReferences") or ()
                if any(owner["uid"] == uid for owner in owners):
                    self.delete(kind, where, each)
            return True

    def watch(
        self, resource: Resource, namespace: str | None, selector: str, since: str, seconds: float
    ) -> Iterator[tuple[str, Document]]:
        self._called("watch", resource)
        if int(since) < self._forgotten:
            raise ExpiredError("too old a version")
        place, until = int(since), seconds
        while until > 0:
            with self._condition:
                news = [entry for entry in self._log if entry[0] > place]
                if not news:
                    self._condition.wait(0.05)
                    until -= 0.05
            if self.is_down:
                raise ApiUnavailableError("down")
            for version, kind, verb, document in news:
                place = version
                where = document["metadata"].get("namespace")
                is_meant = kind == resource and namespace in (None, where)
                if is_meant and _is_selected(document, selector):
                    yield verb, copy.deepcopy(document)
        yield "BOOKMARK", {"metadata": {"name": "", "resourceVersion": str(place)}}

    # What a test does to it.

    def all(self, resource: Resource) -> list[Document]:
        with self._condition:
            return [
                copy.deepcopy(d) for (kind, _, _), d in self._objects.items() if kind == resource
            ]

    def forget(self) -> None:
        """Compact: watches from before now are answered 410."""
        with self._condition:
            self._forgotten = self._version
            self._log.clear()

    def set_status(self, resource: Resource, namespace: str, name: str, status: Document) -> None:
        """Write a status as the kind's own controller would."""
        with self._condition:
            known = self._objects[resource, namespace, name]
            self._write((resource, namespace, name), {**known, "status": status}, "MODIFIED")

    def _called(self, verb: str, resource: Resource) -> None:
        if self.is_down:
            raise ApiUnavailableError("down")
        key = (verb, resource.plural)
        self.calls[key] = self.calls.get(key, 0) + 1

    def _store(
        self, resource: Resource, known: Document, wanted: Document, subresource: str | None
    ) -> Document:
        meta = known["metadata"]
        asked = wanted["metadata"].get("resourceVersion", meta["resourceVersion"])
        if asked != meta["resourceVersion"]:
            raise ConflictError(f"{resource.plural} {meta['name']} has changed")
        if subresource == "status":
            made = {**known, "status": wanted.get("status")}
        else:
            made = copy.deepcopy(wanted)
            if resource in _WITH_STATUS and "status" in known:
                made["status"] = known["status"]
            made["metadata"] = {**meta, **wanted["metadata"]}
            if wanted.get("spec") != known.get("spec"):
                made["metadata"]["generation"] = meta["generation"] + 1
        if made == known:
            return copy.deepcopy(known)
        key = (resource, meta.get("namespace", ""), meta["name"])
        return self._write(key, made, "MODIFIED")

    def _write(self, key: tuple[Resource, str, str], document: Document, verb: str) -> Document:
        version = next(self._versions)
        document = copy.deepcopy(document)
        document["metadata"]["resourceVersion"] = str(version)
        self._objects[key] = document
        self._version = version
        self._log.append((version, key[0], verb, copy.deepcopy(document)))
        self._condition.notify_all()
        return copy.deepcopy(document)

    def _record(self, resource: Resource, verb: str, document: Document) -> None:
        self._version = next(self._versions)
        gone = copy.deepcopy(document)
        gone["metadata"]["resourceVersion"] = str(self._version)
        self._log.append((self._version, resource, verb, gone))
        self._condition.notify_all()


def _merged(known: Any, change: Any) -> Any:
    """RFC 7386."""
    if not isinstance(change, Mapping):
        return copy.deepcopy(change)
    merged = dict(known) if isinstance(known, Mapping) else {}
    for key, value in change.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value)
    return merged


def _is_selected(document: Document, selector: str) -> bool:
    labels = document["metadata"].get("labels") or {}
    for part in filter(None, selector.split(",")):
        name, mark, value = part.partition("=")
        if name not in labels or (mark and labels[name] != value):
            return False
    return True
