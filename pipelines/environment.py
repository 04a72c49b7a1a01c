"""Variables and hyperparameters of a user's container, in Sedna's spelling and in the job's."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from fedloom.api.clients import ClientSpec
from fedloom.api.declaration import camel_case
from fedloom.api.job import FederatedLearningJob, JobSpec
from fedloom.api.pod import PodTemplate


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
    """Every variable of a user's container except the FEDLOOM_* ones of the task.

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
        variables |= {"WORKER_NAME": f"trainworker-{client.name}", "DATASET_NAME": client.dataset}
    return variables


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


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
