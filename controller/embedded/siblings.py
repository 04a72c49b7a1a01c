"""Other jobs' state folders on this machine: how far they are, and where their models lie."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from components.connection import connect
from controller.credentials import credentials_of, endpoint_of
from controller.decide import stop_reason
from controller.embedded.state import read_record
from controller.sources import ABSENT, COMING, FAILED, NOT_FOUND, READY, RUNNING, UNFINISHED, Looked
from fedloom.api.outcome import StopCondition
from fedloom.api.secret import Secret
from fedloom.artifacts import layout
from fedloom.artifacts.store import Store
from fedloom.errors import FedloomError, StateError

Record = Mapping[str, Any]
ALLOWED = "transfer_to"


class Sibling:
    """One job's state folder, read and never written."""

    def __init__(self, root: Path, record: Record, secrets: Mapping[str, Secret]) -> None:
        self.root = root
        self.record = record
        self._store = _store_of(root, record, secrets)

    @property
    def allowed(self) -> str:
        """The namespaces that may learn from it, as its annotation says."""
        return str(self.record.get(ALLOWED, ""))

    def look(self, name: str, folder: Path, *, is_start: bool) -> Looked:
        """Say how its final model stands, or with `is_start` its first.

        What must be fetched goes to `folder`. Raises FedloomError where its store cannot be read.
        """
        results = list(self._results())
        if is_start and results:
            return self._ready(name, results[0], folder)
        if is_start or not results or not self._is_done(results):
            return self._unfinished(name, results)
        return self._ready(name, results[-1], folder)

    def _ready(self, name: str, result: Record, folder: Path) -> Looked:
        model = result["model"]
        path = self._store.materialize(model["key"], folder, digest=model["digest"])
        candidate = {
            "name": name,
            "url": str(path.absolute()),
            "digest": model["digest"],
            "uri": model["uri"],
            "job": f"{self.record['namespace']}/{self.record['name']}",
            "round": result["round"],
            **self._tracked(result["round"]),
        }
        return Looked(name, READY, candidates=(candidate,))

    def _unfinished(self, name: str, results: list[Record]) -> Looked:
        rounds = self.record["spec"]["rounds"]
        done = max(0, len(results) - 1)
        if self._is_running():
            return Looked(
                name, COMING, RUNNING, f"it is running: {done} of {rounds} rounds are done"
            )
        failure = self._failure(len(results))
        if failure:
            return Looked(
                name, ABSENT, FAILED, f"it failed after {done} of {rounds} rounds: {failure}"
            )
        message = f"it stopped after {done} of {rounds} rounds: run it to its end first"
        return Looked(name, ABSENT, UNFINISHED, message)

    def _is_done(self, results: list[Record]) -> bool:
        spec = self.record["spec"]
        rounds = 1 if spec.get("compat") == "websocket" else spec["rounds"]
        stop = spec.get("stop_condition")
        last = results[-1]["round"]
        if last >= rounds:
            return True
        metrics = [result["metrics"] for result in results]
        return bool(stop and last > 0 and stop_reason(StopCondition(**stop), metrics))

    def _is_running(self) -> bool:
        try:
            descriptor = os.open(self.root / "lock", os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _failure(self, number: int) -> str:
        """Say how the last attempt at a round failed; empty where none is on record."""
        found = ""
        for attempt in range(1, 1_000):
            try:
                record = json.loads(self._store.get(layout.attempt_key(number, attempt)))
            except (FedloomError, ValueError):
                break
            found = f"{record['reason']}: {record['message']}"
        return found

    def _results(self) -> Iterator[Record]:
        number = 0
        while True:
            try:
                yield json.loads(self._store.get(layout.result_key(number)))
            except (FedloomError, ValueError):
                return
            number += 1

    def _tracked(self, number: int) -> dict[str, str]:
        """Give what MLflow knows it by; nothing where it was not tracked."""
        try:
            known = json.loads((self.root / "tracking.json").read_bytes())
            version = known["registered"].get(str(number))
            name = self.record["spec"]["output"]["registered_model"]
            found = {"run_id": known["run_id"], "version": version, "registered_model": name}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}
        if not version:
            found = {"run_id": known["run_id"]}
        return {key: str(value) for key, value in found.items() if value}


def find_sibling(
    namespace: str, name: str, folders: list[Path], secrets: Mapping[str, Secret]
) -> Sibling | Looked:
    """Find the state folder of a job in one of these places; else say where it was looked for."""
    source = f"job/{name}"
    for root in dict.fromkeys(folders):
        try:
            record = read_record(root)
            if record is None or (record["namespace"], record["name"]) != (namespace, name):
                continue
            return Sibling(root, record, secrets)
        except (StateError, FedloomError) as error:
            return Looked(source, ABSENT, NOT_FOUND, str(error))
    places = ", ".join(str(root) for root in dict.fromkeys(folders))
    message = f"there is no state folder of {namespace}/{name} (looked at {places}): run it first"
    return Looked(source, ABSENT, NOT_FOUND, message)


def _store_of(root: Path, record: Record, secrets: Mapping[str, Secret]) -> Store:
    prefix = layout.job_prefix(record["namespace"], record["name"], record["uid"])
    s3 = (record["spec"].get("transmitter") or {}).get("s3")
    if s3 is None:
        return connect({"store": (root / "artifacts" / prefix).as_uri()})
    settings: dict[str, Any] = {"store": f"{s3['agg_data_path'].rstrip('/')}/{prefix}"}
    secret = secrets.get(s3.get("credential_name") or "")
    if secret is not None:
        settings |= {"endpoint": endpoint_of(secret), "credentials": credentials_of(secret)}
    return connect(settings)
