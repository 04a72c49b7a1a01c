"""The final model of an embedded run, copied to where the job's Models say."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from components.connection import connect
from components.exported import NPZ, file_for, is_another, write_as
from controller.credentials import credentials_of, endpoint_of
from controller.embedded.downloads import opening_secret
from fedloom.api.documents import Documents
from fedloom.api.job import FederatedLearningJob
from fedloom.api.lookup import models_of
from fedloom.api.model import Model
from fedloom.artifacts.store import Store
from fedloom.errors import FedloomError, JobError

Notice = tuple[str, str]


def export_model(
    documents: Documents, job: FederatedLearningJob, store: Store, last: Mapping[str, Any]
) -> Iterator[Notice]:
    """Copy the model of the last round; give what is to be said about it: (reason, message).

    Nothing is raised: the model is in the job's store, whatever becomes of a copy.
    """
    models = models_of(documents, job)
    references = (job.spec.aggregation_worker.model, job.spec.output.model)
    for name in dict.fromkeys(reference.name for reference in references if reference):
        model = models[name]
        try:
            target = _export(documents, job, store, last, model)
        except (OSError, FedloomError) as error:
            yield "ModelNotSaved", f"Model {name!r}: {model.spec.url}: {error}"
            continue
        if is_another(model.spec.url, name):
            yield "ModelSaved", f"Model {name!r} is in {target}, in the safetensors format"


def _export(
    documents: Documents,
    job: FederatedLearningJob,
    store: Store,
    last: Mapping[str, Any],
    model: Model,
) -> str:
    url = model.spec.url
    key, digest = last["model"]["key"], last["model"]["digest"]
    target = file_for(url, model.metadata.name)
    scheme, mark, rest = target.partition("://")
    with tempfile.TemporaryDirectory(prefix="fedloom-") as scratch:
        path = store.materialize(key, Path(scratch), digest=digest)
        if mark and scheme == "s3":
            _upload(documents, job, path, target, model)
        elif mark and scheme != "file":
            raise JobError(
                "UrlNotWritable", f"got {scheme}://, expected a path or s3:// to write a model to"
            )
        else:
            write_as(path, documents.base_folder / (rest if mark else target))
    return target


def _upload(
    documents: Documents, job: FederatedLearningJob, path: Path, target: str, model: Model
) -> None:
    secret = opening_secret(documents, job, model.spec.credential_name)
    folder, _, name = target.rpartition("/")
    settings: dict[str, Any] = {"store": folder}
    if secret is not None:
        settings |= {"endpoint": endpoint_of(secret), "credentials": credentials_of(secret)}
    if name.lower().endswith(NPZ):
        converted = path.with_name("model.npz")
        write_as(path, converted)
        path = converted
    connect(settings).put_file(name, path, replace=True)
