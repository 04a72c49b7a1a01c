"""What is wrong with a job that reads well: what needs more than one field, or another object.

`invalid_fields` looks at one job alone, `missing_references` at what it refers to; `validate` is
both for every job of some documents, and `job_to_run` is the door to running one.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fedloom.api import capabilities, defaults
from fedloom.api.choices import choice_problems
from fedloom.api.combinations import incompatible_fields
from fedloom.api.declaration import declared_fields
from fedloom.api.job import FederatedLearningJob, JobSpec
from fedloom.api.lookup import datasets_of, models_of
from fedloom.api.metadata import Reference
from fedloom.api.pod import PodTemplate
from fedloom.api.quorum import least_updates, rule_of
from fedloom.api.references import credentials_named, node_mismatches
from fedloom.api.transfer_fields import circular_sources, sources_expected
from fedloom.api.wording import at, entry, meant_by, shown
from fedloom.errors import InvalidJobError, Problem

if TYPE_CHECKING:
    from fedloom.api.documents import Documents, Named

CLIENTS_METRICS = "train/"
"""Metrics of this prefix are the clients' and need no evaluation."""

_MOST_SEARCHES = 20


def validate(documents: Documents) -> tuple[Problem, ...]:
    """Find every problem of every job; each field begins with the file and the job."""
    circles = dict(circular_sources(documents.jobs))
    return tuple(
        Problem(f"{documents.where(job)} {problem.field}".strip(), problem.message)
        for index, job in enumerate(documents.jobs)
        for problem in (
            *invalid_fields(job),
            *missing_references(job, documents),
            *([circles[index]] if index in circles else []),
        )
    )


def job_to_run(documents: Documents) -> FederatedLearningJob:
    """Give the one job of the documents, checked and with its defaults filled in.

    Raises InvalidJobError where there is no job, more than one, or anything wrong with it.
    """
    if len(documents.jobs) != 1:
        names = ", ".join(documents.where(job) for job in documents.jobs) or "none"
        message = f"got {names}, expected exactly one FederatedLearningJob"
        raise InvalidJobError([Problem("", message)])
    problems = validate(documents)
    if problems:
        raise InvalidJobError(problems)
    return defaults.with_defaults(documents.jobs[0])


def invalid_fields(job: FederatedLearningJob) -> tuple[Problem, ...]:
    """Find what is wrong with the job as such; fields are paths in its document."""
    spec = job.spec
    checks: tuple[Callable[[JobSpec], Iterator[Problem]], ...] = (
        _clients,
        _rounds,
        _algorithm,
        _aggregation,
        _compression,
        _participation,
        _outcome,
        _transmitter,
        incompatible_fields,
    )
    return (
        *_out_of_bounds(job.metadata, "metadata"),
        *_out_of_bounds(spec, "spec"),
        *(problem for check in checks for problem in check(spec)),
    )


def missing_references(job: FederatedLearningJob, documents: Documents) -> tuple[Problem, ...]:
    """Find the names of datasets, models and secrets that are in no document of the namespace."""
    found = _missing(job, "Dataset", _datasets(job.spec), documents.datasets)
    found += _missing(job, "Model", _models(job.spec), documents.models)
    datasets, models = datasets_of(documents, job), models_of(documents, job)
    found += node_mismatches(job, datasets)
    for path, name in credentials_named(job, datasets, models):
        found += _missing(job, "Secret", [(path, Reference(name))], documents.secrets)
        for secret in documents.secrets:
            if (secret.metadata.namespace, secret.metadata.name) == (job.metadata.namespace, name):
                found += [Problem(path, f"Secret {name!r} has no {key}") for key in secret.lacking]
    return tuple(found)


def _datasets(spec: JobSpec) -> list[tuple[str, Reference]]:
    references = [
        (entry("spec.trainingWorkers", index) + ".dataset.name", worker.dataset)
        for index, worker in enumerate(spec.training_workers)
    ]
    if spec.evaluation:
        references.append(("spec.evaluation.dataset.name", spec.evaluation.dataset))
    return references


def _models(spec: JobSpec) -> list[tuple[str, Reference]]:
    references = {
        "spec.aggregationWorker.model.name": spec.aggregation_worker.model,
        "spec.pretrainedModel.name": spec.pretrained_model,
        "spec.output.model.name": spec.output.model,
    }
    named = [(path, reference) for path, reference in references.items() if reference]
    return named + [
        (entry("spec.transfer.from", index) + ".model", Reference(name))
        for index, name in sources_expected(spec)
    ]


def _missing(
    job: FederatedLearningJob,
    kind: str,
    references: list[tuple[str, Reference]],
    objects: Sequence[Named],
) -> list[Problem]:
    namespace = job.metadata.namespace
    near = {each.metadata.name for each in objects if each.metadata.namespace == namespace}
    far = {each.metadata.name: each.metadata.namespace for each in objects}
    problems: list[Problem] = []
    for path, reference in references:
        name = reference.name
        if name in near:
            continue
        message = f"got {name!r}, expected a {kind} of namespace {namespace!r} in the documents"
        # A search costs milliseconds: a thousand missing names are not worth a thousand of them.
        meant = meant_by(name, sorted(near)) if len(problems) < _MOST_SEARCHES else None
        if meant:
            message += f", did you mean {meant!r}?"
        elif name in far:
            message += f"; there is one in namespace {far[name]!r}"
        elif not near:
            message += f"; there is no {kind} at all"
        problems.append(Problem(path, message))
    return problems


def _out_of_bounds(noun: Any, path: str) -> Iterator[Problem]:
    """Check the declared bounds; of use for jobs that were not read from a document."""
    for field in declared_fields(type(noun)):
        value, where = getattr(noun, field.attribute), at(path, field.name)
        violated = field.declared.bounds.violation(value)
        if violated:
            yield Problem(where, f"got {shown(value)}, expected {violated}")
        parts = value if isinstance(value, tuple) else (value,)
        for index, part in enumerate(parts):
            if dataclasses.is_dataclass(part) and not isinstance(part, PodTemplate):
                inside = entry(where, index) if isinstance(value, tuple) else where
                yield from _out_of_bounds(part, inside)


def _clients(spec: JobSpec) -> Iterator[Problem]:
    if not spec.training_workers:
        yield Problem("spec.trainingWorkers", "got an empty list, expected at least one client")


def _rounds(spec: JobSpec) -> Iterator[Problem]:
    try:
        defaults.rounds_of(spec)
    except InvalidJobError as error:
        yield from error.problems


def _algorithm(spec: JobSpec) -> Iterator[Problem]:
    path, algorithm = defaults.algorithm_of(spec)
    yield from choice_problems(
        (path, algorithm.name),
        ("spec.algorithm.parameters", algorithm.parameters),
        capabilities.ALGORITHMS,
        capabilities.PLANNED_ALGORITHMS,
    )


def _aggregation(spec: JobSpec) -> Iterator[Problem]:
    _, algorithm = defaults.algorithm_of(spec)
    aggregation = spec.aggregation
    if aggregation.rule is not None and algorithm.name in capabilities.ROBUST_RULES:
        message = (
            f"got {aggregation.rule!r} beside algorithm {algorithm.name!r}, which is a rule itself: "
            "expected fedavg or a server optimizer there, or no rule here"
        )
        yield Problem("spec.aggregation.rule", message)
    elif aggregation.rule is not None or aggregation.parameters:
        beside = ("weights", "clipNorm", "clipQuantile", "exclude", "fanIn", "shards")
        yield from choice_problems(
            ("spec.aggregation.rule", aggregation.rule or "mean"),
            ("spec.aggregation", aggregation.parameters),
            capabilities.RULES,
            (),
            beside=("rule", *beside),
        )


def _compression(spec: JobSpec) -> Iterator[Problem]:
    uplink, downlink = spec.compression.uplink, spec.compression.downlink
    for path, codec, catalogue in (
        ("uplink", uplink, capabilities.UPLINK_CODECS),
        ("downlink", downlink, capabilities.DOWNLINK_CODECS),
    ):
        where = f"spec.compression.{path}"
        yield from choice_problems(
            (f"{where}.codec", codec.codec),
            (where, codec.parameters),
            catalogue,
            (),
            beside=("codec", "errorFeedback", "lossless"),
        )
    if uplink.error_feedback and uplink.codec == "dgc":
        message = "got true, expected nothing: dgc keeps what it did not send by itself"
        yield Problem("spec.compression.uplink.errorFeedback", message)
    if downlink.error_feedback is False and downlink.codec != "none":
        message = (
            "got false, expected nothing: what a model loses on its way down is always part of the "
            "next change, or clients would drift away from the server"
        )
        yield Problem("spec.compression.downlink.errorFeedback", message)


def _participation(spec: JobSpec) -> Iterator[Problem]:
    workers, participation = len(spec.training_workers), spec.participation
    per_round, least = participation.clients_per_round, participation.min_clients
    if per_round is not None and per_round > workers:
        message = f"got {per_round}, expected at most {workers}, the number of training workers"
        yield Problem("spec.participation.clientsPerRound", message)
    most = workers if per_round is None else min(per_round, workers)
    if least is not None and least > most:
        message = f"got {least}, expected at most {most}, the number of clients of a round"
        yield Problem("spec.participation.minClients", message)
    _, algorithm = defaults.algorithm_of(spec)
    rule, parameters = rule_of(algorithm, spec.aggregation)
    if rule not in capabilities.RULES:
        return
    needed, why = least_updates(rule, parameters)
    sure = most if least is None else least
    if workers and sure < needed:
        origin = " (every client of a round)" if least is None else ""
        message = f"got {sure}{origin}, expected at least {needed}: {why}"
        yield Problem("spec.participation.minClients", message)


def _outcome(spec: JobSpec) -> Iterator[Problem]:
    stop, output = spec.stop_condition, spec.output
    if stop and stop.threshold is None and stop.patience is None:
        yield Problem(
            "spec.stopCondition", "got neither threshold nor patience, expected one or both"
        )
    if stop and spec.evaluation is None and not stop.metric.startswith(CLIENTS_METRICS):
        message = (
            f"got {stop.metric!r}, which nothing measures: expected spec.evaluation, "
            f"or a metric of the clients ({CLIENTS_METRICS}<name>)"
        )
        yield Problem("spec.stopCondition.metric", message)
    if output.save_policy == "best" and stop is None:
        message = (
            "got 'best', expected a spec.stopCondition beside it: it says which metric is meant"
        )
        yield Problem("spec.output.savePolicy", message)
    if output.alias is None:
        return
    if output.registered_model is None:
        message = f"got {output.alias!r}, expected spec.output.registeredModel beside it"
        yield Problem("spec.output.alias", message)
    if output.alias.lower() == "latest" or re.fullmatch(r"[vV]\d+", output.alias):
        message = f"got {output.alias!r}, which MLflow keeps for itself, expected another name"
        yield Problem("spec.output.alias", message)


def _transmitter(spec: JobSpec) -> Iterator[Problem]:
    s3 = spec.transmitter.s3 if spec.transmitter else None
    if s3 and not re.match(r"s3://[^/]+", s3.agg_data_path):
        message = f"got {shown(s3.agg_data_path)}, expected s3://bucket/prefix"
        yield Problem("spec.transmitter.s3.aggDataPath", message)
