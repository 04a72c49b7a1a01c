"""What tracking is told of a job, once: settings and sources, never variables or credentials."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from components.user_code import class_script
from fedloom.api.clients import clients_of
from fedloom.api.dataset import Dataset
from fedloom.api.job import FederatedLearningJob
from fedloom.tracking.tracker import DatasetDescription, JobDescription
from pipelines.environment import public_parameters

if TYPE_CHECKING:
    from fedloom.tracking.tracker import Goal, SavePolicy


def describe(
    job: FederatedLearningJob, datasets: Mapping[str, Dataset], base: Path
) -> JobDescription:
    """Describe the job to tracking: settings and sources, never variables or credentials."""
    output, stop = job.spec.output, job.spec.stop_condition
    return JobDescription(
        namespace=job.metadata.namespace,
        name=job.metadata.name,
        uid=job.metadata.uid,
        rounds=job.spec.rounds or 1,
        parameters={name: str(value) for name, value in public_parameters(job).items()},
        datasets=tuple(_datasets(job, datasets)),
        registered_model=output.registered_model,
        alias=output.alias,
        save_policy=cast("SavePolicy", output.save_policy),
        best_metric=stop.metric if stop else None,
        best_goal=cast("Goal", stop.goal if stop else "maximize"),
        script=_script(job, base),
    )


def _datasets(
    job: FederatedLearningJob, datasets: Mapping[str, Dataset]
) -> Iterator[DatasetDescription]:
    for client in clients_of(job):
        source = datasets[client.dataset].spec.url
        yield DatasetDescription(client.dataset, source, client=client.name)
    if job.spec.evaluation is not None:
        name = job.spec.evaluation.dataset.name
        yield DatasetDescription(name, datasets[name].spec.url, context="evaluation")


def _script(job: FederatedLearningJob, base: Path) -> str | None:
    """The training script, where it is a Python class: its `predict` serves the registered model."""
    template = job.spec.training_workers[0].template
    found = class_script((*template.command, *template.args), base.absolute())
    return None if found is None else str(found[0])
