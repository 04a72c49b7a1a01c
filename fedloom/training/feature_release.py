"""Release the features of an edge's images: extract, make bits, randomise, pack, write; on the edge.

Raw features exist for one image at a time, in memory. Before any bit is made, the edge's ledger holds
what it will cost; what is written under a name is randomised.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedloom.algorithms.mistnet.accounting import ReleaseCost
from fedloom.algorithms.mistnet.manifest import ReleaseManifest
from fedloom.algorithms.mistnet.randomized_response import RandomizedResponse, release_bits
from fedloom.artifacts.releases import ReleaseWriter
from fedloom.errors import UpdateError
from fedloom.keys.noise import NoiseKey, Occasion
from fedloom.training.noise_key import noise_key
from fedloom.training.release_ledger import Charge, ReleaseLedger, Spending
from fedloom.training.split import BAD_EXAMPLE, Example, SplitModel, extractor_digest

if TYPE_CHECKING:
    from fedloom.training.context import Arrays

_SHOWN = 8


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
        faults: why images were left out, by image; at most eight. They stay on the edge.
    """

    manifest: ReleaseManifest
    size_bytes: int
    digest: str
    spending: Spending
    faults: Mapping[str, str]


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
            that are none; `WrongFraction` for bits that the mechanism does not make.
    """
    key = noise_key(order.state)
    making = _Making(model, extractor, order.mechanism, key, extractor_digest(model, extractor))
    examples = model.examples(order.dataset)
    distinct = making.in_order(examples)
    if not distinct:
        raise UpdateError(
            "NoExamples", f"edge {order.edge!r}: got no image in {order.dataset!r}, expected some"
        )
    digests = (example.digest for _, example in distinct)
    spending = ReleaseLedger(order.state).charge(digests, making.charge, order.max_epsilon)
    with ReleaseWriter(target, model.shape, model.label_columns) as writer:
        size_bytes, faults = _write(making, distinct, writer)
        if not writer.images:
            raise UpdateError(
                "NoExamples",
                f"edge {order.edge!r}: none of {len(distinct)} images can be used: "
                f"{next(iter(faults.values()))}",
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
            dropped=len(faults),
            total_epsilon=spending.total_epsilon,
            mean_image_bytes=size_bytes / writer.images,
        )
        manifest.check()
        written = writer.finish(manifest)
    shown = dict(list(faults.items())[:_SHOWN])
    return Released(manifest, *written, spending, shown)


@dataclass(frozen=True)
class _Making:
    """How one release is made."""

    model: SplitModel
    extractor: Arrays
    mechanism: RandomizedResponse
    key: NoiseKey
    digest: str

    @property
    def charge(self) -> Charge:
        cost = ReleaseCost(math.prod(self.model.shape), self.mechanism)
        return Charge(
            self.digest, self.mechanism.flips, self.key.fingerprint, cost.bits, cost.image_epsilon
        )

    def in_order(self, examples: Sequence[Example]) -> list[tuple[bytes, Example]]:
        """Give the images by the names they get, each once: of copies the first."""
        distinct: dict[bytes, Example] = {}
        for example in examples:
            distinct.setdefault(self.key.identifier(self._occasion(example)), example)
        return sorted(distinct.items(), key=lambda item: item[0])

    def bits_of(self, example: Example) -> Any:
        """Give the released bits of an image, packed."""
        features = self.model.extract(self.extractor, self.model.load(example))
        if features.shape != self.model.shape:
            raise UpdateError(
                "ShapeMismatch", f"features: got {features.shape}, expected {self.model.shape}"
            )
        return release_bits(features, self.mechanism, self.key.noise(self._occasion(example)))

    def _occasion(self, example: Example) -> Occasion:
        return Occasion(example.digest, self.digest, self.model.shape, self.mechanism.flips)


def _write(
    making: _Making, distinct: list[tuple[bytes, Example]], writer: ReleaseWriter
) -> tuple[int, dict[str, str]]:
    """Write all images; give the bytes of their files, and what was wrong with those left out."""
    size_bytes, faults = 0, {}
    for identifier, example in distinct:
        try:
            labels, packed = making.model.labels(example), making.bits_of(example)
        except UpdateError as error:
            if error.reason != BAD_EXAMPLE:
                raise
            faults[example.source] = error.message
            continue
        writer.add(identifier, packed, labels)
        size_bytes += example.size_bytes
    return size_bytes, faults
