"""What is run on the cluster: the digits job of example 05, and a bare DAG of the same shape."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from cluster_watch import Document, forwarded, read

from fedloom.artifacts import layout
from fedloom.artifacts.credentials import S3Credentials
from fedloom.artifacts.opening import open_store

_EXAMPLE = Path(__file__).parent.parent / "examples/05-on-a-cluster/job.yaml"
_SYSTEM = "fedloom-system"

# The user's script as it is; around it, when it began and ended, told as two more metrics.
_TIMED = """
import time
began = time.time()
import json, os, runpy
try:
    runpy.run_path("train.py", run_name="__main__")
except SystemExit as end:
    if end.code:
        raise
path = os.environ.get("FEDLOOM_RESULT", "")
if os.path.exists(path):
    with open(path) as file:
        told = json.load(file)
    told["metrics"] |= {"began": began, "ended": time.time()}
    with open(path, "w") as file:
        json.dump(told, file)
"""
_CLOUD = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [
                {
                    "matchExpressions": [
                        {"key": "node-role.kubernetes.io/edge", "operator": "DoesNotExist"}
                    ]
                }
            ]
        }
    }
}
_ENDED = ("Succeeded", "Failed", "Errored", "Skipped", "Omitted")


def digits(name: str, rounds: int, runtime: str) -> list[Document]:
    """The example's documents, with the runtime of its edges and the user's code timed."""
    documents = list(yaml.safe_load_all(_EXAMPLE.read_text()))
    job = documents[0]
    job["metadata"]["name"] = name
    job["spec"]["rounds"] = rounds
    job["spec"]["edge"] = {"runtime": runtime}
    workers = copy.deepcopy(job["spec"]["trainingWorkers"])
    for worker in workers:
        worker["template"]["spec"]["containers"][0]["command"] = ["python", "-c", _TIMED]
    job["spec"]["trainingWorkers"] = workers
    return documents


def bare(name: str) -> Document:
    """The DAG that somebody would write by hand, with `true` in every container.

    The images, requests, places and containers are those of the job: three pods with one init
    container and two containers that wait for each other, and behind them one with three.
    """
    documents = list(yaml.safe_load_all(_EXAMPLE.read_text()))
    spec = documents[0]["spec"]
    datasets = {each["metadata"]["name"]: each["spec"] for each in documents[1:5]}
    users = spec["trainingWorkers"][0]["template"]["spec"]["containers"][0]
    steps = spec["aggregationWorker"]["template"]["spec"]["containers"][0]["image"]

    def ours(name: str) -> Document:
        return _true(name, steps, {"cpu": "50m", "memory": "96Mi"})

    def theirs(name: str) -> Document:
        return _true(name, users["image"], users["resources"]["requests"])

    work = [{"name": "work", "emptyDir": {}}]
    clients = [worker["dataset"]["name"] for worker in spec["trainingWorkers"]]
    tasks = [_client_task(client, datasets[client]["nodeName"]) for client in clients]
    depends = " && ".join(
        "(" + " || ".join(f"{client}.{end}" for end in _ENDED) + ")" for client in clients
    )
    client = {
        "name": "client",
        "inputs": {"parameters": [{"name": "node"}]},
        "volumes": work,
        "initContainers": [ours("fetch")],
        "containerSet": {"containers": _chain(theirs("train"), ours("compress"))},
        "podSpecPatch": json.dumps({"nodeName": "{{inputs.parameters.node}}"}),
    }
    server = {
        "name": "server",
        "volumes": work,
        "affinity": _CLOUD,
        "containerSet": {
            "containers": _chain(ours("aggregate"), theirs("evaluate"), ours("commit"))
        },
    }
    dag = {
        "failFast": False,
        "tasks": [*tasks, {"name": "server", "template": "server", "depends": depends}],
    }
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"name": name},
        "spec": {
            "entrypoint": "round",
            "serviceAccountName": "fedloom-worker",
            "templates": [{"name": "round", "dag": dag}, client, server],
        },
    }


def _client_task(client: str, node: str) -> Document:
    arguments = {"parameters": [{"name": "node", "value": node}]}
    return {"name": client, "template": "client", "arguments": arguments}


def _true(name: str, image: str, requests: Mapping[str, str]) -> Document:
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["true"],
        "resources": {"requests": dict(requests)},
        "volumeMounts": [{"name": "work", "mountPath": "/work"}],
    }


def _chain(*containers: Document) -> list[Document]:
    before: list[str] = []
    for container in containers:
        if before:
            container["dependencies"] = before
        before = [container["name"]]
    return list(containers)


class Results:
    """Reads what rounds left in the store of the quickstart."""

    def __init__(self, address: str, endpoint: str, keys: S3Credentials) -> None:
        self._address, self._endpoint, self._keys = address, endpoint, keys

    def of(self, job: Document, round_: int) -> dict[str, Any]:
        """Give result.json of a committed round of the job (its document)."""
        meta = job["metadata"]
        prefix = layout.job_prefix(meta["namespace"], meta["name"], meta["uid"])
        store = open_store(f"{self._address}/{prefix}", self._keys, self._endpoint)
        result: dict[str, Any] = json.loads(store.get(layout.result_key(round_)))
        return result


@contextmanager
def results() -> Iterator[Results]:
    """Open the controller's store, by port-forward where it is a Service of the cluster."""
    settings = read(_SYSTEM, "configmap", "fedloom-controller")["data"]
    secret = read(_SYSTEM, "secret", "fedloom-store")["data"]
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    keys = S3Credentials(*(base64.b64decode(secret[name]).decode() for name in names))
    address = settings["FEDLOOM_STORE"].rstrip("/")
    there = urlsplit(settings["FEDLOOM_STORE_ENDPOINT"])
    service, _, rest = (there.hostname or "").partition(".")
    namespace, _, kind = rest.partition(".")
    if not kind.startswith("svc"):
        yield Results(address, settings["FEDLOOM_STORE_ENDPOINT"], keys)
        return
    with forwarded(namespace, service, there.port or 80) as port:
        yield Results(address, f"http://127.0.0.1:{port}", keys)
