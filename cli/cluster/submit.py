"""`fedloom submit`: documents are checked here, then applied there: what jobs name first, jobs last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cli.cluster.server import Server
from controller.cluster.answers import ConflictError, ForbiddenError
from controller.cluster.kubernetes import Cluster, Document
from controller.cluster.resources import DATASETS, JOBS, MODELS, SECRETS, Resource
from fedloom.api.dataset import Dataset
from fedloom.api.documents import Documents, read_documents
from fedloom.api.metadata import ObjectMeta
from fedloom.api.model import Model
from fedloom.api.reading import read_object, read_secret
from fedloom.api.secret import ACCESS_KEY, SECRET_KEY, Secret
from fedloom.api.size import size_problems
from fedloom.api.validation import validate
from fedloom.errors import InvalidJobError, JobError, Problem

_ORDER: tuple[Resource, ...] = (DATASETS, MODELS, SECRETS, JOBS)
_OF_THE_SERVER = (
    "creationTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
)


@dataclass(frozen=True)
class Applied:
    """What became of one document: `result` is created, configured or unchanged."""

    kind: str
    namespace: str
    name: str
    result: str


@dataclass(frozen=True)
class Way:
    """How to apply: only to try it, and whether to take fields over that others own."""

    is_dry: bool = False
    is_forced: bool = False


def read_submission(
    server: Cluster, files: Sequence[Path], namespace: str, asked: str | None
) -> Documents:
    """Read the files and check them as `fedloom validate` does.

    Documents that name no namespace go into `namespace`; `asked` is the one that the user insists on.
    What jobs refer to may also be in the cluster already. Raises InvalidJobError with every problem.
    """
    documents = placed(read_documents(files), namespace, asked)
    if not documents.originals:
        raise InvalidJobError([Problem("", "got no job, Dataset, Model or Secret, expected some")])
    if validate(documents):
        documents = _with_those_there(server, documents)
        problems = validate(documents)
        if problems:
            raise InvalidJobError(problems)
    too_large = size_problems(documents)
    if too_large:
        raise InvalidJobError(too_large)
    return documents


def submit(server: Server, documents: Documents, way: Way) -> Iterator[Applied]:
    """Apply every document, telling of each once it is done."""
    for resource in _ORDER:
        for (kind, namespace, name), original in documents.originals.items():
            if kind == resource.kind:
                result = _apply(server, resource, original, way)
                yield Applied(kind, namespace, name, result)


def placed(documents: Documents, namespace: str, asked: str | None) -> Documents:
    """Put every document into the namespace that it names, else into `namespace`."""
    originals, places, problems = {}, {}, []
    sources = {}
    for key, original in documents.originals.items():
        kind, _, name = key
        own = original["metadata"].get("namespace")
        if own and asked and own != asked:
            where = f"{documents.sources[key]} {kind}/{name} metadata.namespace"
            problems.append(Problem(where, f"got {own!r}, expected {asked!r}, as --namespace says"))
        places[key] = own or namespace
        originals[kind, places[key], name] = _in_namespace(original, places[key])
        sources[kind, places[key], name] = documents.sources[key]
    if problems:
        raise InvalidJobError(problems)

    def moved(nouns: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(_moved(noun, places) for noun in nouns)

    return replace(
        documents,
        jobs=moved(documents.jobs),
        datasets=moved(documents.datasets),
        models=moved(documents.models),
        secrets=moved(documents.secrets),
        sources=sources,
        originals=originals,
    )


def _apply(server: Server, resource: Resource, original: Mapping[str, Any], way: Way) -> str:
    meta = original["metadata"]
    try:
        before = server.get(resource, meta["namespace"], meta["name"])
    except ForbiddenError:
        before = {}  # who may write Secrets need not be allowed to read them
    try:
        after = server.apply(resource, original, is_dry=way.is_dry, is_forced=way.is_forced)
    except ConflictError as error:
        raise JobError(
            "Conflict",
            f"{resource.kind} {meta['namespace']}/{meta['name']}: {error}; --force-conflicts takes the "
            "fields over",
        ) from error
    if before is None:
        return "created"
    return "unchanged" if before and _content(before) == _content(after) else "configured"


def _content(document: Document) -> dict[str, Any]:
    meta = document["metadata"]
    kept = {key: value for key, value in document.items() if key not in ("metadata", "status")}
    return kept | {"labels": meta.get("labels"), "annotations": meta.get("annotations")}


def _in_namespace(original: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    meta = {key: value for key, value in original["metadata"].items() if key not in _OF_THE_SERVER}
    document = {key: value for key, value in original.items() if key != "status"}
    return {**document, "metadata": {**meta, "namespace": namespace}}


def _moved(noun: Any, places: Mapping[tuple[str, str, str], str]) -> Any:
    meta = noun.metadata
    place = places[type(noun).__name__, meta.namespace, meta.name]
    return replace(noun, metadata=replace(meta, namespace=place))


def _with_those_there(server: Cluster, documents: Documents) -> Documents:
    """Add what is in the cluster already, in the namespaces of the jobs."""
    datasets, models = list(documents.datasets), list(documents.models)
    for namespace in dict.fromkeys(job.metadata.namespace for job in documents.jobs):
        datasets += _there(server, DATASETS, namespace, Dataset)
        models += _there(server, MODELS, namespace, Model)
    secrets = list(documents.secrets)
    for job in documents.jobs:
        s3 = job.spec.transmitter.s3 if job.spec.transmitter else None
        if s3 is not None and s3.credential_name:
            secrets += _secret_there(server, job.metadata.namespace, s3.credential_name, secrets)
    return replace(
        documents, datasets=tuple(datasets), models=tuple(models), secrets=tuple(secrets)
    )


def _there(server: Cluster, resource: Resource, namespace: str, noun: type[Any]) -> Iterator[Any]:
    for document in server.list(resource, namespace)[0]:
        try:
            found = read_object(document)
        except InvalidJobError:
            continue  # the controller says so to whom it concerns
        if isinstance(found, noun):
            yield found


def _secret_there(
    server: Cluster, namespace: str, name: str, known: Sequence[Secret]
) -> list[Secret]:
    if any((each.metadata.namespace, each.metadata.name) == (namespace, name) for each in known):
        return []
    try:
        found = server.get(SECRETS, namespace, name)
    except ForbiddenError:  # the controller may look, and says what it sees
        return [Secret(ObjectMeta(name, namespace), {ACCESS_KEY: "?", SECRET_KEY: "?"})]
    if found is None:
        return []
    parts = ("apiVersion", "kind", "metadata", "data")
    return [read_secret({key: found[key] for key in parts if key in found})]
