"""What the cluster holds of one kind, kept up to date by a watch.

List, then watch from there; a bookmark moves the place where the next watch begins, 410 means listing
again. A watch that neither says anything nor ends in time is dead and begun anew. Every few minutes all
keys are handed out again, whatever happened: nothing then depends on an event that was missed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from controller.cluster.answers import ExpiredError
from controller.cluster.kubernetes import Cluster, Document
from controller.cluster.resources import Resource
from fedloom.errors import TransientError

Key = tuple[str, str]
OnChange = Callable[[Document], None]

_WATCH_SECONDS = 60.0
_RESYNC_SECONDS = 300.0
_LONGEST_PAUSE_SECONDS = 15.0


class Cache:
    """The objects of one kind, by (namespace, name).

    Args:
        cluster: the door.
        resource: the kind.
        namespaces: which to look at; none for all of them.
        selector: a label selector.
        keep: makes of an object what is kept of it; memory is the sum over all objects.
        index: a label by whose value objects can be asked for.

    What it gives must not be changed by anybody.
    """

    def __init__(
        self,
        cluster: Cluster,
        resource: Resource,
        namespaces: Iterable[str] = (),
        selector: str = "",
        keep: Callable[[Document], Document] = lambda document: document,
        index: str = "",
    ) -> None:
        self.resource = resource
        self.restarts = 0
        self._cluster = cluster
        self._parts = tuple(namespaces) if resource.is_namespaced else ()
        self._selector = selector
        self._keep = keep
        self._index = index
        self._indexed: dict[str, set[Key]] = {}
        self._objects: dict[Key, Document] = {}
        self._listeners: list[OnChange] = []
        self._lock = threading.Lock()
        self._synced: set[str | None] = set()
        self._stopping = threading.Event()
        self.last_error = ""

    def on_change(self, listener: OnChange) -> None:
        """Have this called with every object that came, changed, went or is due to be looked at."""
        self._listeners.append(listener)

    def start(self) -> None:
        """Begin to watch, on threads that end with the process."""
        for part in self._parts or (None,):
            name = f"watch-{self.resource.plural}"
            threading.Thread(target=self._follow, args=(part,), name=name, daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()

    @property
    def is_synced(self) -> bool:
        """Whether everything has been listed once."""
        return len(self._synced) >= max(1, len(self._parts))

    def get(self, namespace: str, name: str) -> Document | None:
        with self._lock:
            return self._objects.get((namespace, name))

    def all(self) -> list[Document]:
        with self._lock:
            return list(self._objects.values())

    def labelled(self, value: str) -> list[Document]:
        """Give the objects whose label `index` has this value."""
        with self._lock:
            return [self._objects[key] for key in self._indexed.get(value, ())]

    def refresh(self, namespace: str | None = None) -> str:
        """List everything anew; give the version to watch from."""
        items, version = self._cluster.list(self.resource, namespace, self._selector)
        fresh = {_key(item): self._kept(item) for item in items}
        with self._lock:
            gone = [
                key
                for key in self._objects
                if key not in fresh and (namespace is None or key[0] == namespace)
            ]
            lost = [self._remove(key) for key in gone]
            for key, kept in fresh.items():
                self._put(key, kept)
        self._synced.add(namespace)
        for each in (*lost, *fresh.values()):
            if each is not None:
                self._tell(each)
        return version

    def take(self, kind: str, document: Document) -> None:
        """Take in one event of a watch."""
        key = _key(document)
        if kind == "DELETED":
            with self._lock:
                self._remove(key)
            self._tell(self._kept(document))
        elif kind in ("ADDED", "MODIFIED"):
            kept = self._kept(document)
            with self._lock:
                known = self._objects.get(key)
                if known is not None and _is_newer(known, kept):
                    return
                self._put(key, kept)
            if known is None or _content(known) != _content(kept):
                self._tell(kept)

    def _put(self, key: Key, document: Document) -> None:
        self._remove(key)
        self._objects[key] = document
        if self._index:
            self._indexed.setdefault(self._value(document), set()).add(key)

    def _remove(self, key: Key) -> Document | None:
        document = self._objects.pop(key, None)
        if document is not None and self._index:
            value = self._value(document)
            self._indexed[value].discard(key)
            if not self._indexed[value]:
                del self._indexed[value]
        return document

    def _value(self, document: Document) -> str:
        return str((document["metadata"].get("labels") or {}).get(self._index, ""))

    def _follow(self, namespace: str | None) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            try:
                version = self.refresh(namespace)
                self.last_error, pause = "", 0.0
                self._watch(namespace, version, time.monotonic() + _RESYNC_SECONDS)
            except ExpiredError:
                pause = 0.0
            except TransientError as error:
                self.last_error = str(error)
                pause = min(_LONGEST_PAUSE_SECONDS, max(0.5, 2 * pause))
            self.restarts += 1

    def _watch(self, namespace: str | None, version: str, until: float) -> None:
        """Watch from `version` on until it is time to list again; watches end by themselves."""
        while not self._stopping.is_set() and time.monotonic() < until:
            for kind, document in self._cluster.watch(
                self.resource, namespace, self._selector, version, _WATCH_SECONDS
            ):
                version = _version(document)
                if kind != "BOOKMARK":
                    self.take(kind, document)

    def _kept(self, document: Document) -> Document:
        document["metadata"].pop("managedFields", None)
        return self._keep(document)

    def _tell(self, document: Document) -> None:
        for listener in self._listeners:
            listener(document)


def _key(document: Document) -> Key:
    meta = document["metadata"]
    return meta.get("namespace", ""), meta["name"]


def _version(document: Document) -> str:
    version: Any = document["metadata"].get("resourceVersion", "")
    return str(version)


def _is_newer(known: Document, other: Document) -> bool:
    """Whether what is known is at least as new: an answer to a write may be ahead of the watch."""
    try:
        return int(_version(known)) >= int(_version(other))
    except ValueError:
        return False


def _content(document: Document) -> Document:
    meta = {k: v for k, v in document["metadata"].items() if k != "resourceVersion"}
    return {**document, "metadata": meta}
