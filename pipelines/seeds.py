"""Every seed of a job, from the one that its spec names."""

from __future__ import annotations

from fedloom.algorithms.sampling import derive_seed
from fedloom.api.job import FederatedLearningJob

_MASK = 2**31 - 1  # any language's integer holds it


class Seeds:
    """Seeds of one job; each purpose, round and client has its own, the same on a retry."""

    def __init__(self, job: FederatedLearningJob) -> None:
        self._name = job.metadata.name
        self._seed = job.spec.participation.seed

    def of(self, purpose: str, number: int, client: str) -> int:
        """Give the seed of a purpose in a round (0: of none) for a client."""
        return derive_seed(purpose, self._name, self._seed, number, client) & _MASK
