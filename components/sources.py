"""The models of others that a job may begin with: fetched, checked, and said what is wrong with them.

A source is `name` and either `url` (perhaps with `digest`), or `key` and `digest` in the job's own store;
what else is there is its lineage, which is passed on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from components.initialize import fetched
from components.outcome import Arrays
from components.request import Place, Request
from fedloom.algorithms.layout import Layout, check_finite, flat_blocks, layout_of
from fedloom.algorithms.transfer.body import transferred
from fedloom.algorithms.transfer.head import head_of
from fedloom.algorithms.transfer.matching import Match, body_names, match
from fedloom.algorithms.transfer.signature import tensor_signature
from fedloom.artifacts.arrays import load_arrays
from fedloom.artifacts.artifact import digest_of_file
from fedloom.errors import (
    ArtifactError,
    ArtifactNotFoundError,
    CorruptArtifactError,
    JobError,
    UpdateError,
)

Source = Mapping[str, Any]
_SHOWN = 3
LINEAGE = ("uri", "digest", "job", "round", "run_id", "registered_model", "version")


@dataclass(frozen=True)
class Loaded:
    """A source that is here: its finite arrays, its file's digest, and how it fits the job's own model."""

    source: Source
    arrays: Arrays
    digest: str
    fit: Match

    @property
    def name(self) -> str:
        return str(self.source["name"])

    def lineage(self) -> dict[str, Any]:
        """Give what is told of the source: never a permission that is part of its url."""
        url = str(self.source.get("url", "")).partition("?")[0]
        found = {name: self.source[name] for name in LINEAGE if name in self.source}
        return {"name": self.name, "uri": url, **found, "digest": self.digest}


def unusable(source: Source, problem: JobError) -> dict[str, str]:
    """Say of a source why it cannot be used."""
    return {"name": str(source["name"]), "reason": problem.reason, "message": problem.message}


def load(
    request: Request, place: Place, number: int, own: Layout, *, any_shape: bool = False
) -> Loaded:
    """Bring the source of this number here and check its values.

    One whose tensor signature is known to be another's is not even fetched, unless `any_shape`.
    Raises JobError: SourceMismatch, SourceVanished, SourceDamaged, SourceNotFinite.
    """
    source = request.settings["sources"][number]
    if source.get("signature") not in (None, tensor_signature(own)) and not any_shape:
        raise JobError("SourceMismatch", "its names, shapes or dtypes are not those of this job")
    try:
        path = _file(request, replace(place, work=place.work / f"source-{number}"), source)
        digest = digest_of_file(path)
        if source.get("digest") not in (None, digest):
            raise CorruptArtifactError(f"got {digest}, expected {source['digest']}")
        arrays = load_arrays(path)[0]
    except (ArtifactNotFoundError, FileNotFoundError) as error:
        raise JobError("SourceVanished", f"there is no such file: {error}") from error
    except (ArtifactError, JobError, OSError) as error:
        raise JobError("SourceDamaged", f"it cannot be read: {error}") from error
    try:
        for tensor in sorted(arrays):
            check_finite(tensor, flat_blocks(arrays[tensor]))
    except UpdateError as error:
        raise JobError("SourceNotFinite", error.message) from error
    return Loaded(source, arrays, digest, match(own, layout_of(arrays)))


def whole_of(loaded: Loaded) -> Arrays:
    """Give all arrays of a source that fits in full. Raises JobError naming those that do not."""
    if loaded.fit.is_full:
        return loaded.arrays
    reason = "SourceDtypes" if _is_of_other_types(loaded.fit) else "SourceMismatch"
    some = ", ".join(loaded.fit.matched[:_SHOWN])
    hint = f"; mode body may take what fits ({some})" if loaded.fit.matched else ""
    message = f"it does not fit this job's model: {loaded.fit.problems()}{hint}"
    raise JobError(reason, message)


def body_of(loaded: Loaded, own: Arrays, patterns: Sequence[str]) -> tuple[Arrays, frozenset[str]]:
    """Give the job's own model with the source's body in it, and the names of what was taken.

    Raises JobError where no array before the last layer fits.
    """
    layout, other = layout_of(own), layout_of(loaded.arrays)
    taken = body_names(layout, other, head_of(layout, patterns, other))
    if not taken:
        message = f"no array before the last layer fits this job's model: {loaded.fit.problems()}"
        raise JobError("SourceMismatch", message)
    return transferred(own, loaded.arrays, taken), taken


def _is_of_other_types(fit: Match) -> bool:
    return bool(fit.retyped) and not (fit.missing or fit.unexpected or fit.reshaped)


def _file(request: Request, place: Place, source: Source) -> Path:
    if "key" in source:
        return place.store.materialize(source["key"], place.work, digest=source["digest"])
    settings = {**request.settings, "pretrained": source["url"]}
    return fetched(replace(request, settings=settings), place)
