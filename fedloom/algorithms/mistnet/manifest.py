"""What a release says about itself: how it was made, and what of it is in the clear. No key, no seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedloom.algorithms.mistnet.accounting import ReleaseCost
from fedloom.algorithms.mistnet.randomized_response import (
    MECHANISM,
    RandomizedResponse,
    check_fraction,
)
from fedloom.errors import JobError, UpdateError

INFINITE = "infinite"
"""In documents, for a number that JSON does not have."""
ALL = "all"
"""Of a dataset that names no split: every image of it was taken."""
_TAKEN = ("train", ALL)

_COUNTS = ("images", "ones", "labels", "label_columns", "duplicates", "dropped")


@dataclass(frozen=True)
class ReleaseManifest:
    """One edge's release.

    Attributes:
        edge: the client's name.
        extractor: digest of all that decides about a feature, `sha256:<hex>`.
        shape: of an image's features.
        mechanism: by which each bit was randomised.
        images: released, each once.
        ones: set bits in all of them.
        labels: boxes, or classes, that go with them **in plaintext**; `label_columns` numbers each.
        duplicates: further copies of released images, left out: they would be the same bits again.
        dropped: images that could not be read, left out.
        total_epsilon: the most that any of these images has spent so far, this release included.
        mean_image_bytes: of the images' files, for comparison; in the clear like the counts.
        taken: which images of the dataset: those of its split `train`, or `all`, where it names no split.
    """

    edge: str
    extractor: str
    shape: tuple[int, ...]
    mechanism: RandomizedResponse
    images: int
    ones: int
    labels: int
    label_columns: int
    duplicates: int
    dropped: int
    total_epsilon: float
    mean_image_bytes: float
    taken: str = ALL

    @property
    def bits(self) -> int:
        """Of one image: r."""
        return math.prod(self.shape)

    @property
    def cost(self) -> ReleaseCost:
        """Of one image, for this release alone."""
        return ReleaseCost(self.bits, self.mechanism)

    @property
    def fraction_of_ones(self) -> float:
        return self.ones / (self.images * self.bits)

    def check(self) -> None:
        """Refuse a release that its own mechanism cannot have made: UpdateError `WrongFraction`."""
        check_fraction(self.ones, self.images * self.bits, self.mechanism)

    def document(self) -> dict[str, Any]:
        """Give it as JSON has it: both conventions of epsilon, p, and what follows from them."""
        mechanism = self.mechanism
        return {
            "mechanism": MECHANISM,
            "edge": self.edge,
            "extractor_digest": self.extractor,
            "shape": list(self.shape),
            "r": self.bits,
            "epsilon": number_or_word(mechanism.asked),
            "convention": mechanism.convention,
            "p": mechanism.p,
            "eps_bit": number_or_word(mechanism.epsilon),
            "eps_bit_plato_sue": number_or_word(2 * mechanism.epsilon),
            "eps_image": number_or_word(self.cost.image_epsilon),
            "eps_total": number_or_word(self.total_epsilon),
            "images": self.images,
            "ones": self.ones,
            "fraction_of_ones": self.fraction_of_ones,
            "labels": {"form": "plaintext", "count": self.labels, "columns": self.label_columns},
            "duplicates": self.duplicates,
            "dropped": self.dropped,
            "taken": self.taken,
            "mean_image_bytes": self.mean_image_bytes,
        }

    @classmethod
    def from_document(cls, document: object, place: str) -> ReleaseManifest:
        """Read it back, from somebody who is not trusted; `place` is for messages.

        Raises:
            UpdateError: `WrongManifest`, where a field is missing, of another kind or out of range, or
                what follows from others is not what follows from them.
        """
        try:
            manifest = _read(document)
            _check_consequences(document, manifest.document())
        except (KeyError, TypeError, ValueError, OverflowError, JobError) as error:
            raise UpdateError(
                "WrongManifest", f"{place}: the manifest is not one of a release: {error!r}"
            ) from error
        return manifest


def number_or_word(value: float) -> float | str:
    """Give a number, or for infinity the word that stands for it in documents."""
    return INFINITE if math.isinf(value) else value


def _check_consequences(document: Any, expected: Mapping[str, Any]) -> None:
    """Refuse fields that do not follow from the others: nobody can claim more noise than there is."""
    for name, value in expected.items():
        if document[name] != value:
            raise ValueError(f"{name}: got {str(document[name])[:80]}, expected {value}")


def _read(document: object) -> ReleaseManifest:
    if not isinstance(document, Mapping):
        raise TypeError(f"got {type(document).__name__}, expected an object")
    known = {"images": document["images"], "ones": document["ones"]}
    known |= {name: document["labels"][key] for name, key in _LABELS.items()}
    known |= {name: document[name] for name in ("duplicates", "dropped")}
    for name in _COUNTS:
        _check_count(name, known[name], 1 if name == "images" else 0)
    shape = document["shape"]
    if not isinstance(shape, list) or not 1 <= len(shape) <= 8:
        raise ValueError(f"shape: got {str(shape)[:80]}, expected 1 to 8 lengths")
    for length in shape:
        _check_count("shape", length, 1)
    for name in ("edge", "extractor_digest", "convention", "mechanism"):
        if not isinstance(document[name], str) or not document[name]:
            raise ValueError(f"{name}: got {str(document[name])[:80]!r}, expected a word")
    if document["taken"] not in _TAKEN:
        raise ValueError(f"taken: got {str(document['taken'])[:80]!r}, expected one of {_TAKEN}")
    return ReleaseManifest(
        edge=document["edge"],
        extractor=document["extractor_digest"],
        shape=tuple(shape),
        mechanism=RandomizedResponse(_number(document, "epsilon"), document["convention"]),
        total_epsilon=_number(document, "eps_total"),
        mean_image_bytes=_number(document, "mean_image_bytes"),
        taken=document["taken"],
        **known,
    )


_LABELS = {"labels": "count", "label_columns": "columns"}


def _check_count(name: str, value: object, least: int) -> None:
    if type(value) is not int or not least <= value < 1 << 48:
        raise ValueError(f"{name}: got {str(value)[:80]}, expected a whole number from {least} up")


def _number(document: Mapping[str, Any], name: str) -> float:
    value = document[name]
    if value == INFINITE:
        return math.inf
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        raise ValueError(f"{name}: got {str(value)[:80]}, expected a number from 0 up")
    return float(value)
