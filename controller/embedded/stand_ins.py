"""What stands on this machine for what documents name: a folder for nodes' disks, commands for images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from controller.images import Images, with_images
from fedloom.api.dataset import Dataset
from fedloom.api.documents import Documents
from fedloom.api.job import FederatedLearningJob
from fedloom.api.model import Model

_Named = TypeVar("_Named", Dataset, Model)


def on_this_machine(documents: Documents, root: Path | None, images: Images) -> Documents:
    """Give the documents with `root` for the nodes' disks and for the store, and with `images` in place.

    Absolute paths of Datasets and Models begin at `root`, and artifacts stay in the state folder where
    the job names a bucket. Relative paths and all other urls stay; without `root` everything does.
    """
    return replace(
        documents,
        jobs=tuple(_without_bucket(with_images(job, images), root) for job in documents.jobs),
        datasets=tuple(_below(dataset, root) for dataset in documents.datasets),
        models=tuple(_below(model, root) for model in documents.models),
    )


def _without_bucket(job: FederatedLearningJob, root: Path | None) -> FederatedLearningJob:
    return job if root is None else replace(job, spec=replace(job.spec, transmitter=None))


def _below(named: _Named, root: Path | None) -> _Named:
    url = named.spec.url
    if root is None or not url.startswith("/"):
        return named
    path = str(root.absolute() / url.lstrip("/"))
    return replace(named, spec=replace(named.spec, url=path))
