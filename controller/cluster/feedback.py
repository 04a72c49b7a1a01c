"""What a committed round tells other objects: how many samples a Dataset has, how good a Model is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from controller.cluster.job_status import texts
from controller.cluster.kubernetes import Cluster, Document
from controller.cluster.resolve import Objects
from controller.cluster.resources import DATASETS, MODELS, Resource
from fedloom.api.clients import clients_of
from fedloom.api.job import FederatedLearningJob


def tell_datasets(
    cluster: Cluster,
    objects: Objects,
    job: FederatedLearningJob,
    result: Mapping[str, Any],
    is_counted: Callable[[tuple[str, str]], bool],
) -> None:
    """Fill in status.numberOfSamples of the Datasets that were trained on, where it is another.

    Those that `is_counted` names, by namespace and name, are counted on their own nodes.
    """
    time = rfc3339(result["finished"])
    for client in clients_of(job):
        samples = (result["clients"].get(client.name) or {}).get("num_examples")
        if samples is None or is_counted((job.metadata.namespace, client.dataset)):
            continue
        known = _status(objects, DATASETS, job, client.dataset)
        if known is not None and known.get("numberOfSamples") != samples:
            status = {"numberOfSamples": samples, "updateTime": time}
            _patch(cluster, DATASETS, job, client.dataset, status)


def tell_model(
    cluster: Cluster, objects: Objects, job: FederatedLearningJob, result: Mapping[str, Any]
) -> None:
    """Fill in status.metrics of the job's Model with those of a committed round."""
    name = (job.spec.output.model or job.spec.aggregation_worker.model).name
    metrics = [{"key": key, "value": value} for key, value in texts(result["metrics"]).items()]
    known = _status(objects, MODELS, job, name)
    if known is not None and metrics and known.get("metrics") != metrics:
        status = {"metrics": metrics, "updateTime": rfc3339(result["finished"])}
        _patch(cluster, MODELS, job, name, status)


def rfc3339(seconds: float) -> str:
    """A unix time as Kubernetes writes it, in whole seconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _status(
    objects: Objects, resource: Resource, job: FederatedLearningJob, name: str
) -> Mapping[str, Any] | None:
    document = objects.get(resource, job.metadata.namespace, name)
    return None if document is None else document.get("status") or {}


def _patch(
    cluster: Cluster, resource: Resource, job: FederatedLearningJob, name: str, status: Document
) -> None:
    cluster.patch(resource, job.metadata.namespace, name, {"status": status}, "status")
