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


class Bench:
    """A controller's parts without its threads, over an API server in memory and a real S3."""

    def __init__(self, cluster, store, publishing=None) -> None:
        self.cluster = cluster
        self.store_settings = store
        self.publishing = publishing
        self.enqueued: list[tuple[str, str]] = []
        self.restart()

    def restart(self) -> None:
        """A new process: it knows nothing."""
        from controller.cluster.argo_engine import Shared
        from controller.cluster.events import Recorder
        from controller.cluster.exposition import Metrics
        from controller.cluster.objects import CachedObjects
        from controller.cluster.reconcile import Reconciler, Surroundings
        from controller.cluster.watches import Watches

        self.watches = Watches(self.cluster, ("ns",), self.enqueued.append)
        self.metrics = Metrics({})
        shared = Shared(
            self.cluster,
            controller_settings(self.store_settings),
            self.watches.workflows,
            self.watches.pods,
            self.watches.nodes.all,
        )
        known = (self.watches.jobs, self.watches.datasets, self.watches.models)
        objects = CachedObjects(self.cluster, known, self.watches.nodes)
        self.reconciler = Reconciler(
            Surroundings(
                shared,
                self.watches.jobs,
                objects,
                Recorder(self.cluster, "me"),
                self.metrics,
                self.publishing,
                self.enqueued.append,
            )
        )

    def dataset(self, name: str) -> Document:
        return dataset_document(name)

    def model(self, name: str) -> Document:
        return model_document(name)

    def look(self, name: str = "toy") -> float | None:
        """See everything, then take care of one job."""
        for cache in self.watches.all:
            cache.refresh("ns" if cache.resource.is_namespaced else None)
        return self.reconciler.reconcile(("ns", name))

    def apply(self, *documents: Document) -> None:
        from controller.cluster import resources

        kinds = {each.kind: each for each in vars(resources).values() if hasattr(each, "plural")}
        for document in documents:
            self.cluster.create(kinds[document["kind"]], document)

    def apply_job(self, **spec: Any) -> Document:
        """A job of two clients and all that it names."""
        for name, node in (("a", "edge-1"), ("b", "edge-2")):
            self.apply(dataset_document(name, node), node_document(node))
        self.apply(model_document("m"))
        document = job_document(**spec)
        self.apply(document)
        return document

    @property
    def job(self) -> Document:
        from controller.cluster.resources import JOBS

        return self.cluster.get(JOBS, "ns", "toy")

    @property
    def status(self) -> Document:
        return self.job["status"]

    def condition(self, kind: str) -> tuple[str, str] | None:
        found = [each for each in self.status["conditions"] if each["type"] == kind]
        return (found[0]["status"], found[0]["reason"]) if found else None

    def edit(self, **spec: Any) -> None:
        from controller.cluster.resources import JOBS

        self.cluster.patch(JOBS, "ns", "toy", {"spec": spec})

    def annotate(self, **annotations: str) -> None:
        from controller.cluster.resources import JOBS

        given = {f"fedloom.io/{key.replace('_', '-')}": value for key, value in annotations.items()}
        self.cluster.patch(JOBS, "ns", "toy", {"metadata": {"annotations": given}})

    def workflows(self) -> list[str]:
        """`r<round>-a<attempt>` of every workflow, in the order of their making."""
        from controller.cluster.resources import WORKFLOWS

        names = [each["metadata"]["name"] for each in self.cluster.all(WORKFLOWS)]
        return [name.split("-", 2)[2] for name in names]

    @property
    def job_store(self):
        from controller.cluster.stores import access_of
        from fedloom.api.reading import read_job

        return access_of(read_job(self.job), None, self.store_settings).open()

    def commit(self, number: int, metrics: dict[str, float] | None = None, **failed: str) -> None:
        """The round's pods do their work: its result is in the store."""
        import json

        from fedloom.artifacts import layout

        clients = {} if number == 0 else {name: client_result(failed.get(name)) for name in "ab"}
        model = {"key": layout.model_key(number), "digest": "sha256:m", "size_bytes": 8}
        value = {
            "round": number,
            "rounds": 2,
            "attempt": 1,
            "started": 1767225600.0,
            "finished": 1767225610.0,
            "seconds": 10.0,
            "metrics": metrics or ({} if number == 0 else {"train/loss": 0.5}),
            "clients": clients,
            "traffic": {"uplink_bytes": 20, "downlink_bytes": 16},
            "model": {**model, "uri": f"s3://x/{number}"},
            "state": {},
        }
        self.job_store.put(layout.result_key(number), json.dumps(value).encode())

    def end_workflow(self, run: str, phase: str = "Succeeded", message: str = "") -> None:
        from controller.cluster.resources import WORKFLOWS

        for each in self.cluster.all(WORKFLOWS):
            if each["metadata"]["name"].endswith(run):
                status = {"phase": phase, "message": message}
                self.cluster.set_status(WORKFLOWS, "ns", each["metadata"]["name"], status)

    def round(self, number: int, **failed: str) -> None:
        """A whole round happens, then the controller looks."""
        self.commit(number, **failed)
        self.end_workflow(f"r{number}-a1")
        self.look()


def client_result(reason: str | None) -> Document:
    is_good = reason is None
    return {
        "state": "Succeeded" if is_good else "Failed",
        "reason": reason,
        "message": None if is_good else "so it was",
        "num_examples": 7 if is_good else None,
        "num_steps": None,
        "seconds": 1.0,
        "uplink_bytes": 10,
        "downlink_bytes": 8,
        "metrics": {"loss": 0.5} if is_good else {},
        "digest": "sha256:u" if is_good else None,
        "node": "edge-1",
        "steps": {},
    }


def dataset_document(name: str, node: str = "edge-1") -> Document:
    spec = {"url": f"/data/{name}", "format": "dir", "nodeName": node}
    return _document("Dataset", name, spec)


def model_document(name: str) -> Document:
    return _document("Model", name, {"url": "/models/m", "format": "safetensors"})


def _document(kind: str, name: str, spec: Document) -> Document:
    meta = {"name": name, "namespace": "ns"}
    return {"apiVersion": "sedna.io/v1alpha1", "kind": kind, "metadata": meta, "spec": spec}


def controller_settings(store):
    from controller.cluster.settings import Settings

    return Settings(
        store=store,
        tracking_uri=None,
        steps_image="fedloom/steps:test",
        image_pull_policy="IfNotPresent",
        service_account="fedloom-worker",
        dispatcher_image="fedloom/controller:test",
        dispatcher_account="fedloom-dispatcher",
        namespaces=("ns",),
        edge_state_path="/var/lib/fedloom",
        deadline_grace_seconds=15.0,
        lost_node_seconds=60.0,
        has_pending_timeout=False,
        workers=1,
        tracking_processes=1,
        listen=("127.0.0.1", 0),
        work=Path("/nonexistent"),
        own_namespace="ns",
        identity="me",
    )


@pytest.fixture
def store_settings(minio_server, s3_bucket, tmp_path):
    from controller.cluster.settings import StoreSettings
    from fedloom.artifacts.credentials import S3Credentials

    return StoreSettings(
        uri=f"s3://{s3_bucket}/{tmp_path.name}",
        endpoint=minio_server.url,
        edge_endpoint="http://edge.example:9000",
        region="us-east-1",
        credentials=S3Credentials(minio_server.access_key, minio_server.secret_key),
    )


@pytest.fixture
def bench(cluster, store_settings):
    return Bench(cluster, store_settings)
