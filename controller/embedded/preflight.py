"""What must be right on this machine before an embedded run writes anything."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from controller.budget import budget_problems
from fedloom.api.capabilities import SCRIPT_RULE
from fedloom.api.clients import clients_of
from fedloom.api.dataset import Dataset
from fedloom.api.job import FederatedLearningJob
from fedloom.api.model import Model
from fedloom.api.places import is_remote, url_problem
from fedloom.api.pod import PodTemplate
from fedloom.api.split_fields import is_split
from fedloom.errors import InvalidJobError, Problem


def check_machine(
    job: FederatedLearningJob,
    datasets: Mapping[str, Dataset],
    models: Mapping[str, Model],
    base: Path,
) -> dict[str, float]:
    """Check that data, models and commands are there, and that a round fits into the privacy budget.

    Gives each client's data size in bytes.

    Raises InvalidJobError with every problem.
    """
    problems: list[Problem] = [*budget_problems(job.spec)]
    sizes: dict[str, float] = {}
    for client in clients_of(job):
        field = f"spec.trainingWorkers[{client.index}]"
        problems += _command_problems(client.worker.template, f"{field}.template")
        size, found = _data_size(datasets[client.dataset], base, f"{field}.dataset.name")
        problems += [*found, *_secret_problems(job, datasets[client.dataset], field)]
        sizes[client.name] = size
    if job.spec.aggregation.rule == SCRIPT_RULE:
        template = job.spec.aggregation_worker.template
        problems += _command_problems(template, "spec.aggregationWorker.template")
    evaluation = job.spec.evaluation
    if evaluation is not None:
        dataset = datasets[evaluation.dataset.name]
        problems += _data_size(dataset, base, "spec.evaluation.dataset.name")[1]
        if evaluation.template is not None:
            problems += _command_problems(evaluation.template, "spec.evaluation.template")
    if job.spec.pretrained_model is not None:
        model = models[job.spec.pretrained_model.name]
        problems += _pretrained_problems(model, base, any_format=is_split(job.spec))
    if problems:
        raise InvalidJobError(dict.fromkeys(problems))
    return sizes


def _command_problems(template: PodTemplate, field: str) -> list[Problem]:
    where = f"{field}.spec.containers[0].command"
    if not template.command:
        message = (
            "got no command, expected one: embedded runs ignore the image, "
            "so they cannot know its entrypoint"
        )
        return [Problem(where, message)]
    return []


def _data_size(dataset: Dataset, base: Path, field: str) -> tuple[float, list[Problem]]:
    """Give the bytes of a dataset on this machine and what is wrong with it."""
    url = dataset.spec.url
    name = f"Dataset {dataset.metadata.name!r} (url {url!r})"
    if "://" in url:
        return 0.0, _url_problems(url, name, field)
    path = base / url
    try:
        size = _folder_size(path) if path.is_dir() else path.stat().st_size
        if not os.access(path, os.R_OK):
            return 0.0, [Problem(field, f"{name}: {path} cannot be read: permission denied")]
    except FileNotFoundError:
        return 0.0, [Problem(field, f"{name}: {path} does not exist")]
    except OSError as error:
        return 0.0, [Problem(field, f"{name}: {path} cannot be read: {error.strerror}")]
    if size == 0:
        return 0.0, [Problem(field, f"{name}: {path} is empty")]
    return float(size), []


def _url_problems(url: str, name: str, field: str) -> list[Problem]:
    """Say what is wrong with a url; what can be downloaded is looked at once it is here."""
    if not is_remote(url):
        message = f"{name}: got another scheme, expected a path, s3://, http:// or https://"
        return [Problem(field, message)]
    problem = url_problem(url)
    return [] if problem is None else [Problem(field, f"{name}: {problem}")]


def _secret_problems(job: FederatedLearningJob, dataset: Dataset, field: str) -> list[Problem]:
    s3 = job.spec.transmitter.s3 if job.spec.transmitter else None
    own = s3.credential_name if s3 is not None else None
    if not dataset.spec.url.startswith("s3://") or dataset.spec.credential_name or own:
        return []
    name = f"Dataset {dataset.metadata.name!r} (url {dataset.spec.url!r})"
    message = f"{name}: got no credentialName, expected the Secret that opens it"
    return [Problem(f"{field}.dataset.name", f"{message}; what is public has an https:// url")]


def _folder_size(folder: Path) -> int:
    return sum(entry.stat().st_size for entry in folder.rglob("*") if entry.is_file())


def _pretrained_problems(model: Model, base: Path, *, any_format: bool) -> list[Problem]:
    """Look at the file; with `any_format` the user's own program reads it."""
    field = "spec.pretrainedModel.name"
    name = f"Model {model.metadata.name!r} (url {model.spec.url!r})"
    if "://" in model.spec.url:
        return _url_problems(model.spec.url, name, field)
    path = base / model.spec.url
    if not path.is_file():
        return [Problem(field, f"{name}: {path} does not exist")]
    if path.suffix != ".safetensors" and not any_format:
        return [
            Problem(field, f"{name}: got a {path.suffix or 'nameless'} file, expected .safetensors")
        ]
    return []
