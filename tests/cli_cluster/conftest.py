"""An API server in memory with what the commands use of one, and jobs in every state of their lives."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from controller.cluster.answers import ConflictError, ForbiddenError
from controller.cluster.resources import JOBS, LABEL_ATTEMPT, LABEL_CLIENT, LABEL_ROUND, LABEL_UID

UID = "8c2f1a77-0000-4000-8000-000000000001"
SELF_REVIEWS = ("selfsubjectaccessreviews", "subjectaccessreviews")


class FakeServer:
    """`log_texts` by (pod, container); `forbidden` and `conflicts` hold plurals, `denied` (verb, plural)."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.log_texts: dict[tuple[str, str], bytes] = {}
        self.forbidden: set[str] = set()
        self.conflicts: set[str] = set()
        self.denied: set[tuple[str, str]] = set()
        self.on_create: Any = None
        self._version = 0
        self._changed = threading.Condition()
        self._news: list[tuple[int, str, str, dict[str, Any]]] = []

    def put(self, plural: str, document: Mapping[str, Any], verb: str = "MODIFIED") -> None:
        with self._changed:
            made = copy.deepcopy(dict(document))
            meta = made["metadata"]
            self._version += 1
            meta["resourceVersion"] = str(self._version)
            key = (plural, meta.get("namespace", ""), meta["name"])
            if verb == "DELETED":
                self.objects.pop(key, None)
            else:
                self.objects[key] = made
            self._news.append((self._version, plural, verb, made))
            self._changed.notify_all()

    def get(self, resource, namespace, name):
        self._check(resource)
        return copy.deepcopy(self.objects.get((resource.plural, namespace or "", name)))

    def list(self, resource, namespace, selector=""):
        self._check(resource)
        key, _, value = selector.partition("=")
        found = [
            copy.deepcopy(document)
            for (plural, where, _), document in self.objects.items()
            if plural == resource.plural
            and namespace in (None, where)
            and (not key or (document["metadata"].get("labels") or {}).get(key) == value)
        ]
        return found, str(self._version)

    def create(self, resource, document):
        self._check(resource)
        if resource.plural in SELF_REVIEWS:
            wanted = document["spec"]["resourceAttributes"]
            may = (wanted["verb"], wanted["resource"]) not in self.denied
            return {**document, "status": {"allowed": may}}
        made = copy.deepcopy(document)
        if self.on_create is not None:
            made = self.on_create(made)
        self.calls.append(("create", resource.plural, made["metadata"]["name"]))
        self.put(resource.plural, made, "ADDED")
        return made

    def patch(self, resource, namespace, name, change, subresource=None):
        self.calls.append(("patch", name, copy.deepcopy(change)))
        known = self.get(resource, namespace, name)
        if known is None:
            return None
        self.put(resource.plural, merged(known, change))
        return self.get(resource, namespace, name)

    def apply(self, resource, document, *, is_dry=False, is_forced=False):
        if resource.plural in self.conflicts and not is_forced:
            raise ConflictError("spec.rounds is owned by kubectl")
        meta = document["metadata"]
        self.calls.append(("apply", document["kind"], meta["namespace"], meta["name"], is_dry))
        before = self.objects.get((resource.plural, meta["namespace"], meta["name"])) or {}
        after = merged(before, document)
        if not is_dry:
            self.put(resource.plural, after)
        return after

    def delete(self, resource, namespace, name, grace_seconds=None):
        self.calls.append(("delete", resource.plural, name))
        return self.objects.pop((resource.plural, namespace, name), None) is not None

    def log(self, namespace, pod, container, *, is_followed=False):
        text = self.log_texts.get((pod, container))
        return None if text is None else iter(text.splitlines())

    def version(self):
        return "v1.34.9"

    def watch(self, resource, namespace, selector, since, seconds) -> Iterator[Any]:
        place, key, value = int(since), *selector.partition("=")[::2]
        while True:
            with self._changed:
                news = [each for each in self._news if each[0] > place]
                if not news:
                    self._changed.wait(0.02)
            for version, plural, verb, document in news:
                place = version
                labels = document["metadata"].get("labels") or {}
                if plural == resource.plural and (not key or labels.get(key) == value):
                    yield verb, copy.deepcopy(document)

    def _check(self, resource):
        if resource.plural in self.forbidden:
            raise ForbiddenError(f"{resource.plural} is forbidden")


def merged(known: Any, change: Any) -> Any:
    """RFC 7386."""
    if not isinstance(change, Mapping):
        return copy.deepcopy(change)
    found = dict(known) if isinstance(known, Mapping) else {}
    for key, value in change.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = merged(found.get(key), value)
    return found


def job(name: str = "digits", status: Any = None, **annotations: str) -> dict[str, Any]:
    template = {"spec": {"containers": [{"name": "train", "image": "a:1", "command": ["train"]}]}}
    return {
        "apiVersion": JOBS.api_version,
        "kind": JOBS.kind,
        "metadata": {
            "name": name,
            "namespace": "team",
            "uid": UID,
            "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "annotations": {
                f"fedloom.io/{key.replace('_', '-')}": v for key, v in annotations.items()
            },
        },
        "spec": {
            "rounds": 3,
            "aggregationWorker": {"model": {"name": "m"}, "template": template},
            "trainingWorkers": [
                {"dataset": {"name": each}, "template": template} for each in ("a", "b")
            ],
        },
        **({"status": status} if status is not None else {}),
    }


def status(done: int | None, phase: str = "Running", **more: Any) -> dict[str, Any]:
    """A status after `done` committed rounds (None: not even round 0)."""
    condition = {"type": "Progressing", "status": "True", "reason": "RoundRunning", "message": ""}
    if phase == "Succeeded":
        condition = {"type": "Complete", "status": "True", "reason": "RoundsDone", "message": "all"}
    if phase == "Failed":
        condition = {"type": "Failed", "status": "True", "reason": "TooFewUpdates", "message": "1"}
    found: dict[str, Any] = {"phase": phase, "conditions": [condition]}
    if phase in ("Succeeded", "Failed"):
        found["completionTime"] = "2026-01-01T01:00:00Z"
    if done is not None:
        found |= {
            "currentRound": done + 1,
            "aggregationCount": done,
            "model": {"uri": f"s3://b/round-{done}", "round": done, "digest": f"sha256:{done}"},
        }
    if done:
        found |= {
            "metrics": {"accuracy": f"0.{done}", "train/loss": "0.5"},
            "traffic": {"uplinkBytes": 20 * done, "downlinkBytes": 40 * done},
            "clients": [client("a", done), client("b", done)],
        }
    return found | more


def client(name: str, number: int, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "nodeName": f"edge-{name}",
        "samples": 100,
        "state": "Succeeded",
        "lastRound": number,
        "seconds": 1.5,
        "uplinkBytes": 10,
        "downlinkBytes": 20,
        "metrics": {"loss": "0.5"},
    } | more


def workflow(number: int, attempt: int = 1, phase: str = "Running", **nodes: Any) -> dict[str, Any]:
    name = f"digits-8c2f1a77-r{number}-a{attempt}"
    ended = {"finishedAt": "2026-01-01T00:00:12Z"} if phase != "Running" else {}
    labels = {LABEL_UID: UID, LABEL_ROUND: str(number), LABEL_ATTEMPT: str(attempt)}
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {
            "name": name,
            "namespace": "team",
            "labels": labels,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "resourceVersion": "1",
        },
        "spec": {},
        "status": {"phase": phase, "nodes": nodes, **ended},
    }


def pod(who: str, containers: Mapping[str, Any], number: int = 1, **more: Any) -> dict[str, Any]:
    """A pod of a client, or of the task `server`; `containers` by name -> state."""
    labels = {LABEL_UID: UID, LABEL_ROUND: str(number), LABEL_ATTEMPT: "1"}
    labels |= {} if who == "server" else {LABEL_CLIENT: who}
    name = f"digits-8c2f1a77-r{number}-a1"
    first = {key: state for key, state in containers.items() if key in ("init", "fetch")}
    rest = {key: state for key, state in containers.items() if key not in first}
    return {
        "metadata": {
            "name": f"{name}-{who}",
            "namespace": "team",
            "labels": labels,
            "annotations": {"workflows.argoproj.io/node-name": f"{name}.{who}(0)"},
            "creationTimestamp": "2026-01-01T00:00:01Z",
        },
        "spec": {"nodeName": "cloud" if who == "server" else f"edge-{who}"},
        "status": {
            "phase": "Running",
            "startTime": "2026-01-01T00:00:01Z",
            "initContainerStatuses": [{"name": k, "state": s} for k, s in first.items()],
            "containerStatuses": [{"name": k, "state": s} for k, s in sorted(rest.items())],
        }
        | more,
    }


def ended(start: int, end: int, code: int = 0, message: str = "") -> dict[str, Any]:
    times = {
        "startedAt": f"2026-01-01T00:00:{start:02}Z",
        "finishedAt": f"2026-01-01T00:00:{end:02}Z",
    }
    return {"terminated": {**times, "exitCode": code, "message": message, "reason": "Error"}}


def running(start: int) -> dict[str, Any]:
    return {"running": {"startedAt": f"2026-01-01T00:00:{start:02}Z"}}


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def make() -> Any:
    """The makers of this module, by name: test modules cannot import it."""
    from types import SimpleNamespace

    return SimpleNamespace(
        job=job,
        status=status,
        client=client,
        workflow=workflow,
        pod=pod,
        ended=ended,
        running=running,
    )
