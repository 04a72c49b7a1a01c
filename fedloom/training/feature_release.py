"""Release the features of an edge's images: extract, make bits, randomise, pack, write; on the edge.

Raw features exist for one image at a time, in memory. Before any bit is made, the edge's ledger holds
what it will cost; what is written under a name is randomised. Which image something is about stays in
the edge's journal.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fedloom.algorithms.mistnet.accounting import ReleaseCost
from fedloom.algorithms.mistnet.manifest import ALL, ReleaseManifest
from fedloom.algorithms.mistnet.randomized_response import RandomizedResponse, release_bits
from fedloom.artifacts.releases import ReleaseWriter
from fedloom.errors import JobError, UpdateError
from fedloom.keys.noise import NoiseKey, Occasion
from fedloom.training.journal import Journal
from fedloom.training.noise_key import noise_key
from fedloom.training.release_ledger import Charge, ReleaseLedger, Spending
from fedloom.training.split import (
    BAD_EXAMPLE,
    TRAINING,
    Array,
    Example,
    SplitModel,
    extractor_digest,
)

if TYPE_CHECKING:
    from fedloom.training.context import Arrays


@dataclass(frozen=True)
class ReleaseOrder:
    """What an edge is to release, and where it keeps what never leaves it.

    Attributes:
        edge: the client's name.
        dataset: where its images are.
        mechanism: by which each bit is randomised.
        max_epsilon: of an image, over all its releases ever; infinite for no bound.
        state: the folder of the edge's key and ledger. It has to outlive the job: with another key
            the same images are released anew, and without the ledger nobody knows.
    """

    edge: str
    dataset: str
    mechanism: RandomizedResponse
    max_epsilon: float
    state: Path


@dataclass(frozen=True)
class Released:
    """A release on the edge's disk, ready to be sent.

    Attributes:
        manifest: what it says about itself.
        size_bytes, digest: of the file.
        spending: what it did to the edge's ledger.
        faults: how many images were left out, by reason; which they are is in the edge's journal.
    """

    manifest: ReleaseManifest
    size_bytes: int
    digest: str
    spending: Spending
    faults: Mapping[str, int]


def release_features(
    model: SplitModel, extractor: Arrays, order: ReleaseOrder, target: str | os.PathLike[str]
) -> Released:
    """Make the release of an edge. The same again gives the same bytes, and costs nothing.

    Args:
        model: whose images, labels and features.
        extractor: the frozen arrays that came down.
        order: of whom, how, within which budget.
        target: where the file is to be.

    Raises:
        JobError: `PrivacyBudgetSpent`, `KeyExposed`, `LedgerUnusable`.
        UpdateError: `NoExamples` where no image is left; `NotFinite`, `ShapeMismatch` for features
            that are none; `WrongFraction` for bits that the mechanism does not make; by its own
            reason what the model raised, without its words (`Journal.discreet`).
    """
    key = noise_key(order.state)
    journal = Journal(order.state, order.edge)
    digest = extractor_digest(model, extractor)
    making = _Making(model, extractor, order.mechanism, key, digest, journal)
    with journal.discreet("finding the images"):
        examples = list(model.examples(order.dataset, TRAINING))
    distinct = making.in_order(examples)
    if not distinct:
        raise UpdateError(
            "NoExamples", f"edge {order.edge!r}: got no image in {order.dataset!r}, expected some"
        )
    digests = (examples[place].digest for _, place in distinct)
    spending = ReleaseLedger(order.state).charge(digests, making.charge, order.max_epsilon)
    with ReleaseWriter(target, model.shape, model.label_columns) as writer:
        size_bytes, faults = _write(making, distinct, examples, writer)
        if not writer.images:
            raise UpdateError(
                "NoExamples",
                f"edge {order.edge!r}: none of {len(distinct)} images can be used "
                f"({_told(faults)}); which and why is in {journal.name} on the edge",
            )
        manifest = ReleaseManifest(
            edge=order.edge,
            extractor=making.digest,
            shape=model.shape,
            mechanism=order.mechanism,
            images=writer.images,
            ones=writer.ones,
            labels=writer.labels,
            label_columns=model.label_columns,
            duplicates=len(examples) - len(distinct),
            dropped=faults.total(),
            taken=taken_of(examples),
            total_epsilon=spending.total_epsilon,
            mean_image_bytes=size_bytes / writer.images,
        )
        manifest.check()
        written = writer.finish(manifest)
    return Released(manifest, *written, spending, dict(faults))


@dataclass(frozen=True)
class _Making:
    """How one release is made."""

    model: SplitModel
    extractor: Arrays
    mechanism: RandomizedResponse
    key: NoiseKey
    digest: str
    journal: Journal

    @property
    def charge(self) -> Charge:
        cost = ReleaseCost(math.prod(self.model.shape), self.mechanism)
        return Charge(
            self.digest, self.mechanism.flips, self.key.fingerprint, cost.bits, cost.image_epsilon
        )

    def in_order(self, examples: Sequence[Example]) -> list[tuple[bytes, int]]:
        """Give the names that images get and their places, ascending, each once: of copies the first."""
        distinct: dict[bytes, int] = {}
        for place, example in enumerate(examples):
            distinct.setdefault(self.key.identifier(self._occasion(example)), place)
        return sorted(distinct.items())

    def made_of(self, example: Example, doing: str) -> tuple[Array, Array]:
        """Give the labels of an image and its released bits, packed."""
        with self.journal.discreet(doing):
            labels = self.model.labels(example)
            features = self.model.extract(self.extractor, self.model.load(example))
        if features.shape != self.model.shape:
            raise UpdateError(
                "ShapeMismatch", f"features: got {features.shape}, expected {self.model.shape}"
            )
        noise = self.key.noise(self._occasion(example))
        return labels, release_bits(features, self.mechanism, noise)

    def _occasion(self, example: Example) -> Occasion:
        return Occasion(example.digest, self.digest, self.model.shape, self.mechanism.flips)


def _write(
    making: _Making,
    distinct: list[tuple[bytes, int]],
    examples: Sequence[Example],
    writer: ReleaseWriter,
) -> tuple[int, Counter[str]]:
    """Write all images; give the bytes of their files, and why others were left out."""
    size_bytes, faults = 0, Counter[str]()
    for identifier, place in distinct:
        example, doing = examples[place], f"image {place}"
        try:
            labels, packed = making.made_of(example, doing)
        except UpdateError as error:
            if error.reason != BAD_EXAMPLE:
                making.journal.note(f"{doing}, {example.source}: {error.reason}: {error.message}")
                raise
            reason = _kind_of(error)
            making.journal.note(f"{doing}, {example.source}: {reason}: {error.message}")
            faults[reason] += 1
            continue
        writer.add(identifier, packed, labels)
        size_bytes += example.size_bytes
    return size_bytes, faults


def taken_of(examples: Sequence[Example]) -> str:
    """Say which of the dataset's images these are: of its split for training, or all there are."""
    return TRAINING if all(example.split == TRAINING for example in examples) else ALL


def _kind_of(error: UpdateError) -> str:
    """Give the reason of what was wrong with the image itself, where the model says it."""
    return error.__cause__.reason if isinstance(error.__cause__, JobError) else error.reason


def _told(faults: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(faults.items()))
