"""Where the controller looks things up: caches where there is a watch, the API itself for Secrets."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from controller.cluster.cache import Cache
from controller.cluster.kubernetes import Cluster
from controller.cluster.nodes import Node
from controller.cluster.resources import SECRETS, Resource

_SECRET_SECONDS = 10.0


class CachedObjects:
    """The objects that jobs refer to.

    Secrets are read by name, one at a time, and forgotten soon: the controller need not be allowed to
    list them, and those that it was not told of never enter its memory.
    """

    def __init__(self, cluster: Cluster, caches: Sequence[Cache], nodes: Cache | None) -> None:
        self._cluster = cluster
        self._caches = {cache.resource: cache for cache in caches}
        self._nodes = nodes
        self._lock = threading.Lock()
        self._secrets: dict[tuple[str, str], tuple[float, Mapping[str, Any] | None]] = {}

    def get(self, resource: Resource, namespace: str, name: str) -> Mapping[str, Any] | None:
        if resource == SECRETS:
            return self._secret(namespace, name)
        return self._caches[resource].get(namespace, name)

    def nodes(self) -> Sequence[Node] | None:
        return None if self._nodes is None else self._nodes.all()

    def _secret(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        now = time.monotonic()
        with self._lock:
            for key in [key for key, (until, _) in self._secrets.items() if until < now]:
                del self._secrets[key]
            found = self._secrets.get((namespace, name))
        if found is not None:
            return found[1]
        secret = self._cluster.get(SECRETS, namespace, name)
        if secret is not None:
            with self._lock:
                self._secrets[namespace, name] = (now + _SECRET_SECONDS, secret)
        return secret
