"""The state folder of an embedded run: whose it is, who holds it, and where things lie in it."""

from __future__ import annotations

import fcntl
import json
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fedloom.api.declaration import camel_case
from fedloom.api.job import FederatedLearningJob
from fedloom.api.transfer import ALLOWED_ANNOTATION
from fedloom.artifacts import layout
from fedloom.errors import StateError

# What a run may change from one start to the next; all else would change the meaning of past rounds.
_FIXED = (
    (
        "spec.trainingWorkers[].dataset.name",
        lambda spec: [w["dataset"]["name"] for w in spec["training_workers"]],
    ),
    ("spec.pretrainedModel", lambda spec: spec["pretrained_model"]),
    ("spec.algorithm", lambda spec: spec["algorithm"]),
    # What was spent is known by the number of rounds, so all of them are noised alike. It stands before the
    # aggregation, whose weights follow from it.
    ("spec.privacy", lambda spec: _noise_of(spec.get("privacy"))),
    ("spec.aggregation", lambda spec: _rule_of(spec.get("aggregation"))),
    ("spec.transfer", lambda spec: spec.get("transfer")),
    ("spec.hyperparameters", lambda spec: spec["hyperparameters"]),
    ("spec.compression", lambda spec: spec["compression"]),
    ("spec.participation.seed", lambda spec: spec["participation"]["seed"]),
    ("spec.participation.clientsPerRound", lambda spec: spec["participation"]["clients_per_round"]),
    ("spec.participation.sampling", lambda spec: spec["participation"].get("sampling", "fixed")),
)


_AS_WRITTEN = ("spec.hyperparameters", "spec.algorithm.parameters")
"""What has names of the author's."""


class StateFolder:
    """An opened state folder; a context manager that holds its lock.

    Attributes:
        root: the folder, absolute.
        job: the job with the uid that this folder gave it.
    """

    def __init__(self, root: Path, job: FederatedLearningJob) -> None:
        """Take the folder for this job, making it where there is none.

        Raises StateError: another process holds it, it is another job's, it was made with settings
        that cannot change, or it cannot be written.
        """
        self.root = root.absolute()
        self._lock = -1
        record = self._read_record()
        _check_owner(self.root, record, job)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self.root / "lock")
            record = self._read_record() or self._write_record(job)
        except OSError as error:
            self.close()
            raise StateError(
                "StateUnwritable", f"{self.root}: {error.strerror}; give another --state folder"
            ) from error
        self.job = replace(job, metadata=replace(job.metadata, uid=record["uid"]))

    def __enter__(self) -> StateFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)  # and with it goes the lock
            self._lock = -1

    @property
    def artifacts(self) -> Path:
        """The local store, where the job names no S3."""
        meta = self.job.metadata
        return self.root / "artifacts" / layout.job_prefix(meta.namespace, meta.name, meta.uid)

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def edge(self) -> Path:
        return self.root / "edge"

    @property
    def node(self) -> Path:
        """What outlives the job on the nodes that this machine stands for: beside the default folders
        of the namespace's jobs, so that one who is run anew finds it; else in the folder itself.

        No job is called `_nodes`: names of objects have no underscore.
        """
        meta = self.job.metadata
        is_default = self.root.parts[-3:] == (".fedloom", meta.namespace, meta.name)
        return self.root.parent / "_nodes" if is_default else self.root / "nodes"

    @property
    def downloads(self) -> Path:
        """Datasets and models that lie elsewhere."""
        return self.root / "downloads"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def tracking(self) -> Path:
        return self.root / "tracking.json"

    @property
    def tracking_uri(self) -> str:
        return f"sqlite:///{self.root / 'mlflow.db'}"

    @property
    def tracking_artifacts(self) -> str:
        return (self.root / "mlflow-artifacts").as_uri()

    def _read_record(self) -> dict[str, Any] | None:
        return read_record(self.root)

    def _write_record(self, job: FederatedLearningJob) -> dict[str, Any]:
        meta = job.metadata
        record = {
            "namespace": meta.namespace,
            "name": meta.name,
            "uid": str(uuid.uuid4()),
            "created": time.time(),
            "spec": _plain(job),
        }
        if ALLOWED_ANNOTATION in meta.annotations:
            record["transfer_to"] = meta.annotations[ALLOWED_ANNOTATION]
        temporary = self.root / ".job.json.part"
        temporary.write_text(json.dumps(record, indent=1, sort_keys=True))
        temporary.replace(self.root / "job.json")
        return record


def default_state(job: FederatedLearningJob) -> Path:
    """`.fedloom/<namespace>/<job>` under the current folder."""
    return Path(".fedloom") / job.metadata.namespace / job.metadata.name


def read_record(root: Path) -> dict[str, Any] | None:
    """Read whose a state folder is; None where it is no state folder yet.

    Raises StateError where its job.json cannot be read or is damaged.
    """
    path = root / "job.json"
    try:
        record = json.loads(path.read_bytes())
        if (
            not isinstance(record, dict)
            or not {"namespace", "name", "uid", "spec"} <= record.keys()
        ):
            raise ValueError("it lacks fields")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise StateError(
            "StateDamaged", f"{path}: got {error}, expected the record of a job"
        ) from error
    return record


def _check_owner(root: Path, record: Mapping[str, Any] | None, job: FederatedLearningJob) -> None:
    if record is None:
        if root.is_dir() and any(root.iterdir()) and not (root / "lock").exists():
            raise StateError(
                "StateForeign",
                f"{root} holds files but no job.json; give an empty or a new --state folder",
            )
        return
    mine = (job.metadata.namespace, job.metadata.name)
    theirs = (record["namespace"], record["name"])
    if mine != theirs:
        raise StateError(
            "StateOfAnotherJob",
            f"{root} belongs to job {theirs[0]}/{theirs[1]}, got {mine[0]}/{mine[1]}; "
            "give another --state folder",
        )
    now = _plain(job)
    for field, get in _FIXED:
        before, after = get(record["spec"]), get(now)
        if before != after:
            where, before, after = _first_difference(field, before, after)
            raise StateError(
                "StateSpecChanged",
                f"got {_short(after)}, but the rounds in {root} were made with {_short(before)}; "
                "change it back or give another --state folder",
                where,
            )


def _rule_of(aggregation: Mapping[str, Any] | None) -> dict[str, Any]:
    """Give what decides on the model: trees and shards give the bits of the flat result."""
    return {k: v for k, v in (aggregation or {}).items() if k not in ("fan_in", "shards")}


def _noise_of(privacy: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if privacy is None:
        return None
    return {name: value for name, value in privacy.items() if name != "max_epsilon"}


def _first_difference(field: str, before: Any, after: Any) -> tuple[str, Any, Any]:
    """Give the innermost field that differs, as a job's author writes it, and its two values."""
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return field, before, after
    name = next(
        each
        for each in sorted({*before, *after})
        if each not in before or each not in after or before[each] != after[each]
    )
    if name == "parameters" and not field.startswith("spec.algorithm"):
        inner = field  # a codec's and a rule's stand beside its name
    else:
        inner = f"{field}.{name if field in _AS_WRITTEN else camel_case(name)}"
    return _first_difference(inner, before.get(name), after.get(name))


def _short(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        value = {camel_case(name): each for name, each in value.items() if each is not None}
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _plain(job: FederatedLearningJob) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(asdict(job.spec), default=dict, sort_keys=True))
    return plain


def _lock(path: Path) -> int:
    """Take the exclusive lock or say who holds it. The kernel drops it when the holder dies."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise StateError(
            "StateInUse",
            f"{path.parent} is in use by process {holder}; wait for it or give another --state folder",
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor
