"""Jobs of people who come from Sedna: which ones they are, and what their scripts say about them.

Sedna's document names no rounds, no quorum and hardly an algorithm: its aggregation script does. So that
script is asked once, in round 0, and what it said is the job's from then on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fedloom.api import capabilities, defaults
from fedloom.api.compatibility import SEDNA, WEBSOCKET
from fedloom.api.job import MOST_ROUNDS, Algorithm, FederatedLearningJob, JobSpec
from fedloom.api.validation import invalid_fields
from fedloom.errors import InvalidJobError, JobError

PROBLEM = "problem"
"""What a description says, and nothing else, where the script said nothing that can be used."""

_MOST_CLIENTS = 50_000
_LONGEST_NAME = 63


def checked_description(document: object) -> dict[str, Any]:
    """Take what a script said about its job: `algorithm`, `aggregation`, `rounds`, `participants`.

    What it did not say (absent or null) is left out, and so is what nobody knows here. Raises
    JobError("BadDescription").
    """
    if not isinstance(document, Mapping):
        raise _bad("", document, "an object")
    said: dict[str, Any] = {}
    for name in ("algorithm", "aggregation"):
        text = document.get(name)
        if text is None:
            continue
        if not isinstance(text, str) or not text.strip() or len(text) > _LONGEST_NAME:
            raise _bad(name, text, f"a name of at most {_LONGEST_NAME} characters")
        said[name] = text.strip()
    for name, most in (("rounds", MOST_ROUNDS), ("participants", _MOST_CLIENTS)):
        count = document.get(name)
        if count is None:
            continue
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= most:
            raise _bad(name, count, f"an integer from 1 to {most}")
        said[name] = count
    return said


def described(job: FederatedLearningJob, description: Mapping[str, Any]) -> FederatedLearningJob:
    """Give the job, defaults filled in, as its aggregation script described it.

    What the document or a template's environment says stays: the script is asked for the rest. More
    participants than training workers are all of them. Doing it twice changes nothing more.

    Raises InvalidJobError where the job that comes out cannot be run.
    """
    spec = job.spec if job.written is None else job.written
    if PROBLEM in description:
        description = {}
    filled = replace(
        spec,
        compat=spec.compat or SEDNA,
        rounds=_rounds(spec, description),
        algorithm=_algorithm(spec, description),
        aggregation=_aggregation(spec, description),
        participation=_participation(spec, description),
    )
    whole = replace(job, spec=filled, written=None)
    problems = invalid_fields(whole)
    if problems:
        raise InvalidJobError(problems)
    return replace(defaults.with_defaults(whole), written=spec)


def as_scripts(job: FederatedLearningJob) -> FederatedLearningJob:
    """Give the job as it runs without a cluster, where images are not there: its scripts, which import sedna.

    Any job but one with `compat: websocket` stays as it is.
    """
    if job.spec.compat != WEBSOCKET:
        return job
    return replace(job, spec=replace(job.spec, compat=SEDNA))


def _rounds(spec: JobSpec, description: Mapping[str, Any]) -> int | None:
    if spec.rounds is not None or _says(spec, defaults.ROUNDS_VARIABLES):
        return spec.rounds
    return description.get("rounds")


def _algorithm(spec: JobSpec, description: Mapping[str, Any]) -> Algorithm | None:
    name = description.get("algorithm")
    if spec.algorithm is not None or name is None or _says(spec, defaults.ALGORITHM_VARIABLES):
        return spec.algorithm
    return Algorithm(str(name).lower())


def _aggregation(spec: JobSpec, description: Mapping[str, Any]) -> Any:
    _, algorithm = defaults.algorithm_of(spec)
    is_written = spec.aggregation.rule is not None or algorithm.name in capabilities.ROBUST_RULES
    if is_written or description.get("aggregation") is None:
        return spec.aggregation
    return replace(spec.aggregation, rule=capabilities.SCRIPT_RULE)


def _participation(spec: JobSpec, description: Mapping[str, Any]) -> Any:
    participation, count = spec.participation, description.get("participants")
    if participation.min_clients is not None or count is None:
        return participation
    per_round = participation.clients_per_round or len(spec.training_workers)
    return replace(participation, min_clients=min(count, per_round, len(spec.training_workers)))


def _says(spec: JobSpec, variables: tuple[str, ...]) -> bool:
    return defaults.from_environment(spec, variables) is not None


def _bad(field: str, got: object, expected: str) -> JobError:
    name = f"the script's description: {field}".removesuffix(": ")
    return JobError("BadDescription", f"{name}: got {str(got)[:80]!r}, expected {expected}")
