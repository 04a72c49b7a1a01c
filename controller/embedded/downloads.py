"""Datasets and pretrained models that lie elsewhere, brought into the job's state folder before it runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from controller.credentials import endpoint_of, presigner_of
from fedloom.api.clients import clients_of
from fedloom.api.dataset import Dataset
from fedloom.api.documents import Documents
from fedloom.api.job import FederatedLearningJob
from fedloom.api.lookup import secret_of
from fedloom.api.model import Model
from fedloom.api.places import is_remote
from fedloom.api.secret import Secret

_SECONDS = 6 * 3600.0
_PATIENCE_SECONDS = 15.0
"""Somebody sits in front of it."""

Found = tuple[Mapping[str, Dataset], Mapping[str, Model]]


def bring_here(
    documents: Documents, job: FederatedLearningJob, found: Found, folder: Path
) -> Found:
    """Give the same Datasets and Models, those to be downloaded with the path of their file in `folder`.

    What is there already is only asked whether it is still the same. Raises JobError,
    StoreUnavailableError.
    """
    datasets, models = found
    names = {client.dataset for client in clients_of(job)}
    if job.spec.evaluation is not None:
        names.add(job.spec.evaluation.dataset.name)
    wanted = _remote(datasets[name] for name in sorted(names))
    pretrained = job.spec.pretrained_model
    if pretrained is not None:
        wanted |= _remote([models[pretrained.name]])
    if not wanted:
        return found
    from components.download import Downloads  # an HTTP client costs start-up time
    from fedloom.artifacts.retry import RetryPolicy

    downloads = Downloads(folder, RetryPolicy(total_seconds=_PATIENCE_SECONDS))
    here = {
        url: str(downloads.fetch(url, _signed(documents, job, url, name)).path)
        for url, name in wanted.items()
    }
    datasets = {
        name: replace(each, spec=replace(each.spec, url=here.get(each.spec.url, each.spec.url)))
        for name, each in datasets.items()
    }
    if pretrained is not None:
        model = models[pretrained.name]
        moved = replace(
            model, spec=replace(model.spec, url=here.get(model.spec.url, model.spec.url))
        )
        models = {**models, pretrained.name: moved}
    return datasets, models


def _remote(objects: Iterable[Dataset | Model]) -> dict[str, str | None]:
    """The urls to download, and the Secret that opens each."""
    return {
        each.spec.url: each.spec.credential_name for each in objects if is_remote(each.spec.url)
    }


def opening_secret(
    documents: Documents, job: FederatedLearningJob, name: str | None
) -> Secret | None:
    """The Secret that is named, else the job's own one; None where it has none either."""
    s3 = job.spec.transmitter.s3 if job.spec.transmitter else None
    name = name or (s3.credential_name if s3 is not None else None)
    return secret_of(documents, job, name) if name else None


def _signed(
    documents: Documents, job: FederatedLearningJob, url: str, name: str | None
) -> str | None:
    secret = opening_secret(documents, job, name)
    if not url.startswith("s3://") or secret is None:
        return None
    presigner, key = presigner_of(secret, url, endpoint_of(secret), "us-east-1")
    return presigner.get_url(key, _SECONDS)
