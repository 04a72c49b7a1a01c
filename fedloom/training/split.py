"""A model in two parts: an extractor that edges run, frozen, and a tail that the cloud trains.

Nothing here knows what the model is for: a detector's labels are boxes, a classifier's one number.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fedloom.algorithms.mistnet.randomized_response import (
    Noise,
    RandomizedResponse,
    debias,
    release_bits,
)
from fedloom.artifacts.arrays import dump_arrays
from fedloom.training.context import Evaluation, Round, Update

if TYPE_CHECKING:
    from fedloom.training.context import Arrays

Array = np.ndarray[Any, np.dtype[Any]]

TRAINING, TRIAL = "train", "val"
"""What images are wanted for: to be released, or to be tried on and attacked. Also names of splits."""
BAD_EXAMPLE = "BadExample"
"""The reason of an UpdateError by which a model says that one image cannot be used: it is left out."""


@dataclass(frozen=True)
class Example:
    """One image of a dataset, not yet decoded.

    Attributes:
        source: what `load` and `labels` find it by, say a path.
        digest: of its file's bytes, `sha256:<hex>`: equal images have equal ones.
        size_bytes: of its file.
        split: of the dataset that it is in; empty where the dataset names none.
    """

    source: str
    digest: str
    size_bytes: int
    split: str = ""


class FeatureSource(Protocol):
    """Features with their labels, made or read one at a time: what a tail learns from and is tried on."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> tuple[Array, Array]:
        """Give debiased features, float32 of the model's shape, and labels, (labels, columns)."""
        ...


@dataclass(frozen=True)
class Parts:
    """The arrays of a model by name, in two: only the first goes down to edges."""

    extractor: Arrays
    tail: Arrays


class SplitModel(Protocol):
    """What a user's class has to offer for MistNet.

    A script hands it to `fedloom.main`; it is made with a `fedloom.Client`, whose hyperparameters hold
    `cutLayer` where the job names one. Cuts that it cannot have it refuses there, by a ValueError with
    the reason. Where it has a method `from_pretrained(path) -> Parts`, that reads a pretrained file that is
    not a safetensors file of the whole model.

    Attributes:
        shape: of the features at the cut, as `extract` gives them; (channels, rows, columns) for maps.
        label_columns: numbers in a label: 5 for boxes (class, x, y, width, height), 1 for a class.
        description: plain JSON: whatever decides about a feature besides the extractor's arrays, such
            as the cut, the size of images, how they are resized. It goes into the extractor's digest,
            and noise is bound to that; what is not in here must not change between two releases.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def label_columns(self) -> int: ...

    @property
    def description(self) -> Mapping[str, Any]: ...

    def initialize(self, seed: int) -> Parts:
        """Make the first model, without data: public pretrained weights, or random ones."""
        ...

    def examples(self, dataset: str, purpose: str) -> Sequence[Example]:
        """Find the images of a dataset that are for a purpose; none of them is decoded.

        For `TRAINING` none that the dataset holds back from it may be among them: they are released.
        For `TRIAL` those that it holds back, or all where it names none.
        """
        ...

    def load(self, example: Example) -> Array:
        """Decode and resize an image, un-augmented: (height, width, colours), float32 in [0, 1].

        Raises UpdateError(BAD_EXAMPLE, ...) for one that cannot be used.
        """
        ...

    def labels(self, example: Example) -> Array:
        """Give its labels in the coordinates of `load`: (labels, label_columns), float32, finite.

        Raises UpdateError(BAD_EXAMPLE, ...) for what is no label.
        """
        ...

    def extract(self, extractor: Arrays, image: Array) -> Array:
        """Give the features of what `load` gave: floats of `shape`. Same input, same bits."""
        ...

    def train(self, tail: Arrays, features: FeatureSource, context: Round) -> Update:
        """Train the tail, shuffled by `context.seed`; give its new arrays."""
        ...

    def evaluate(self, tail: Arrays, features: FeatureSource) -> Evaluation:
        """Try the tail on features that came the way that they come when the model is used."""
        ...


class ExtractedFeatures:
    """Features as a deployed model sees them: extracted, made bits, randomised or not, debiased.

    A tail that learnt from bits is tried on bits: on the floats themselves it is far worse.

    Args:
        model: whose `load`, `labels` and `extract` are used.
        extractor: its arrays.
        examples: images, worked out as they are asked for.
        mechanism: of the releases; one without noise for clean bits.
        noise: gives the noise of an example; None only for a mechanism without.
    """

    def __init__(
        self,
        model: SplitModel,
        extractor: Arrays,
        examples: Sequence[Example],
        mechanism: RandomizedResponse,
        noise: Callable[[Example], Noise] | None = None,
    ) -> None:
        if noise is None and not mechanism.is_noiseless:
            raise ValueError("noise: got none, expected a source: the mechanism has noise")
        self._model, self._extractor, self._examples = model, extractor, examples
        self._mechanism, self._noise = mechanism, noise

    def __len__(self) -> int:
        return len(self._examples)

    def packed(self, index: int) -> Array:
        """Give the bits of an image, packed, as they would be released."""
        example = self._examples[index]
        features = self._model.extract(self._extractor, self._model.load(example))
        noise = self._noise(example) if self._noise is not None else bytes
        return release_bits(features, self._mechanism, noise)

    def features(self, index: int) -> Array:
        """Give debiased features, float32 of the model's shape."""
        return debias(self.packed(index), self._model.shape, self._mechanism)

    def read(self, index: int) -> tuple[Array, Array]:
        """Give debiased features, and the labels."""
        return self.features(index), self._model.labels(self._examples[index])


def extractor_digest(model: SplitModel, extractor: Arrays) -> str:
    """Give the digest of all that decides about a feature: `sha256:<hex>`.

    The arrays of the extractor, the shape at the cut and the model's description. Noise is bound to
    it, so that two releases never share noise unless they are the same.
    """
    words = {"description": json.dumps(model.description, sort_keys=True)}
    words["shape"] = json.dumps(list(model.shape))
    return "sha256:" + hashlib.sha256(dump_arrays(extractor, words)).hexdigest()
