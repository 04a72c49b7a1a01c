"""What these tests share: an API server in memory, jobs as documents, nodes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

Document = dict[str, Any]


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


fake = _load("fake_cluster")


@pytest.fixture
def cluster():
    return fake.FakeCluster()


@pytest.fixture
def make_job():
    return job_document


@pytest.fixture
def make_node():
    return node_document


@pytest.fixture
def make_pod():
    return pod_document


def worker(dataset: str, **container: Any) -> Document:
    spec = {"name": "train", "image": "busybox:1", "command": ["true"], **container}
    return {"dataset": {"name": dataset}, "template": {"spec": {"containers": [spec]}}}


def job_document(name: str = "toy", clients: tuple[str, ...] = ("a", "b"), **spec: Any) -> Document:
    template = {"spec": {"containers": [{"name": "aggregate", "image": "busybox:1"}]}}
    return {
        "apiVersion": "sedna.io/v1alpha1",
        "kind": "FederatedLearningJob",
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": "38bc8f64-0000-4000-8000-000000000000",
            "generation": 1,
        },
        "spec": {
            "rounds": 2,
            "aggregationWorker": {"model": {"name": "m"}, "template": template},
            "trainingWorkers": [worker(client) for client in clients],
            **spec,
        },
    }


def node_document(name: str, ready: str = "True", since: str = "2026-01-01T00:00:00Z", **more: Any):
    condition = {"type": "Ready", "status": ready, "lastTransitionTime": since}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **more}},
        "spec": {},
        "status": {"conditions": [condition]},
    }


def pod_document(client: str | None = "a", phase: str = "Running", **status: Any) -> Document:
    labels = {
        "federatedlearningjob.sedna.io/name": "toy",
        "federatedlearningjob.sedna.io/uid": "38bc8f64-0000-4000-8000-000000000000",
        "fedloom.io/round": "1",
        "fedloom.io/attempt": "1",
    }
    if client is not None:
        labels["fedloom.io/client"] = client
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"pod-{client or 'server'}",
            "namespace": "ns",
            "labels": labels,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "annotations": {
                "workflows.argoproj.io/node-id": f"node-{client or 'server'}",
                "workflows.argoproj.io/node-name": "wf.server",
            },
        },
        "spec": {"nodeName": "edge-1"},
        "status": {"phase": phase, **status},
    }
