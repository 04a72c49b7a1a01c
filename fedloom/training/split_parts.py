"""The two parts of a split model as files: the extractor that goes down to edges, and the whole model.

The whole model holds the arrays of both parts under their own names, so that it is saved, published and
read like any other one. What an extractor's file says of itself is what releases are checked against.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedloom.algorithms.layout import check_update, layout_of
from fedloom.artifacts.arrays import dump_arrays, load_arrays
from fedloom.errors import ArtifactError, JobError, UpdateError
from fedloom.training.script import arrays_of
from fedloom.training.split import Array, Parts, SplitModel, extractor_digest

if TYPE_CHECKING:
    from fedloom.training.context import Arrays

_METADATA = "fedloom.extractor"
_NO_MODEL = "NoInitialModel"
SAFETENSORS = ".safetensors"


@dataclass(frozen=True)
class ExtractorFacts:
    """What an extractor's file says of itself.

    Attributes:
        digest: of all that decides about a feature, `sha256:<hex>`.
        shape: of an image's features.
        label_columns: numbers in a label.
        description: the model's own.
    """

    digest: str
    shape: tuple[int, ...]
    label_columns: int
    description: Mapping[str, Any]

    @classmethod
    def of(cls, model: SplitModel, extractor: Arrays) -> ExtractorFacts:
        digest = extractor_digest(model, extractor)
        return cls(digest, tuple(model.shape), model.label_columns, dict(model.description))

    @classmethod
    def read(cls, metadata: Mapping[str, str], place: str) -> ExtractorFacts:
        """Take it out of a file's metadata. Raises ArtifactError `NoExtractor`."""
        try:
            found = json.loads(metadata[_METADATA])
            shape = tuple(int(each) for each in found["shape"])
            columns = int(found["label_columns"])
            return cls(str(found["digest"]), shape, columns, dict(found["description"]))
        except (KeyError, TypeError, ValueError) as error:
            message = f"{place}: got no extractor, expected one of prepare-extractor: {error!r}"
            raise ArtifactError("NoExtractor", message) from error


def dump_extractor(model: SplitModel, extractor: Arrays) -> bytes:
    """Give the file of an extractor."""
    facts = asdict(ExtractorFacts.of(model, extractor))
    return dump_arrays(extractor, {_METADATA: json.dumps(facts, sort_keys=True)})


def load_extractor(path: Path) -> tuple[dict[str, Array], ExtractorFacts]:
    """Read the file of an extractor. Raises ArtifactError."""
    arrays, metadata = load_arrays(path)
    return arrays, ExtractorFacts.read(metadata, str(path))


def check_extractor(model: SplitModel, extractor: Arrays, facts: ExtractorFacts) -> None:
    """Refuse a model that makes other features of the same arrays than the one that prepared them.

    Raises UpdateError `OtherExtractor`: another size of images, say, in one edge's environment.
    """
    mine = ExtractorFacts.of(model, extractor)
    if mine == facts:
        return
    names = ("shape", "label_columns", "description")
    other = [name for name in names if getattr(mine, name) != getattr(facts, name)]
    said = "; ".join(f"{n}: got {getattr(mine, n)}, expected {getattr(facts, n)}" for n in other)
    raise UpdateError("OtherExtractor", f"this script makes other features: {said or 'its digest'}")


def first_parts(model: SplitModel, seed: int, pretrained: str) -> Parts:
    """Make the first model: of the pretrained file where there is one, else by `initialize`.

    A safetensors file holds the whole model by name. Any other one is for the model's own
    `from_pretrained(path) -> Parts`; what cannot be read is refused, never left aside.

    Raises JobError `NoInitialModel`.
    """
    name = type(model).__name__
    fresh = _checked(model.initialize(seed), f"{name}.initialize")
    if not pretrained:
        return fresh
    path = Path(pretrained)
    if not path.is_file():
        raise JobError(_NO_MODEL, f"the pretrained model {pretrained}: got no such file")
    reader = getattr(model, "from_pretrained", None)
    if path.suffix.lower() == SAFETENSORS:
        given = _split_like(fresh, path)
    elif reader is not None:
        given = _checked(reader(path), f"{name}.from_pretrained")
    else:
        raise JobError(
            _NO_MODEL,
            f"the pretrained model {path.name}: got a {path.suffix or 'nameless'} file, expected "
            f"{SAFETENSORS}, or a method {name}.from_pretrained(path) that reads it",
        )
    _check_like(fresh, given, path)
    return given


def joined(parts: Parts) -> dict[str, Array]:
    """Give the whole model."""
    return {**parts.extractor, **parts.tail}


def tail_of(whole: Arrays, extractor: Arrays) -> dict[str, Array]:
    """Give what of a whole model is not the extractor's."""
    return {name: np.asarray(array) for name, array in whole.items() if name not in extractor}


def _checked(parts: object, method: str) -> Parts:
    if not isinstance(parts, Parts):
        got = type(parts).__name__
        raise JobError(_NO_MODEL, f"{method} gave {got}, expected fedloom.training.split.Parts")
    found = Parts(arrays_of(parts.extractor), arrays_of(parts.tail))
    shared = sorted(found.extractor.keys() & found.tail.keys())
    if shared:
        message = f"{method}: got {shared[0]!r} in both parts, expected names of their own"
        raise JobError(_NO_MODEL, message)
    if not found.extractor or not found.tail:
        raise JobError(_NO_MODEL, f"{method}: got a part without arrays, expected some in each")
    return found


def _split_like(fresh: Parts, path: Path) -> Parts:
    try:
        arrays, _ = load_arrays(path)
    except ArtifactError as error:
        raise JobError(_NO_MODEL, f"the pretrained model {path.name}: {error}") from error
    extractor = {name: array for name, array in arrays.items() if name in fresh.extractor}
    return Parts(extractor, tail_of(arrays, fresh.extractor))


def _check_like(fresh: Parts, given: Parts, path: Path) -> None:
    for part in ("extractor", "tail"):
        try:
            check_update(layout_of(getattr(fresh, part)), getattr(given, part))
        except UpdateError as error:
            raise JobError(
                _NO_MODEL,
                f"the pretrained model {path.name} is of another layout, {part}: {error.message}",
            ) from error
