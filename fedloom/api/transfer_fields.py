"""What a job that learns from others has to say, and what it cannot have; and who waits for whom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from fedloom.api.job import FederatedLearningJob, JobSpec
from fedloom.api.places import is_remote
from fedloom.api.transfer import (
    KINDS,
    Transfer,
    TransferSource,
    learns_from_others,
    source_kind,
)
from fedloom.api.wording import entry
from fedloom.errors import Problem

EPOCHS = ("epochs", "localEpochs", "local_epochs")
"""Hyperparameters that say how often a script goes over its data in a round."""
_PATH = "spec.transfer"
_OF_A_KIND = {
    "version": ("registered_model",),
    "alias": ("registered_model",),
    "namespace": ("model", "job"),
    "start": ("job",),
    "credential_name": ("uri",),
}
_WRITTEN = {"registered_model": "registeredModel", "credential_name": "credentialName"}


def transfer_fields(spec: JobSpec, algorithm: str) -> Iterator[Problem]:
    """Find what is wrong with spec.transfer by itself and beside the other fields."""
    transfer = spec.transfer
    if transfer is None:
        return
    for index, source in enumerate(transfer.sources):
        yield from _source(source, entry(f"{_PATH}.from", index), transfer)
    yield from _mode(transfer)
    yield from _own_models(spec, transfer, algorithm)
    if transfer.probe == "heads":
        yield from _heads(spec, transfer)
    if learns_from_others(transfer) and effective_mode(transfer) == "auto":
        yield from _probe(spec, transfer)


def effective_mode(transfer: Transfer) -> str:
    """The mode of a job that learns from others."""
    return transfer.mode or "auto"


def _source(source: TransferSource, path: str, transfer: Transfer) -> Iterator[Problem]:
    kinds = [kind for kind in KINDS if getattr(source, kind) is not None]
    if len(kinds) != 1:
        got = " and ".join(_WRITTEN.get(kind, kind) for kind in kinds) or "none of them"
        ways = ", ".join(_WRITTEN.get(kind, kind) for kind in KINDS)
        yield Problem(path, f"got {got}, expected exactly one of {ways}")
        return
    for field, allowed in _OF_A_KIND.items():
        if getattr(source, field) and kinds[0] not in allowed:
            wanted = " or ".join(_WRITTEN.get(kind, kind) for kind in allowed)
            name = _WRITTEN.get(field, field)
            yield Problem(f"{path}.{name}", f"got it beside {kinds[0]}, expected it with {wanted}")
    if source.version is not None and source.alias is not None:
        yield Problem(f"{path}.alias", "got it beside version, expected one of the two")
    if source.uri is not None and "://" in source.uri and not is_remote(source.uri):
        message = f"got {source.uri!r}, expected s3://, http://, https:// or a path"
        yield Problem(f"{path}.uri", message)
    if source.registry is not None and effective_mode(transfer) != "auto":
        message = (
            f"got it with {transfer.mode}, expected mode auto: only a probe can tell them apart"
        )
        yield Problem(f"{path}.registry", message)


def _mode(transfer: Transfer) -> Iterator[Problem]:
    mode = transfer.mode
    if mode in ("warmStart", "body") and not transfer.sources:
        yield Problem(f"{_PATH}.from", f"got nothing, expected a source of {mode}")
    if mode in ("warmStart", "body") and len(transfer.sources) > 1:
        message = (
            f"got {len(transfer.sources)} sources, expected one of {mode}; auto finds out which of "
            "several is best"
        )
        yield Problem(f"{_PATH}.from", message)
    if transfer.freeze and mode != "body":
        message = "got true, expected it with mode body: all of a model cannot be frozen"
        yield Problem(f"{_PATH}.freeze", message)
    if (
        not learns_from_others(transfer)
        and transfer.anchor is None
        and transfer.personalize is None
    ):
        message = "got nothing in it, expected mode and from, an anchor, or personalize"
        yield Problem(_PATH, message)


def _own_models(spec: JobSpec, transfer: Transfer, algorithm: str) -> Iterator[Problem]:
    is_ditto = transfer.anchor is not None and transfer.anchor.kind == "ditto"
    if is_ditto and transfer.personalize is not None:
        message = "got it beside the anchor ditto, expected one of the two: both are own models"
        yield Problem(f"{_PATH}.personalize", message)
    if transfer.personalize == "body" and not transfer.head:
        message = "got nothing, expected the arrays that every client keeps: [output.*], say"
        yield Problem(f"{_PATH}.head", message)
    if (transfer.freeze or transfer.personalize == "body") and algorithm == "scaffold":
        field = "freeze" if transfer.freeze else "personalize"
        message = "got it with scaffold, whose control variates are of all arrays"
        yield Problem(f"{_PATH}.{field}", message)


def _heads(spec: JobSpec, transfer: Transfer) -> Iterator[Problem]:
    path = f"{_PATH}.probe"
    if not learns_from_others(transfer) or effective_mode(transfer) != "auto":
        yield Problem(path, "got 'heads', expected it with mode auto")
    if spec.privacy is not None:
        message = "got 'heads' with spec.privacy, expected losses: last layers go up without noise"
        yield Problem(path, message)
    if not any(name in spec.hyperparameters for name in EPOCHS):
        message = (
            f"got 'heads', but none of {', '.join(EPOCHS)} in spec.hyperparameters: last layers are "
            "trained for many times the epochs of a round"
        )
        yield Problem(path, message)


def _probe(spec: JobSpec, transfer: Transfer) -> Iterator[Problem]:
    privacy = spec.privacy
    if privacy is None:
        if transfer.bound is not None:
            message = "got it without spec.privacy.noiseMultiplier, expected both"
            yield Problem(f"{_PATH}.bound", message)
        return
    path = f"{_PATH}.mode"
    if privacy.secure_aggregation:
        message = (
            "got 'auto' with secureAggregation, expected warmStart or body: a probe tells the server "
            "each client's own losses"
        )
        yield Problem(path, message)
    if privacy.local is not None:
        message = (
            "got 'auto' with spec.privacy.local, expected warmStart or body: losses of a probe would "
            "leave the node without noise"
        )
        yield Problem(path, message)
    if privacy.noise_multiplier and transfer.bound is None:
        message = (
            "got nothing, expected the largest loss of a client that counts (5, say): a probe under "
            "noise needs a bound"
        )
        yield Problem(f"{_PATH}.bound", message)


def circular_sources(jobs: Sequence[FederatedLearningJob]) -> Iterator[tuple[int, Problem]]:
    """Find jobs that wait for each other in a circle; each by its index, with the whole circle."""
    sources = {key_of(job): sources_of(job) for job in jobs}
    for index, job in enumerate(jobs):
        circle = circle_through(key_of(job), sources)
        if circle:
            names = " -> ".join(f"{namespace}/{name}" for namespace, name in circle)
            message = f"got jobs that wait for each other: {names}; expected one that can begin"
            yield index, Problem(f"{_PATH}.from", message)


Key = tuple[str, str]


def key_of(job: FederatedLearningJob) -> Key:
    """Namespace and name."""
    return job.metadata.namespace, job.metadata.name


def sources_of(job: FederatedLearningJob) -> tuple[Key, ...]:
    """The jobs that a job learns from, by namespace and name."""
    transfer = job.spec.transfer
    if transfer is None:
        return ()
    return tuple(
        (source.namespace or job.metadata.namespace, source.job)
        for source in transfer.sources
        if source_kind(source) == "job" and source.job is not None
    )


def circle_through(start: Key, sources: Mapping[Key, Iterable[Key]]) -> tuple[Key, ...]:
    """Give a circle of jobs that leads from `start` back to it, both ends named; empty for none."""
    trail: list[tuple[Key, list[Key]]] = [(start, sorted(sources.get(start, ())))]
    seen = {start}
    while trail:
        waiting = trail[-1][1]
        if not waiting:
            trail.pop()
            continue
        following = waiting.pop(0)
        if following == start:
            return (*(key for key, _ in trail), start)
        if following not in seen:
            seen.add(following)
            trail.append((following, sorted(sources.get(following, ()))))
    return ()


def sources_expected(spec: JobSpec) -> Iterator[tuple[int, str]]:
    """Give (index, name) of the sources that are Models of the namespace and must be there."""
    transfer = spec.transfer
    if transfer is None or transfer.fallback == "scratch":
        return
    for index, source in enumerate(transfer.sources):
        if source.model is not None and source.namespace is None:
            yield index, source.model
