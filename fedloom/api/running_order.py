"""Which jobs of some documents are run, and in which order: sources before who learns from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedloom.api import defaults
from fedloom.api.job import FederatedLearningJob
from fedloom.api.transfer_fields import Key, key_of, sources_of
from fedloom.api.validation import validate
from fedloom.errors import InvalidJobError, Problem

if TYPE_CHECKING:
    from fedloom.api.documents import Documents


def jobs_to_run(documents: Documents) -> tuple[FederatedLearningJob, ...]:
    """Give the jobs of the documents, checked, with their defaults, in the order to run them in.

    More than one only where each learns from another of them or teaches one. Raises InvalidJobError.
    """
    jobs = documents.jobs
    known = {key_of(job) for job in jobs}
    teachers = {key for job in jobs for key in sources_of(job)} & known
    related = teachers | {key_of(job) for job in jobs if teachers.intersection(sources_of(job))}
    if not jobs or (len(jobs) > 1 and known != related):
        names = ", ".join(documents.where(job) for job in jobs) or "none"
        message = (
            f"got {names}, expected exactly one FederatedLearningJob, or several that learn from one "
            "another (spec.transfer.from)"
        )
        raise InvalidJobError([Problem("", message)])
    problems = validate(documents)
    if problems:
        raise InvalidJobError(problems)
    return _ordered(jobs, known)


def _ordered(
    jobs: tuple[FederatedLearningJob, ...], known: set[Key]
) -> tuple[FederatedLearningJob, ...]:
    """Jobs without circles, which `validate` has looked for."""
    order: dict[Key, FederatedLearningJob] = {}
    while len(order) < len(jobs):
        for job in jobs:
            before = known.intersection(sources_of(job)) - order.keys()
            if key_of(job) not in order and not before:
                order[key_of(job)] = defaults.with_defaults(job)
    return tuple(order.values())
