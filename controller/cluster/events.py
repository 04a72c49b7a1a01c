"""Kubernetes Events about a job: what `kubectl describe` shows. Losing one loses nothing."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from controller.cluster.answers import ConflictError
from controller.cluster.kubernetes import Cluster
from controller.cluster.resources import EVENTS, JOBS
from fedloom.errors import FedloomError

NORMAL, WARNING = "Normal", "Warning"

_REMEMBERED = 4096
_LONGEST_NOTE = 1000


class Recorder:
    """Writes Events; each only once, also after a restart: its name is made of what it says."""

    def __init__(self, cluster: Cluster, identity: str) -> None:
        self._cluster = cluster
        self._identity = identity
        self._told: OrderedDict[str, None] = OrderedDict()

    def tell(self, job: Mapping[str, Any], kind: str, reason: str, note: str) -> None:
        """Say something about the job (its document): `kind` is Normal or Warning."""
        meta = job["metadata"]
        digest = hashlib.sha256(f"{meta['uid']} {reason} {note}".encode()).hexdigest()[:16]
        name = f"{meta['name'][:200]}.{digest}"
        if name in self._told:
            return
        self._told[name] = None
        if len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        try:
            self._cluster.create(EVENTS, self._document(meta, name, (kind, reason, note)))
        except ConflictError:
            return
        except FedloomError:
            self._told.pop(name, None)  # said another time, if it is still so

    def _document(
        self, meta: Mapping[str, Any], name: str, said: tuple[str, str, str]
    ) -> dict[str, Any]:
        kind, reason, note = said
        now = datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": name, "namespace": meta["namespace"]},
            "involvedObject": {
                "apiVersion": JOBS.api_version,
                "kind": JOBS.kind,
                "name": meta["name"],
                "namespace": meta["namespace"],
                "uid": meta["uid"],
            },
            "type": kind,
            "reason": reason,
            "message": note[:_LONGEST_NOTE],
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "source": {"component": "fedloom-controller"},
            "reportingComponent": "fedloom.io/controller",
            "reportingInstance": self._identity,
        }
