"""What a job's Datasets and Models name in their turn: Secrets that open urls, nodes that hold data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fedloom.api.dataset import Dataset
from fedloom.api.job import FederatedLearningJob
from fedloom.api.model import Model
from fedloom.api.places import folder_to_mount, is_path, is_remote
from fedloom.api.programs import evaluation_template
from fedloom.api.wording import entry
from fedloom.errors import Problem


def credentials_named(
    job: FederatedLearningJob, datasets: Mapping[str, Dataset], models: Mapping[str, Model]
) -> Iterator[tuple[str, str]]:
    """Give (field, name of the Secret) of everything that is opened with one; each Secret once.

    A path of a node needs none, whatever its object says.
    """
    s3 = job.spec.transmitter.s3 if job.spec.transmitter else None
    named = [("spec.transmitter.s3.credentialName", s3.credential_name if s3 else None)]
    for field, dataset in _datasets(job, datasets):
        if is_remote(dataset.spec.url):
            named.append((f"{field} ({dataset.metadata.name})", dataset.spec.credential_name))
    transfer = job.spec.transfer
    for index, source in enumerate(transfer.sources if transfer is not None else ()):
        named.append((entry("spec.transfer.from", index), source.credential_name))
    for field, model in _models(job, models):
        if is_remote(model.spec.url):
            named.append((f"{field} ({model.metadata.name})", model.spec.credential_name))
    seen: set[str] = set()
    for field, name in named:
        if name and name not in seen:
            seen.add(name)
            yield field, name


def node_mismatches(
    job: FederatedLearningJob, datasets: Mapping[str, Dataset]
) -> Iterator[Problem]:
    """Find the workers whose template names another node than the one that holds their data.

    An evaluation runs on the aggregation worker's node, if that has one.
    """
    for index, worker in enumerate(job.spec.training_workers):
        dataset = datasets.get(worker.dataset.name)
        if dataset is None or not is_path(dataset.spec.url):
            continue
        wanted, there = worker.template.node_name, dataset.spec.node_name
        if wanted and there and wanted != there:
            where = entry("spec.trainingWorkers", index) + ".template.spec.nodeName"
            yield Problem(
                where,
                f"got {wanted!r}, but the data of Dataset {dataset.metadata.name!r} lies on node "
                f"{there!r}: expected the same node",
            )
    evaluation, wanted = job.spec.evaluation, job.spec.aggregation_worker.template.node_name
    dataset = datasets.get(evaluation.dataset.name) if evaluation is not None else None
    if dataset is None or not wanted or dataset.spec.node_name in (wanted, None, ""):
        return
    if folder_to_mount(dataset.spec.url, evaluation_template(job.spec).container) is not None:
        yield Problem(
            "spec.aggregationWorker.template.spec.nodeName",
            f"got {wanted!r}, where evaluations run too, but the data of Dataset {dataset.metadata.name!r} "
            f"lies on node {dataset.spec.node_name!r}: expected the same node, or an s3:// or https:// url",
        )


def _datasets(
    job: FederatedLearningJob, datasets: Mapping[str, Dataset]
) -> Iterator[tuple[str, Dataset]]:
    for index, worker in enumerate(job.spec.training_workers):
        if worker.dataset.name in datasets:
            yield (
                entry("spec.trainingWorkers", index) + ".dataset.name",
                datasets[worker.dataset.name],
            )
    evaluation = job.spec.evaluation
    if evaluation is not None and evaluation.dataset.name in datasets:
        yield "spec.evaluation.dataset.name", datasets[evaluation.dataset.name]


def _models(job: FederatedLearningJob, models: Mapping[str, Model]) -> Iterator[tuple[str, Model]]:
    spec = job.spec
    for field, reference in (
        ("spec.aggregationWorker.model.name", spec.aggregation_worker.model),
        ("spec.pretrainedModel.name", spec.pretrained_model),
        ("spec.output.model.name", spec.output.model),
    ):
        if reference is not None and reference.name in models:
            yield field, models[reference.name]
