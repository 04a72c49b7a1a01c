"""One controller acts, others stand by: a Lease, renewed by whoever holds it.

A holder that cannot renew stops acting before anybody else may begin: it gives up `_RENEW_SECONDS` after
its last renewal, by its own clock; others take over `_LEASE_SECONDS` after the last change that they saw,
by theirs. Clocks need not agree, only run at about the same pace.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from controller.cluster.answers import ConflictError
from controller.cluster.kubernetes import Cluster, Document
from controller.cluster.resources import LEASES
from fedloom.errors import TransientError

_LEASE_SECONDS = 15.0
_RENEW_SECONDS = 10.0
_LOOK_SECONDS = 2.0


class Leader:
    """Holds, or waits for, the Lease `name`; `identity` must be this process's own."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        name: str,
        identity: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._clock = clock
        self._renewed: float | None = None
        self._seen: tuple[str, float] | None = None  # a version of the Lease, and since when
        self._stopping = threading.Event()

    @property
    def is_leader(self) -> bool:
        """Whether this process may act now."""
        return self._renewed is not None and self._clock() - self._renewed < _RENEW_SECONDS

    def wait(self) -> bool:
        """Return True when this process may act, False when `stop` was called."""
        while not self._stopping.is_set():
            if self.is_leader:
                return True
            self._stopping.wait(0.1)
        return False

    def start(self) -> None:
        """Begin to try, on a thread that ends with the process."""
        threading.Thread(target=self._loop, name="leader", daemon=True).start()

    def stop(self) -> None:
        """Give the Lease up, so that another can take over at once."""
        self._stopping.set()
        if not self.is_leader:
            return
        self._renewed = None
        try:
            lease = self._cluster.get(LEASES, self._namespace, self._name)
            if lease is not None and lease["spec"].get("holderIdentity") == self._identity:
                lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                self._cluster.replace(LEASES, lease)
        except TransientError:
            return  # it runs out by itself

    def look(self) -> None:
        """Take, renew or wait for the Lease; once."""
        began = self._clock()
        lease = self._cluster.get(LEASES, self._namespace, self._name)
        if lease is None:
            self._cluster.create(LEASES, self._document({}))
            self._renewed = began
            return
        version = lease["metadata"]["resourceVersion"]
        if self._seen is None or self._seen[0] != version:
            self._seen = (version, began)
        holder = lease["spec"].get("holderIdentity")
        if holder not in ("", None, self._identity) and began - self._seen[1] < _LEASE_SECONDS:
            self._renewed = None
            return
        self._cluster.replace(LEASES, self._document(lease))
        self._renewed = began

    def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look()
            except ConflictError:
                pass  # another was faster; seen at the next look
            except TransientError:
                pass  # `is_leader` ends by itself
            self._stopping.wait(_LOOK_SECONDS)

    def _document(self, lease: Document) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        spec = dict(lease.get("spec") or {})
        if spec.get("holderIdentity") != self._identity:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + bool(lease)
        spec |= {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(_LEASE_SECONDS),
            "renewTime": now,
        }
        meta = lease.get("metadata") or {"namespace": self._namespace, "name": self._name}
        return {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": meta,
            "spec": spec,
        }
