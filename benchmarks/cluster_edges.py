"""Plays the edges of a round whose nodes are fake: makes and uploads their updates, ends their pods."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from cluster_watch import forwarded, read

from components import compress
from components.connection import connect
from components.outcome import read_outcome
from components.request import Place, Request
from fedloom.artifacts.arrays import dump_arrays, load_arrays

_NODE_ID = "workflows.argoproj.io/node-id"
_WORKFLOW = "workflows.argoproj.io/workflow"
_STARTED, _ENDED = "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"


@contextmanager
def reached_store() -> Iterator[None]:
    """Let this process reach the edges' store by the name that the URLs are signed for."""
    settings = read("fedloom-system", "configmap", "fedloom-controller")["data"]
    there = urlsplit(settings.get("FEDLOOM_EDGE_ENDPOINT") or settings["FEDLOOM_STORE_ENDPOINT"])
    service, _, rest = (there.hostname or "").partition(".")
    namespace, _, kind = rest.partition(".")
    if not kind.startswith("svc"):
        yield
        return
    resolve = socket.getaddrinfo
    with forwarded(namespace, service, there.port or 80) as port:

        def redirected(host: Any, wanted: Any, *more: Any, **options: Any) -> Any:
            if host == there.hostname:
                host, wanted = "127.0.0.1", port
            return resolve(host, wanted, *more, **options)

        socket.getaddrinfo = redirected
        try:
            yield
        finally:
            socket.getaddrinfo = resolve


def deliver(namespace: str, workflow: str) -> None:
    """Upload an update for every client of the round."""
    secrets = read(namespace, "secrets")["items"]
    own = [s for s in secrets if s["metadata"]["name"].startswith(f"{workflow}-edge-")]
    files = {
        name: base64.b64decode(data)
        for secret in own
        for name, data in secret["data"].items()
        if name.endswith(".json")
    }
    with tempfile.TemporaryDirectory(prefix="crowd-") as folder:
        for data in files.values():
            _deliver_one(data, Path(folder))


def _deliver_one(data: bytes, folder: Path) -> None:
    """What `fetch`, the user's container and `compress` do on one node."""
    plan = json.loads(data)
    tasks = {task["step"]: Request.of(plan, task) for task in plan["tasks"]}
    (folder / "plan.json").write_bytes(data)
    store = connect({"store": f"presigned://{folder}/plan.json"})
    place = Place(store, folder, folder, folder / "edge", folder, folder / "logs")
    given = tasks["train"].inputs["model"]
    model = folder / "model.safetensors"
    if not model.exists():  # the same for all
        shutil.copyfile(
            store.materialize(given["key"], folder / "models", digest=given["digest"]), model
        )
    arrays, _ = load_arrays(model)
    (folder / "update.safetensors").write_bytes(
        dump_arrays({name: array + np.float32(0.01) for name, array in arrays.items()})
    )
    result = {"num_examples": 10, "num_steps": 1, "metrics": {"loss": 1.0}}
    (folder / "result.json").write_text(json.dumps(result))
    outcome = read_outcome(folder / "update.safetensors", folder / "result.json")
    report = compress.run(tasks["compress"], place, outcome, arrays)
    report |= {"steps": {"compress": [0.0, 1.0]}, "seconds": 1.0, "node": "fake"}
    compress.write_report(tasks["compress"], place, report)


def end_pods(namespace: str, workflow: str) -> None:
    """Say of every client's pod that it has succeeded, as a kubelet and Argo's sidecar would."""
    pods = read(namespace, "pods", "-l", f"{_WORKFLOW}={workflow},fedloom.io/client")["items"]
    command = ["kubectl", "proxy", "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as proxy:
        try:
            assert proxy.stdout is not None
            address = f"http://{proxy.stdout.readline().split()[-1]}"
            for pod in pods:
                _end_pod(address, namespace, workflow, pod)
        finally:
            proxy.terminate()


def _end_pod(address: str, namespace: str, workflow: str, pod: Mapping[str, Any]) -> None:
    meta, spec = pod["metadata"], pod["spec"]
    done = {"exitCode": 0, "reason": "Completed", "startedAt": _STARTED, "finishedAt": _ENDED}
    told = {
        "metadata": {
            "name": meta["annotations"][_NODE_ID],
            "labels": {
                _WORKFLOW: workflow,
                "workflows.argoproj.io/report-outputs-completed": "true",
            },
        },
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "WorkflowTaskResult",
    }
    results = f"/apis/argoproj.io/v1alpha1/namespaces/{namespace}/workflowtaskresults"
    _send("POST", address + results, told, "application/json")
    status = {
        "phase": "Succeeded",
        "initContainerStatuses": [_ended(c, done) for c in spec["initContainers"]],
        "containerStatuses": [_ended(c, done) for c in spec["containers"]],
    }
    path = f"/api/v1/namespaces/{namespace}/pods/{meta['name']}/status"
    _send("PATCH", address + path, {"status": status}, "application/merge-patch+json")


def _ended(container: Mapping[str, Any], done: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": container["image"],
        "ready": False,
        "restartCount": 0,
        "state": {"terminated": done},
    }


def _send(method: str, url: str, document: Mapping[str, Any], kind: str) -> None:
    request = urllib.request.Request(
        url, json.dumps(document).encode(), {"Content-Type": kind}, method=method
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        answer.read()
