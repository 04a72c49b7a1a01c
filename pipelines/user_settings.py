"""What a task that runs the user's code is told: command, environment, dataset, seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedloom.api.clients import ClientSpec
from fedloom.api.dataset import Dataset
from fedloom.api.job import FederatedLearningJob
from fedloom.api.pod import PodTemplate
from pipelines.environment import hyperparameters_of, variables_of
from pipelines.seeds import Seeds


def user_settings(
    job: FederatedLearningJob,
    template: PodTemplate,
    task: str,
    dataset: Dataset | None = None,
    client: ClientSpec | None = None,
) -> dict[str, Any]:
    """Give the settings of `task` (initialize, train, evaluate) that do not change with the round."""
    return {
        "task": task,
        "command": list(template.command),
        "args": list(template.args),
        "environment": variables_of(job, template, client),
        "hyperparameters": hyperparameters_of(job, template),
        "dataset": dataset.spec.url if dataset is not None else "",
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
