"""What is written down of a run of Kubeflow Pipelines: a ConfigMap where its pods run. Pure.

Runs have no labels and no names of their own choice, and no way to ask for one twice and get one. So what
is asked for is written down first, and what came of it after: whoever goes on finds both. The Secrets of
the run belong to its record and vanish with it; the job cannot own them, it is in another namespace.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from controller.cluster.resources import LABEL_ATTEMPT, LABEL_NAME, LABEL_ROUND, LABEL_UID
from pipelines.engines.argo_names import job_labels, workflow_of
from pipelines.plan import Plan

Document = dict[str, Any]

LABEL_KEY = "fedloom.io/job"
"""Label of a record: a digest of its job's namespace and name, whichever uid that has."""
_MANAGED = {"app.kubernetes.io/managed-by": "fedloom"}


@dataclass(frozen=True)
class Record:
    """One attempt of one round, as a run.

    Attributes:
        name, namespace, uid: of the ConfigMap.
        job: (namespace, name) of its job; `job_uid` its uid.
        title: the run's name in the UI.
        run: its id; empty before that is known.
        asked: when it was asked for last, in unix seconds; 0.0 where it was not.
        state, reason, message: how it ended; empty before.
        secrets: names of what its pods read.
        clients: task -> client whose it is.
    """

    name: str
    namespace: str
    uid: str
    job: tuple[str, str]
    job_uid: str
    round: int
    attempt: int
    title: str = ""
    run: str = ""
    asked: float = 0.0
    state: str = ""
    reason: str = ""
    message: str = ""
    secrets: tuple[str, ...] = ()
    clients: Mapping[str, str] = field(default_factory=dict)

    @property
    def number(self) -> tuple[int, int]:
        return self.round, self.attempt

    @property
    def is_open(self) -> bool:
        """Whether its end has not been seen."""
        return not self.state

    def owner(self) -> Document:
        """Give the metadata of what belongs to it."""
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": self.name, "uid": self.uid}
        return {"ownerReferences": [reference]}


def key_of(namespace: str, name: str) -> str:
    """Give the value of `LABEL_KEY` of a job's records."""
    return hashlib.sha256(f"{namespace}/{name}".encode()).hexdigest()[:32]


def record_of(plan: Plan, namespace: str, title: str, clients: Mapping[str, str]) -> Document:
    """Give the record of a run that is to be asked for; it has the name of the plan's workflow."""
    job, name = plan.job, workflow_of(plan)
    labels = job_labels(plan) | _MANAGED | {LABEL_KEY: key_of(job["namespace"], job["name"])}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "data": {
            "namespace": job["namespace"],
            "job": job["name"],
            "uid": job["uid"],
            "title": title,
            "clients": json.dumps(clients),
        },
    }


def read_record(document: Mapping[str, Any]) -> Record | None:
    """Read a record; None where it is none, or was changed into something that is none."""
    meta, data = document["metadata"], document.get("data") or {}
    labels = meta.get("labels") or {}
    try:
        return Record(
            name=meta["name"],
            namespace=meta["namespace"],
            uid=meta["uid"],
            job=(data["namespace"], data["job"]),
            job_uid=data["uid"],
            round=int(labels[LABEL_ROUND]),
            attempt=int(labels[LABEL_ATTEMPT]),
            title=data.get("title", ""),
            run=data.get("run", ""),
            asked=float(data.get("asked") or 0.0),
            state=data.get("state", ""),
            reason=data.get("reason", ""),
            message=data.get("message", ""),
            secrets=tuple(data.get("secrets", "").split()),
            clients=dict(json.loads(data.get("clients") or "{}")),
        )
    except (KeyError, TypeError, ValueError):
        return None


def read_records(documents: Iterable[Mapping[str, Any]], uid: str | None = None) -> list[Record]:
    """Read the records of a job, newest first; of all uids where none is given."""
    found = [each for each in map(read_record, documents) if each is not None]
    mine = [each for each in found if uid in (None, each.job_uid)]
    return sorted(mine, key=lambda each: each.number, reverse=True)


def changed(record: Record, **values: Any) -> tuple[Record, Document]:
    """Give a record with other values, and the patch that writes them."""
    return replace(record, **values), {"data": {name: _text(v) for name, v in values.items()}}


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return " ".join(value) if isinstance(value, tuple) else str(value)


def kept_of_record(document: Mapping[str, Any]) -> Document:
    """What the controller remembers of a record."""
    meta = document["metadata"]
    names = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    labels = meta.get("labels") or {}
    wanted = (LABEL_KEY, LABEL_NAME, LABEL_UID, LABEL_ROUND, LABEL_ATTEMPT)
    return {
        "metadata": {key: meta[key] for key in names if key in meta}
        | {"labels": {key: labels[key] for key in wanted if key in labels}},
        "data": document.get("data") or {},
    }
