"""Where the final model of a job is to be, and the Job that brings it there. Pure.

    s3://bucket/m.safetensors     an object, written by a pod in the cloud with a presigned URL
    /models/m.safetensors         a file of a node: of the aggregation worker's, where its template names
                                  one; and of a Sedna job on every node that a training worker has

A pod sees the one folder that the file goes to, and no credentials.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from components.deliver import MODEL
from components.exported import file_for
from controller.cluster.resolve import Finding
from controller.cluster.resources import JOBS, LABEL_NAME, LABEL_UID, LABEL_WORKER_TYPE
from controller.cluster.settings import Settings
from fedloom.api import places
from fedloom.api.clients import clients_of
from fedloom.api.compatibility import compatibility_of
from fedloom.api.dataset import Dataset
from fedloom.api.job import FederatedLearningJob
from fedloom.api.model import Model
from pipelines.engines import argo_names as names
from pipelines.engines.argo_pods import NOT_ON_AN_EDGE
from pipelines.engines.argo_setting import Owner
from pipelines.engines.argo_steps import our_container
from pipelines.placement import place_client

SECONDS = 6 * 3600
"""How long a pod may take, and wait for its node, before another is made."""
ORDER, WORK, TARGET = "/fedloom/order", "/fedloom/work", "/fedloom/target"
TROUBLE = {"UrlInRoot", "UrlNotWritable"}
"""Reasons that only another url mends."""


@dataclass(frozen=True)
class Target:
    """One place for the final model: `file` on `node`, or as an object where that is None."""

    model: str
    file: str
    node: str | None

    @property
    def shown(self) -> str:
        return self.file if self.node is None else f"{self.node}:{self.file}"

    def job_name(self, job: FederatedLearningJob, attempt: int) -> str:
        """Name the Job of an attempt; the same for whoever asks."""
        mark = hashlib.sha256(self.shown.encode()).hexdigest()[:8]
        stem = f"{job.metadata.name}-{job.metadata.uid[:8]}"
        return names.job_name(stem, f"deliver-{mark}-a{attempt}")


def targets_of(
    job: FederatedLearningJob, datasets: Mapping[str, Dataset], models: Mapping[str, Model]
) -> tuple[tuple[Target, ...], Finding | None]:
    """Give the places where the job's final model is to be, and what is wrong with others."""
    spec = job.spec
    references = (spec.aggregation_worker.model, spec.output.model)
    found: list[Target] = []
    trouble: Finding | None = None
    for name in dict.fromkeys(reference.name for reference in references if reference):
        url = models[name].spec.url
        problem = _problem(name, url)
        if problem is not None:
            trouble = trouble or problem
        elif places.is_remote(url):
            found.append(Target(name, file_for(url, name), None))
        elif places.is_path(url):
            file = file_for(places.path_of(url), name)
            found += [Target(name, file, node) for node in _nodes(job, datasets)]
    return tuple(dict.fromkeys(found)), trouble


def _problem(name: str, url: str) -> Finding | None:
    if places.is_path(url):
        if file_for(places.path_of(url), name).count("/") > 1:
            return None
        message = "expected a file in a folder: the root of a node is never mounted"
        return Finding("UrlInRoot", f"Model {name!r}: spec.url: got {url!r}, {message}")
    if not places.is_remote(url) or url.startswith("s3://"):
        return None
    message = "expected s3:// or a path of a node: a model is not written to http"
    return Finding("UrlNotWritable", f"Model {name!r}: spec.url: got {url!r}, {message}")


def _nodes(job: FederatedLearningJob, datasets: Mapping[str, Dataset]) -> Iterator[str]:
    """Where Sedna's two libraries leave a model: in the cloud, and at every edge."""
    cloud = job.spec.aggregation_worker.template.node_name
    if cloud:
        yield cloud
    if not compatibility_of(job.spec):
        return
    for client in clients_of(job):
        there = datasets[client.dataset].spec.node_name
        node = place_client(client.worker.template, there).node_name or there
        if node:
            yield node


def order_secret(job: FederatedLearningJob, name: str, order: Mapping[str, Any]) -> dict[str, Any]:
    """Give the Secret with an order, URLs and all."""
    data = base64.b64encode(json.dumps(order).encode()).decode()
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _metadata(job, name),
        "type": "Opaque",
        "data": {"order.json": data},
    }


def order_of(target: Target, digest: str, get: str, put: str | None) -> dict[str, Any]:
    """Give the order of a target: see `components.deliver`."""
    urls = {"get": {MODEL: get}, "put": {MODEL: put} if put else {}}
    is_object = {"is_object": True} if target.node is None else {}
    return {"file": target.file, "digest": digest, "urls": urls, **is_object}


def delivery_job(
    job: FederatedLearningJob, target: Target, name: str, settings: Settings
) -> dict[str, Any]:
    """Give the Job that carries out the order in the Secret of the same name."""
    metadata = _metadata(job, name)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "backoffLimit": 2,
            "activeDeadlineSeconds": SECONDS,
            "ttlSecondsAfterFinished": 3600,
            "template": {
                "metadata": {"labels": metadata["labels"]},
                "spec": {
                    **_pod(target, name, settings),
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                },
            },
        },
    }


def _pod(target: Target, name: str, settings: Settings) -> dict[str, Any]:
    """Give the containers, volumes and place of a delivery."""
    arguments = ["--order", f"{ORDER}/order.json", "--workdir", WORK, "--target", TARGET]
    image = (settings.steps_image, settings.image_pull_policy)
    is_root = target.node is not None
    container = our_container("deliver", "components.deliver", arguments, image, is_root=is_root)
    mounts: list[dict[str, Any]] = [
        {"name": "order", "mountPath": ORDER, "readOnly": True},
        {"name": "work", "mountPath": WORK},
    ]
    volumes: list[dict[str, Any]] = [
        {"name": "order", "secret": {"secretName": name}},
        {"name": "work", "emptyDir": {}},
    ]
    place: dict[str, Any] = {"affinity": NOT_ON_AN_EDGE}
    if target.node is not None:
        folder = {"path": target.file.rpartition("/")[0], "type": "DirectoryOrCreate"}
        place = {"nodeName": target.node, "tolerations": [{"operator": "Exists"}]}
        mounts.append({"name": "target", "mountPath": TARGET})
        volumes.append({"name": "target", "hostPath": folder})
    return {**place, "containers": [{**container, "volumeMounts": mounts}], "volumes": volumes}


def _metadata(job: FederatedLearningJob, name: str) -> dict[str, Any]:
    meta = job.metadata
    labels = {
        LABEL_NAME: names.label_value(meta.name),
        LABEL_UID: names.label_value(meta.uid),
        LABEL_WORKER_TYPE: "delivery",
    }
    owner = Owner(JOBS.api_version, JOBS.kind, meta.name, meta.uid)
    return {
        "name": name,
        "namespace": meta.namespace,
        "labels": labels,
        "ownerReferences": [owner.reference(is_controller=False)],
    }
