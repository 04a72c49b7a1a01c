"""The clients of a job: one per training worker."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from fedloom.api.job import FederatedLearningJob, TrainingWorker


@dataclass(frozen=True)
class ClientSpec:
    """One client: `name` is unique in the job, `index` its place in spec.trainingWorkers."""

    name: str
    index: int
    dataset: str
    worker: TrainingWorker


def clients_of(job: FederatedLearningJob) -> tuple[ClientSpec, ...]:
    """Give the clients in the order of spec.trainingWorkers."""
    named = zip(client_names(job), job.spec.training_workers, strict=True)
    return tuple(
        ClientSpec(name, index, worker.dataset.name, worker)
        for index, (name, worker) in enumerate(named)
    )


def client_names(job: FederatedLearningJob) -> tuple[str, ...]:
    """Give the clients' names in the order of spec.trainingWorkers.

    A client's name is its dataset's. Where several workers have the same dataset, each of them gets
    `-<index>` appended, and once more where that is the name of another client.
    """
    datasets = [worker.dataset.name for worker in job.spec.training_workers]
    counts = Counter(datasets)
    if len(counts) == len(datasets):
        return tuple(datasets)
    taken = {name for name, count in counts.items() if count == 1}
    names = []
    for index, dataset in enumerate(datasets):
        name = dataset
        if counts[dataset] > 1:
            name = f"{dataset}-{index}"
            while name in taken:
                name = f"{name}-{index}"
            taken.add(name)
        names.append(name)
    return tuple(names)
