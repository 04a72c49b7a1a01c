"""Find what a job refers to among the documents of its namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedloom.api.dataset import Dataset
from fedloom.api.job import FederatedLearningJob
from fedloom.api.model import Model
from fedloom.api.secret import Secret

if TYPE_CHECKING:
    from fedloom.api.documents import Documents  # which looks things up here itself


def datasets_of(documents: Documents, job: FederatedLearningJob) -> dict[str, Dataset]:
    """The datasets of the job's namespace by name."""
    return {d.metadata.name: d for d in documents.datasets if _is_near(d, job)}


def models_of(documents: Documents, job: FederatedLearningJob) -> dict[str, Model]:
    """The models of the job's namespace by name."""
    return {m.metadata.name: m for m in documents.models if _is_near(m, job)}


def secret_of(documents: Documents, job: FederatedLearningJob, name: str) -> Secret:
    """The secret `name` of the job's namespace. Raises KeyError; a validated job has it."""
    return {s.metadata.name: s for s in documents.secrets if _is_near(s, job)}[name]


def _is_near(noun: Dataset | Model | Secret, job: FederatedLearningJob) -> bool:
    return noun.metadata.namespace == job.metadata.namespace
