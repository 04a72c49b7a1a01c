"""What `cluster_idle.py` watches: jobs that have ended or are suspended, their store, and an API server in memory."""

from __future__ import annotations

import importlib.util
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from controller.cluster.resources import DATASETS, JOBS, MODELS, NODES, Resource
from fedloom.artifacts import layout

NAMESPACE = "fedloom-idle"
ROUNDS = 3
"""After which half of the jobs are suspended."""

_HERE = Path(__file__).resolve().parent

Document = dict[str, Any]


class _Store(BaseHTTPRequestHandler):
    """S3 as far as an idle controller asks: the results of the rounds that were, and nothing else."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet for head and body

    def do_GET(self) -> None:  # a name that http.server wants
        number = next((n for n in range(ROUNDS + 1) if layout.result_key(n) in self.path), None)
        body = b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>"
        if number is not None:
            body = json.dumps(result_of(number)).encode()
        self.send_response(404 if number is None else 200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"0"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def serve(pipe: Any) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Store)
    pipe.send(server.server_address[1])
    server.serve_forever()


def result_of(number: int) -> Document:
    client = {
        "state": "Succeeded",
        "reason": None,
        "message": None,
        "num_examples": 7,
        "num_steps": None,
        "seconds": 1.0,
        "uplink_bytes": 10,
        "downlink_bytes": 8,
        "metrics": {"loss": 0.5},
        "digest": "sha256:u",
        "node": "edge-1",
        "steps": {},
    }
    model = {
        "key": layout.model_key(number),
        "digest": "sha256:m",
        "size_bytes": 8,
        "uri": "s3://x",
    }
    return {
        "round": number,
        "rounds": 10,
        "attempt": 1,
        "started": 1767225600.0,
        "finished": 1767225610.0,
        "seconds": 10.0,
        "metrics": {"train/loss": 0.5} if number else {},
        "clients": {f"d{index}": client for index in range(3)} if number else {},
        "traffic": {"uplink_bytes": 20, "downlink_bytes": 16},
        "model": model,
        "state": {},
    }


def job(number: int) -> Document:
    is_over = number % 2 == 0
    container = {"name": "train", "image": "example/train:1", "command": ["python", "train.py"]}
    template = {"spec": {"containers": [container]}}
    workers = [{"dataset": {"name": f"d{index}"}, "template": template} for index in range(3)]
    return {
        "apiVersion": JOBS.api_version,
        "kind": JOBS.kind,
        "metadata": {"name": f"job-{number:04}", "namespace": NAMESPACE},
        "spec": {
            "rounds": 10,
            "suspend": not is_over,
            "aggregationWorker": {"model": {"name": "m"}, "template": template},
            "trainingWorkers": workers,
        },
    }


def _ended_status() -> Document:
    condition = {
        "type": "Complete",
        "status": "True",
        "reason": "RoundsDone",
        "message": "all 10 rounds are done",
        "lastTransitionTime": "2026-01-01T00:10:00Z",
        "observedGeneration": 1,
    }
    clients = [
        {
            "name": f"d{index}",
            "nodeName": "edge-1",
            "samples": 7,
            "state": "Succeeded",
            "lastRound": 10,
        }
        for index in range(3)
    ]
    return {
        "phase": "Succeeded",
        "conditions": [condition],
        "startTime": "2026-01-01T00:00:00Z",
        "completionTime": "2026-01-01T00:10:00Z",
        "observedGeneration": 1,
        "currentRound": 10,
        "aggregationCount": 10,
        "clients": clients,
    }


def fill(cluster: Any, jobs: int, node: str) -> None:
    for index in range(3):
        spec = {"url": f"/data/{index}", "format": "dir", "nodeName": node}
        cluster.create(DATASETS, _object(DATASETS, f"d{index}", spec))
    cluster.create(MODELS, _object(MODELS, "m", {"url": "/models/m", "format": "safetensors"}))
    for number in range(jobs):
        made = cluster.create(JOBS, job(number))
        if number % 2 == 0:
            cluster.replace(JOBS, made | {"status": _ended_status()}, "status")


def _object(resource: Resource, name: str, spec: Document) -> Document:
    meta = {"name": name, "namespace": NAMESPACE}
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": meta,
        "spec": spec,
    }


def fake() -> Any:
    path = _HERE.parent / "tests/cluster_controller/fake_cluster.py"
    spec = importlib.util.spec_from_file_location("fake_cluster", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    cluster = module.FakeCluster()
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "edge-1"}, "status": ready}
    cluster.create(NODES, node)
    return cluster
