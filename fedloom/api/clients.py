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
    """Give the clients in the order of spec.trainingWorkers.

    A client's name is its dataset's. Where several workers have the same dataset, each of them gets
    `-<index>` appended, and once more where that is the name of another client.
    """
    workers = job.spec.training_workers
    counts = Counter(worker.dataset.name for worker in workers)
    taken = {name for name, count in counts.items() if count == 1}
    clients = []
    for index, worker in enumerate(workers):
        name = worker.dataset.name
        if counts[name] > 1:
            name = f"{name}-{index}"
            while name in taken:
                name = f"{name}-{index}"
            taken.add(name)
        clients.append(ClientSpec(name, index, worker.dataset.name, worker))
    return tuple(clients)
