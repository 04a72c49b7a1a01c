"""Variables and hyperparameters of a user's container, in Sedna's spelling and in the job's."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from fedloom.api.clients import ClientSpec
from fedloom.api.compatibility import WEBSOCKET, compatibility_of
from fedloom.api.declaration import camel_case
from fedloom.api.job import FederatedLearningJob, JobSpec
from fedloom.api.model import Model
from fedloom.api.pod import PodTemplate
from fedloom.api.transfer import source_name

AGGREGATION_TASKS = ("describe", "aggregate")
"""Tasks of the aggregation worker's container; all others are a training worker's."""
AGGREGATION_PORT = "7363"


def hyperparameters_of(job: FederatedLearningJob, template: PodTemplate) -> dict[str, Any]:
    """The job's hyperparameters, where a variable of the worker's template with the same name wins.

    The same name: as the job spells it (`batchSize`), in snake case (`batch_size`) or upper case
    (`BATCH_SIZE`). The variable's text is read as JSON where it is JSON, else kept as text.
    """
    values = dict(job.spec.hyperparameters)
    for name in values:
        for spelling in spellings(name):
            if spelling in template.environment:
                values[name] = _parse(template.environment[spelling])
                break
    return values


def variables_of(
    job: FederatedLearningJob, template: PodTemplate, client: ClientSpec | None
) -> dict[str, str]:
    """Every variable of a user's container except the FEDLOOM_* ones of the task, and Sedna's.

    Order of precedence: the system's names, then the template's own, then hyperparameters.
    """
    variables: dict[str, str] = {}
    for name, value in job.spec.hyperparameters.items():
        for spelling in spellings(name):
            variables[spelling] = value if isinstance(value, str) else json.dumps(value)
    variables |= template.environment
    variables |= {
        "NAMESPACE": job.metadata.namespace,
        "JOB_NAME": job.metadata.name,
        "PARTICIPANTS_COUNT": str(len(job.spec.training_workers)),
        "MODEL_NAME": job.spec.aggregation_worker.model.name,
    }
    if client is not None:
        variables |= {"WORKER_NAME": worker_name(client.name), "DATASET_NAME": client.dataset}
    return variables


def sedna_variables(
    job: FederatedLearningJob, task: str, client: ClientSpec | None, models: Mapping[str, Model]
) -> dict[str, str]:
    """What a container of a Sedna job finds beside that; nothing for any other job.

    Urls of models stand here as they are written: the engine puts in where its container sees them.
    """
    spec = job.spec
    compatibility = compatibility_of(spec)
    if not compatibility:
        return {}
    s3 = spec.transmitter.s3 if spec.transmitter else None
    variables = {"TRANSMITTER": "ws" if s3 is None else "s3"}
    if s3 is not None:
        variables["AGG_DATA_PATH"] = s3.agg_data_path
    is_aggregator = task in AGGREGATION_TASKS
    if is_aggregator:
        variables["WORKER_NAME"] = f"aggworker-{job.metadata.name}"
    elif client is None:
        variables["WORKER_NAME"] = worker_name(task)
    if compatibility == WEBSOCKET:
        variables["AGG_BIND_PORT" if is_aggregator else "AGG_PORT"] = AGGREGATION_PORT
    urls = {
        "MODEL_URL": spec.aggregation_worker.model,
        "PRETRAINED_MODEL_URL": spec.pretrained_model,
    }
    return variables | {
        name: models[reference.name].spec.url
        for name, reference in urls.items()
        if reference is not None and reference.name in models
    }


def worker_name(client: str) -> str:
    """The WORKER_NAME of a client's container, by which Sedna's library names it to others."""
    return f"trainworker-{client}"


def spellings(name: str) -> tuple[str, ...]:
    """`batchSize` -> `batchSize`, `batch_size`, `BATCH_SIZE`; each once."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return tuple(dict.fromkeys((name, snake, snake.upper())))


def public_parameters(job: FederatedLearningJob) -> Mapping[str, Any]:
    """What of the job belongs on a tracking page: settings, never variables or credentials."""
    spec = job.spec
    algorithm = spec.algorithm
    return {
        "rounds": spec.rounds,
        "clients": len(spec.training_workers),
        "algorithm": algorithm.name if algorithm else "fedavg",
        **{f"algorithm.{k}": v for k, v in (algorithm.parameters if algorithm else {}).items()},
        **dict(spec.hyperparameters),
        "uplink.codec": spec.compression.uplink.codec,
        "downlink.codec": spec.compression.downlink.codec,
        "clientsPerRound": spec.participation.clients_per_round,
        "minClients": spec.participation.min_clients,
        "seed": spec.participation.seed,
        **_privacy_parameters(spec),
        **_transfer_parameters(spec),
    }


def _privacy_parameters(spec: JobSpec) -> dict[str, Any]:
    """What a job with privacy was promised, under the names of its YAML; nothing for the others."""
    if spec.privacy is None:
        return {}
    found = asdict(spec.privacy)
    local = {f"local.{name}": value for name, value in (found.pop("local") or {}).items()}
    named = {camel_case(name): value for name, value in (found | local).items()}
    kept = {f"privacy.{k}": v for k, v in named.items() if v is not None and v is not False}
    return kept | {"participation.sampling": spec.participation.sampling}


def _transfer_parameters(spec: JobSpec) -> dict[str, Any]:
    """What a job learns from, under the names of its YAML; nothing for the others."""
    transfer = spec.transfer
    if transfer is None:
        return {}
    found: dict[str, Any] = {"transfer.mode": transfer.mode, "transfer.fallback": transfer.fallback}
    if transfer.sources:
        found["transfer.from"] = ", ".join(source_name(each) for each in transfer.sources)
    if transfer.anchor is not None:
        found["transfer.anchor"] = f"{transfer.anchor.kind} {transfer.anchor.mu:g}"
    found |= {"transfer.personalize": transfer.personalize, "transfer.freeze": transfer.freeze}
    return {name: value for name, value in found.items() if value}


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
