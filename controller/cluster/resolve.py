"""From the objects of a cluster to a job that can be run, or to what is wrong or missing. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from controller.cluster.nodes import Node, is_edge, matching, placements_of
from controller.cluster.resources import DATASETS, JOBS, MODELS, SECRETS, Resource
from controller.cluster.sources import look_at_sources, source_secrets
from controller.images import Images, with_images
from controller.sources import Looked
from fedloom.api import status as words
from fedloom.api.clients import clients_of
from fedloom.api.dataset import Dataset
from fedloom.api.defaults import with_defaults
from fedloom.api.job import FederatedLearningJob
from fedloom.api.model import Model
from fedloom.api.places import url_problem
from fedloom.api.reading import read_job, read_object, read_secret
from fedloom.api.references import credentials_named, node_mismatches
from fedloom.api.secret import Secret
from fedloom.api.size import size_problem
from fedloom.api.validation import invalid_fields
from fedloom.errors import InvalidJobError, Problem
from pipelines.placement import place_evaluation

_SHOWN = 10
_NO_IMAGES: Images = {}


class Objects(Protocol):
    """Where the objects of the cluster are looked up."""

    def get(self, resource: Resource, namespace: str, name: str) -> Mapping[str, Any] | None: ...

    def nodes(self) -> Sequence[Node] | None:
        """All nodes; None where nodes are not known."""
        ...


@dataclass(frozen=True)
class Finding:
    """Why something is not as it should be: a CamelCase word and a sentence."""

    reason: str
    message: str


@dataclass(frozen=True)
class Resolved:
    """A job and what it refers to.

    Attributes:
        job: with its defaults; None where the document is no valid job.
        invalid: what is wrong with the document, for the condition Accepted.
        missing: what it refers to and is not there or not usable, for ResolvedRefs.
        secret: of spec.transmitter.s3.credentialName, where that is set.
        secrets: by name, those that open urls of Datasets, Models, and what the job learns from.
        sources: of a job that learns from others, what is known of each but those in the registry.
    """

    job: FederatedLearningJob | None
    invalid: Finding | None = None
    missing: Finding | None = None
    datasets: Mapping[str, Dataset] = field(default_factory=dict)
    models: Mapping[str, Model] = field(default_factory=dict)
    secret: Secret | None = None
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    sources: tuple[Looked, ...] = ()

    @property
    def is_complete(self) -> bool:
        return self.job is not None and self.missing is None


def resolve(document: Mapping[str, Any], objects: Objects, images: Images = _NO_IMAGES) -> Resolved:
    """Read a job's document, with `images` in the place of its own, and look up all that it names."""
    try:
        job = _checked(document, images)
    except InvalidJobError as error:
        return Resolved(None, invalid=Finding(words.REASON_INVALID, str(error)))
    search = _Search(job, objects)
    datasets = {name: search.dataset(name) for name in _dataset_names(job)}
    models = {name: search.model(name) for name in _model_names(job)}
    found = {name: dataset for name, dataset in datasets.items() if dataset is not None}
    known = {name: model for name, model in models.items() if model is not None}
    search.look_at_urls(found, known)
    secrets = {
        name: each
        for _, name in credentials_named(job, found, known)
        if (each := search.secret(name)) is not None
    }
    sources = look_at_sources(job, objects)
    for name in source_secrets(sources):
        if name not in secrets and (each := search.secret(name)) is not None:
            secrets[name] = each
    s3 = job.spec.transmitter.s3 if job.spec.transmitter else None
    search.look_at_nodes(found)
    return Resolved(
        job,
        missing=search.finding(),
        datasets=found,
        models=known,
        secret=secrets.get(s3.credential_name or "") if s3 is not None else None,
        secrets=secrets,
        sources=sources,
    )


def names_of(document: Mapping[str, Any]) -> set[tuple[str, str]]:
    """(kind, name) of every Dataset, Model and job that a job's document names, valid or not."""
    spec = document.get("spec")
    workers = _inside(spec, "trainingWorkers")
    datasets = [_inside(each, "dataset", "name") for each in workers or ()]
    datasets.append(_inside(spec, "evaluation", "dataset", "name"))
    models = [
        _inside(spec, "aggregationWorker", "model", "name"),
        _inside(spec, "pretrainedModel", "name"),
        _inside(spec, "output", "model", "name"),
    ]
    sources = _inside(spec, "transfer", "from") or ()
    models += [_inside(source, "model") for source in sources]
    jobs = [_inside(source, "job") for source in sources]
    named = {("Dataset", name) for name in datasets} | {("Model", name) for name in models}
    named |= {(JOBS.kind, name) for name in jobs}
    return {(kind, name) for kind, name in named if isinstance(name, str)}


def _inside(value: Any, *path: str) -> Any:
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _checked(document: Mapping[str, Any], images: Images) -> FederatedLearningJob:
    """Read the job, with every problem there is."""
    problems: list[Problem] = []
    try:
        job: Any = read_job(document)
    except InvalidJobError as error:
        problems += error.problems
        job = error.rest
    too_large = size_problem(document)
    problems += [] if too_large is None else [too_large]
    if isinstance(job, FederatedLearningJob):
        problems += invalid_fields(job)
        problems += _template_problems(job)
    if problems:
        raise InvalidJobError(dict.fromkeys(problems))
    return with_defaults(with_images(job, images))


def _template_problems(job: FederatedLearningJob) -> Iterator[Problem]:
    """On a cluster a worker is an image; embedded it is not looked at."""
    for index, worker in enumerate(job.spec.training_workers):
        if not worker.template.image:
            where = f"spec.trainingWorkers[{index}].template.spec.containers[0].image"
            yield Problem(where, "got no image, expected one")


def _dataset_names(job: FederatedLearningJob) -> tuple[str, ...]:
    names = [client.dataset for client in clients_of(job)]
    if job.spec.evaluation is not None:
        names.append(job.spec.evaluation.dataset.name)
    return tuple(dict.fromkeys(names))


def _model_names(job: FederatedLearningJob) -> tuple[str, ...]:
    spec = job.spec
    references = (spec.aggregation_worker.model, spec.pretrained_model, spec.output.model)
    return tuple(dict.fromkeys(reference.name for reference in references if reference))


class _Search:
    """Looks objects up and remembers, by reason, what is not there or not usable."""

    def __init__(self, job: FederatedLearningJob, objects: Objects) -> None:
        self._job = job
        self._objects = objects
        self._missing: dict[str, list[str]] = {}

    def dataset(self, name: str) -> Dataset | None:
        found = self._read(DATASETS, name, words.REASON_DATASET_NOT_FOUND)
        return cast("Dataset | None", found)

    def model(self, name: str) -> Model | None:
        return cast("Model | None", self._read(MODELS, name, words.REASON_MODEL_NOT_FOUND))

    def secret(self, name: str) -> Secret | None:
        document = self._objects.get(SECRETS, self._job.metadata.namespace, name)
        if document is None:
            self._note(words.REASON_SECRET_NOT_FOUND, f"Secret {name!r}")
            return None
        try:
            secret = read_secret(document)
        except InvalidJobError as error:
            self._note("SecretInvalid", f"Secret {name!r}: {error}")
            return None
        if secret.lacking:
            lacking = " and no ".join(secret.lacking)
            self._note("SecretIncomplete", f"Secret {name!r} has no {lacking}")
            return None
        return secret

    def look_at_urls(self, datasets: Mapping[str, Dataset], models: Mapping[str, Model]) -> None:
        """Refuse urls that no pod can be made for, and workers on other nodes than their data."""
        every: tuple[tuple[str, Mapping[str, Dataset | Model]], ...] = (
            ("Dataset", datasets),
            ("Model", models),
        )
        for kind, objects in every:
            for name, each in objects.items():
                problem = url_problem(each.spec.url)
                if problem is not None:
                    self._note(f"{kind}Invalid", f"{kind} {name!r}: spec.url: {problem}")
        for mismatch in node_mismatches(self._job, datasets):
            self._note(words.REASON_NODE_MISMATCH, str(mismatch))

    def look_at_nodes(self, datasets: Mapping[str, Dataset]) -> None:
        nodes = self._objects.nodes()
        if nodes is None:
            return
        known: dict[Any, bool] = {}
        names = {node["metadata"]["name"] for node in nodes}
        for client, placement in placements_of(self._job, datasets).items():
            if placement.node_name is not None:
                if placement.node_name not in names:
                    self._note(
                        words.REASON_NODE_NOT_FOUND,
                        f"node {placement.node_name!r} (client {client!r})",
                    )
                continue
            selector = tuple(sorted(placement.node_selector.items()))
            if selector not in known:
                known[selector] = bool(matching(placement, nodes))
            if not known[selector]:
                wanted = ",".join(f"{label}={value}" for label, value in selector)
                self._note(words.REASON_NODE_NOT_FOUND, f"nodes {wanted} (client {client!r})")
        self._look_at_evaluation(datasets, nodes)

    def _look_at_evaluation(self, datasets: Mapping[str, Dataset], nodes: Sequence[Node]) -> None:
        """Its pod commits the round as well: it goes to its data's node, but never to an edge."""
        name = place_evaluation(self._job, datasets).node_name
        if name is None or name == self._job.spec.aggregation_worker.template.node_name:
            return
        found = [node for node in nodes if node["metadata"]["name"] == name]
        if not found:
            self._note(words.REASON_NODE_NOT_FOUND, f"node {name!r} (evaluation)")
        elif any(map(is_edge, found)):
            self._note(
                words.REASON_NODE_MISMATCH,
                f"spec.evaluation.dataset.name: got data on {name!r}, an edge, expected a node of the cloud, "
                "where evaluations run beside the aggregation, or an s3:// or https:// url",
            )

    def finding(self) -> Finding | None:
        """Everything that was noted, under the first reason."""
        if not self._missing:
            return None
        sentences = []
        for reason, all_of_it in self._missing.items():
            shown = ", ".join(all_of_it[:_SHOWN])
            rest = len(all_of_it) - _SHOWN
            more = f" and {rest} more" if rest > 0 else ""
            is_absent = reason.endswith("NotFound")
            where = f" in namespace {self._job.metadata.namespace!r}"
            where = "" if reason == words.REASON_NODE_NOT_FOUND else where
            sentences.append(f"not found{where}: {shown}{more}" if is_absent else shown + more)
        return Finding(next(iter(self._missing)), "; ".join(sentences))

    def _read(self, resource: Resource, name: str, reason: str) -> object | None:
        document = self._objects.get(resource, self._job.metadata.namespace, name)
        if document is None:
            self._note(reason, f"{resource.kind} {name!r}")
            return None
        try:
            return read_object(document)
        except InvalidJobError as error:
            self._note(f"{resource.kind}Invalid", f"{resource.kind} {name!r}: {error}")
            return None

    def _note(self, reason: str, what: str) -> None:
        self._missing.setdefault(reason, []).append(what)
