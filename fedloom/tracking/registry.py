"""Find models in MLflow's registry that another job may begin with, best first; without importing MLflow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from fedloom.errors import CorruptArtifactError, FedloomError, JobError
from fedloom.tracking import vocabulary
from fedloom.tracking.signature import signature_of_file

MOST_LISTED = 1_000
"""So many versions are looked at, newest first."""
MOST_FOUND = 64
"""So many of them are given."""
MOST_OF_A_KIND = 5
"""So many of one tensor signature: no more of them are ever probed."""
MOST_DOWNLOADED = 5


@dataclass(frozen=True)
class Query:
    """What is looked for: a named version, or all that have these tags.

    Attributes:
        name: of a registered model; None for a search.
        version, alias: of that; neither: its newest version.
        tags: that a version must have.
        like: a pattern (%) of names.
        namespace: of the job that asks: other namespaces' models must allow it.
        own_uid: of that job, whose own models are no source.
    """

    namespace: str
    own_uid: str
    name: str | None = None
    version: str | None = None
    alias: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    like: str | None = None


class Registry(Protocol):
    """The registry of one MLflow, as `mlflow_registry.MlflowRegistry` gives it."""

    address: str

    def get(self, name: str, version: str | None, alias: str | None) -> Any | None:
        """The version of a registered model; None where there is none."""
        ...

    def list(self, tags: Mapping[str, str], like: str | None) -> Iterable[Any]:
        """Versions with these tags, newest first."""
        ...

    def fetch(self, version: Any, folder: Path) -> Path:
        """Bring the weights of a version here. Raises FedloomError where it has none."""
        ...


def version_tags(result: Mapping[str, Any], model_file: Path) -> dict[str, str]:
    """Give the tags by which others find a version: its tensors, its place, and what it came from."""
    tags = vocabulary.lineage_tags(result.get("lineage"))
    tags[vocabulary.URI_TAG] = vocabulary.without_credentials(result["model"]["uri"])
    with contextlib.suppress(CorruptArtifactError):
        tags[vocabulary.SIGNATURE_TAG] = signature_of_file(model_file)
    return tags


def find(registry: Registry, query: Query, folder: Path) -> dict[str, Any]:
    """Give `candidates`, best first, and `message` where there are none.

    Best: those that an alias points to, then the newest version of each model, then older ones. Raises
    TrackingUnavailableError.
    """
    if query.name is not None:
        version = registry.get(query.name, query.version, query.alias)
        found = [] if version is None else [version]
        absent = f"there is no such version of {query.name!r} at {registry.address}"
    else:
        found = list(_first(registry.list(query.tags, query.like), MOST_LISTED))
        absent = f"nothing fits at {registry.address}: {len(found)} versions were looked at"
    allowed = [each for each in found if _allows(each, query)]
    if len(allowed) < len(found) and not allowed:
        absent = f"none of {len(found)} versions allows namespace {query.namespace!r}"
    best = list(_best(allowed)) if query.name is None else allowed
    candidates = list(_candidates(registry, best, folder))
    return {"candidates": candidates, "message": "" if candidates else absent}


def _first(versions: Iterable[Any], most: int) -> Iterator[Any]:
    for number, version in enumerate(versions):
        if number == most:
            return
        yield version


def _allows(version: Any, query: Query) -> bool:
    if version.tags.get(vocabulary.UID_TAG) == query.own_uid:
        return False
    namespace = version.tags.get(vocabulary.NAMESPACE_TAG)
    allowed = {each.strip() for each in version.tags.get(vocabulary.ALLOWED_TAG, "").split(",")}
    return namespace in (None, query.namespace) or bool({"*", query.namespace} & allowed)


def _best(versions: list[Any]) -> Iterator[Any]:
    """Order them, each model's content once, and cut off what would never be looked at."""
    newest: dict[str, int] = {}
    for version in versions:
        newest[version.name] = max(newest.get(version.name, 0), int(version.version))

    def order(version: Any) -> tuple[bool, bool, int, str]:
        is_newest = int(version.version) == newest[version.name]
        return not version.aliases, not is_newest, -int(version.creation_timestamp), version.name

    seen: set[str] = set()
    kinds: dict[str, int] = {}
    for version in sorted(versions, key=order):
        digest = version.tags.get(vocabulary.DIGEST_TAG, f"{version.name}:{version.version}")
        kind = version.tags.get(vocabulary.SIGNATURE_TAG, "")
        if digest in seen or kinds.get(kind, 0) >= MOST_OF_A_KIND or len(seen) >= MOST_FOUND:
            continue
        seen.add(digest)
        kinds[kind] = kinds.get(kind, 0) + 1
        yield version


def _candidates(registry: Registry, versions: list[Any], folder: Path) -> Iterator[dict[str, Any]]:
    """Describe versions; the weights of those that lie nowhere else are fetched, of a few."""
    downloads = 0
    for version in versions:
        tags = version.tags
        found = {
            "name": f"registered/{version.name}:{version.version}",
            "registered_model": version.name,
            "version": str(version.version),
            "run_id": version.run_id or "",
        }
        if vocabulary.JOB_TAG in tags:
            found["job"] = f"{tags.get(vocabulary.NAMESPACE_TAG, '')}/{tags[vocabulary.JOB_TAG]}"
        for name, tag in (
            ("digest", vocabulary.DIGEST_TAG),
            ("signature", vocabulary.SIGNATURE_TAG),
        ):
            if tag in tags:
                found[name] = tags[tag]
        url = _place(tags.get(vocabulary.URI_TAG, ""))
        if not url and downloads < MOST_DOWNLOADED:
            downloads += 1
            try:
                place = folder / f"{downloads}"
                url = str(registry.fetch(version, place).absolute())
            except (FedloomError, OSError):
                continue
        if url:
            yield {**found, "url": url}


def _place(uri: str) -> str:
    """Give where the weights lie, unless they are gone from there."""
    if not uri.startswith("file://"):
        return uri if uri.startswith("s3://") else ""
    from urllib.parse import unquote, urlsplit

    path = Path(unquote(urlsplit(uri).path))
    return str(path) if path.is_file() else ""


def no_weights(version: Any) -> JobError:
    """Say that a version is no model of named arrays."""
    return JobError("NoWeights", f"{version.name}:{version.version}: got no safetensors file in it")
