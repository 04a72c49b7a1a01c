"""What a task that runs the user's code is told: command, environment, dataset, seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedloom.api.clients import ClientSpec
from fedloom.api.compatibility import SEDNA, compatibility_of
from fedloom.api.dataset import Dataset
from fedloom.api.job import FederatedLearningJob
from fedloom.api.model import Model
from fedloom.api.places import is_remote
from fedloom.api.pod import PodTemplate
from pipelines.environment import (
    AGGREGATION_TASKS,
    hyperparameters_of,
    sedna_variables,
    variables_of,
)
from pipelines.seeds import Seeds

_NO_MODELS: Mapping[str, Model] = {}


def user_settings(
    job: FederatedLearningJob,
    template: PodTemplate,
    task: str,
    dataset: Dataset | None = None,
    client: ClientSpec | None = None,
    models: Mapping[str, Model] = _NO_MODELS,
) -> dict[str, Any]:
    """Give the settings of `task` that do not change with the round.

    The task is initialize, train or evaluate of a training worker, describe or aggregate of the
    aggregation worker. Beside command, environment, hyperparameters and dataset, where there are any:
    `downloads` (url -> name of the Secret that opens it, perhaps empty), `sedna` (of a Sedna job:
    whether it may write its model, whether its container finds our library, and the name of the Secret
    whose keys its containers get).
    """
    settings: dict[str, Any] = {
        "task": task,
        "command": list(template.command),
        "args": list(template.args),
        "environment": variables_of(job, template, client),
        "hyperparameters": hyperparameters_of(job, template),
        "dataset": dataset.spec.url if dataset is not None else "",
    }
    downloads: dict[str, str] = {}
    if dataset is not None and is_remote(dataset.spec.url):
        downloads[dataset.spec.url] = dataset.spec.credential_name or ""
    if compatibility_of(job.spec):
        settings["environment"] |= sedna_variables(job, task, client, models)
        settings["sedna"] = _sedna(job, task)
        pretrained = job.spec.pretrained_model
        model = models.get(pretrained.name) if pretrained is not None else None
        if model is not None and is_remote(model.spec.url):
            downloads[model.spec.url] = model.spec.credential_name or ""
    return settings | ({"downloads": downloads} if downloads else {})


def pretrained_settings(model: Model) -> dict[str, Any]:
    """Give the settings of a step of ours that starts from a pretrained model.

    The store's own credentials open an `s3://` url that names no Secret.
    """
    url, credential = model.spec.url, model.spec.credential_name or ""
    settings: dict[str, Any] = {"pretrained": url}
    if is_remote(url) and (credential or not url.startswith("s3:")):
        settings["downloads"] = {url: credential}
    return settings


def _sedna(job: FederatedLearningJob, task: str) -> dict[str, Any]:
    """A model is written by whoever trains or aggregates; the first one is made without any data."""
    s3 = job.spec.transmitter.s3 if job.spec.transmitter else None
    return {
        "mounts_model": task in ("train", *AGGREGATION_TASKS),
        "has_library": compatibility_of(job.spec) == SEDNA,
        "secret": (s3.credential_name if s3 is not None else None) or "",
    }


def user_seeds(seeds: Seeds, number: int, client: str) -> Mapping[str, int]:
    """Give the seeds of a client in a round: `seed` of both, `client_seed` of the client alone."""
    return {
        "seed": seeds.of("round", number, client),
        "client_seed": seeds.of("client", 0, client),
    }


def command_of(step: str, client: str | None = None) -> tuple[str, ...]:
    """How a container runs one of our steps; the engine adds `--store` and `--workdir`."""
    whose = ("--client", client) if client else ()
    return ("python", "-I", "-m", f"components.{step}", "--plan", "plan.json", *whose)
