"""What the releases of a split model give away: measured on images of one's own, as an attacker would.

White-box: who has the extractor (it is sent to every edge, so anybody may) makes releases of any images
under the job's mechanism. Here both the public images that an attack is fitted on and the victims that
it is tried on are such; nothing of an edge is read, and the noise is a measurement's own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fedloom.algorithms.mistnet.inversion import InversionFigures, RidgeInversion
from fedloom.algorithms.mistnet.linkage import LinkageFigures, linkage
from fedloom.algorithms.mistnet.randomized_response import Noise, RandomizedResponse
from fedloom.errors import JobError, UpdateError
from fedloom.keys.noise import NoiseKey, Occasion
from fedloom.training.split import (
    BAD_EXAMPLE,
    Array,
    Example,
    ExtractedFeatures,
    SplitModel,
    extractor_digest,
)

if TYPE_CHECKING:
    from fedloom.training.context import Arrays


def noise_of(
    key: NoiseKey, extractor: str, shape: tuple[int, ...], mechanism: RandomizedResponse
) -> Callable[[Example], Noise]:
    """Give the noise of every example under a key, as `ExtractedFeatures` asks for it."""
    return lambda example: key.noise(Occasion(example.digest, extractor, shape, mechanism.flips))


class LeakageMeasurement:
    """Attacks on what a model would release under a mechanism.

    Args:
        model, extractor: what edges run.
        mechanism: of the job.
        seed: of the measurement's own noise. The same one gives the same figures; it is no secret,
            and no edge's noise comes from it.
    """

    def __init__(
        self, model: SplitModel, extractor: Arrays, mechanism: RandomizedResponse, seed: int
    ) -> None:
        self._model, self._extractor, self._mechanism = model, extractor, mechanism
        key = NoiseKey(hashlib.sha256(f"leakage measurement {seed}".encode()).digest())
        digest = extractor_digest(model, extractor)
        self._noise = noise_of(key, digest, model.shape, mechanism)

    def released(self, examples: Sequence[Example]) -> ExtractedFeatures:
        """Give the examples as a tail meets them: through the release's own path, its noise included."""
        return self._features(examples, self._mechanism)

    def link(self, victims: Sequence[Example]) -> LinkageFigures:
        """Link each victim's release to one of the victims. Holds their packed bits, not more.

        Raises JobError `InvalidParameter` where none of them can be used.
        """
        clean = self._features(victims, RandomizedResponse(float("inf")))
        noisy = self._features(victims, self._mechanism)
        pairs = [(noisy.packed(index), clean.packed(index)) for index in self._usable(victims)]
        if not pairs:
            raise JobError("InvalidParameter", "got no victim, expected an image or more")
        released, candidates = (np.stack(each) for each in zip(*pairs, strict=True))
        return linkage(released, candidates, np.arange(len(pairs)))

    def invert(self, public: Sequence[Example], victims: Sequence[Example]) -> InversionFigures:
        """Fit ridge inversion on public images and try it on victims, an image at a time.

        Raises JobError `InvalidParameter` where the features are no map of an image.
        """
        return RidgeInversion.fit(self._pairs(public)).measure(self._pairs(victims))

    def _pairs(self, examples: Sequence[Example]) -> Iterator[tuple[Array, Array]]:
        features = self._features(examples, self._mechanism)
        for index in self._usable(examples):
            yield features.features(index), self._model.load(examples[index])

    def _features(
        self, examples: Sequence[Example], mechanism: RandomizedResponse
    ) -> ExtractedFeatures:
        return ExtractedFeatures(self._model, self._extractor, examples, mechanism, self._noise)

    def _usable(self, examples: Sequence[Example]) -> Iterator[int]:
        for index, example in enumerate(examples):
            try:
                self._model.load(example)
            except UpdateError as error:
                if error.reason != BAD_EXAMPLE:
                    raise
            else:
                yield index
