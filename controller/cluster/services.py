"""The Service that leads to a round's server, for clients that look for one; it lives as long as its job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controller.cluster.answers import ConflictError
from controller.cluster.kubernetes import Cluster
from controller.cluster.resources import LABEL_UID, SERVICES
from fedloom.errors import JobError, TransientError

_PAUSE_SECONDS = 5.0


def make_service(cluster: Cluster, service: Mapping[str, Any]) -> None:
    """Make the Service; that of an earlier attempt does, too.

    Raises TransientError where one of an earlier job of this name still goes, JobError("ServiceTaken")
    where somebody else has one.
    """
    meta = service["metadata"]
    try:
        cluster.create(SERVICES, service)
        return
    except ConflictError:
        found = cluster.get(SERVICES, meta["namespace"], meta["name"])
    labels = ((found or {}).get("metadata") or {}).get("labels") or {}
    if labels.get(LABEL_UID) == meta["labels"][LABEL_UID]:
        return
    if found is None or LABEL_UID in labels:
        message = f"Service {meta['name']}: that of a deleted job of this name has not gone yet"
        raise TransientError(message, _PAUSE_SECONDS)
    raise JobError(
        "ServiceTaken",
        f"Service {meta['name']}: got one that is no job's, expected none of that name: clients that "
        "speak Sedna's protocol look for their aggregator there. Rename it, or the job",
    )
